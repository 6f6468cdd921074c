"""Rollups answer as the tables do: a file of questions, each asked both ways in one snapshot, in three states.

The kinds of the answers are in the file as well, so that nobody overlooks that rollups have stopped answering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from broker.domain.measures import HLL_RELATIVE_ERROR, KLL_RANK_ERROR
from querybroker import Dashboard, Result
from querybroker.v1 import policy_pb2
from tests.support.pg import Connection, run_sync
from tests.system.rolled.place import Asking, Place, kind_of, read_questions

MODES = {
    "rolled": policy_pb2.ROLLUP_MODE_REQUIRE,
    "auto": policy_pb2.ROLLUP_MODE_AUTO,
    "live": policy_pb2.ROLLUP_MODE_FORBID,
}
TOGETHER = 12
"""Questions of one dashboard."""
DISTINCT, PERCENTILES = ("buyers",), {"median": 0.5, "p95": 0.95}
SURE = 2.0
"""The bounds of sketches hold for most values, not for all; twice as far off is practically never."""
CHANGES = """
INSERT INTO sales SELECT 20000 + i, timestamptz '2024-01-10T05:00:00Z' + i * interval '7 minutes', '2024-02-20',
  'alpha', 'west', 'globex', true, 2, 0.05, i, 12.34, i FROM generate_series(1, 120) AS i;
INSERT INTO sales VALUES
  (30000, '2024-02-12T23:59:59.999999Z', NULL, NULL, 'north', 'acme', NULL, NULL, NULL, 7, NULL, NULL),
  (30001, NULL, '2024-01-15', 'gamma', 'north', 'acme', NULL, 1, 0.10, 8, -0.01, 1e9);
UPDATE sales SET at = at + interval '23 days'
  WHERE at >= '2024-01-10T06:00:00Z' AND at < '2024-01-10T20:00:00Z' AND id % 3 = 0;
UPDATE sales SET at = NULL, due = due + 1 WHERE at >= '2024-03-05T00:00:00Z' AND at < '2024-03-05T05:30:00Z';
UPDATE sales SET at = '2024-03-05T12:00:00Z' WHERE at IS NULL AND id % 800 = 0;
DELETE FROM sales WHERE at >= '2024-02-12T10:01:00Z' AND at < '2024-02-12T19:20:00Z';
"""
STATES = ("built", "changed", "refreshed")


@pytest.fixture(scope="module")
def reached() -> list[str]:
    """The states that the data has been in."""
    return ["built"]


@pytest.fixture(scope="module", params=STATES)
def state(place: Place, reached: list[str], request: pytest.FixtureRequest) -> str:
    """The state that the data is in; each follows from the one before."""
    for name in STATES[len(reached) : STATES.index(request.param) + 1]:
        if name == "changed":
            run_sync(place.execute(CHANGES))
        else:
            run_sync(place.refreshed("sales", "families", "mine", "listed"))
        reached.append(name)
    assert reached[-1] == request.param, "the states cannot be gone through backwards"
    return reached[-1]


async def test_rollups_answer_as_the_tables_do(place: Place, state: str, beside: Connection) -> None:
    questions = list(read_questions("same.yaml").values())
    assert len(questions) >= 60
    wrong: list[str] = []
    for caller in dict.fromkeys(question.caller for question in questions):
        own = [question for question in questions if question.caller == caller]
        for at in range(0, len(own), TOGETHER):
            some = own[at : at + TOGETHER]
            answers = await ask(place, caller, some)
            assert not answers.errors, answers.errors
            assert len({answers[panel].status.as_of.ToNanoseconds() for panel in answers}) == 1
            for question in some:
                rolled, auto, live = (answers[f"{question.name}/{mode}"] for mode in MODES)
                problems = [
                    told_apart(rolled, live),
                    told_apart(auto, live),
                    otherwise(question, state, rolled),
                    *[await beyond_bounds(beside, question, each) for each in (rolled, live)],
                ]
                assert kind_of(live) == "live"
                wrong += [f"{question.name}: {problem}" for problem in problems if problem]
    assert not wrong, "\n".join(wrong)


async def ask(place: Place, caller: str, questions: Sequence[Asking]) -> Dashboard:
    """Each question with rollups required, allowed and forbidden, all in one snapshot."""
    panels = {
        f"{question.name}/{name}": question.panel(mode)
        for question in questions
        for name, mode in MODES.items()
    }
    async with place.client(caller) as client:
        return await client.dashboard(panels, timeout=60)


def told_apart(rolled: Result, live: Result) -> str:
    """What is different between two answers, in words; values of sketches are looked at elsewhere."""
    if rolled.schema != live.schema:
        return f"{rolled.schema} is not {live.schema}"
    exact = [i for i, name in enumerate(rolled.columns) if name not in (*DISTINCT, *PERCENTILES)]
    left, right = rolled.rows(), live.rows()
    if len(left) != len(right):
        return f"{len(left)} rows from rollups, {len(right)} live"
    for one, other in zip(left, right, strict=True):
        if not all(same(one[i], other[i]) for i in exact):
            return f"{kind_of(rolled)} {one}, live {other}"
    for name in set(DISTINCT) & set(rolled.columns):
        for one, other in zip(rolled.column(name), live.column(name), strict=True):
            if not math.isclose(one, other, rel_tol=2 * SURE * HLL_RELATIVE_ERROR):
                return f"{one} different {name} from rollups, {other} live"
    return ""


def same(one: object, other: object) -> bool:
    """Whether two values are equal; doubles but for the order of additions."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def otherwise(question: Asking, state: str, rolled: Result) -> str:
    """How the answer was not read as the file says."""
    kinds = question.said["kind"].split(", ")
    kind = kinds[-1] if state == "changed" else kinds[0]
    if kind_of(rolled) != kind:
        return f"is {kind_of(rolled)}, not {kind}, when {state}"
    sources = sorted({part.source_name for part in rolled.status.parts} - {"primary"})
    if state == "built" and sources != sorted(question.said.get("from", sources)):
        return f"is read from {sources}"
    return ""


async def beyond_bounds(connection: Connection, question: Asking, answer: Result) -> str:
    """Which value of a sketch is further from the rows of the source than its bound lets it be."""
    if "sql" not in question.said:
        return ""
    for row in answer:
        where = f"({question.said['sql']}) AND region = coalesce($1, region)"
        region = row.get("region")
        for name in set(DISTINCT) & row.keys():
            exact = await connection.fetchval(
                f"SELECT count(DISTINCT buyer) FROM sales WHERE {where}", region
            )
            if not math.isclose(row[name], exact, rel_tol=SURE * HLL_RELATIVE_ERROR):
                return f"{row[name]} different {name}, {exact} in truth"
        for name in PERCENTILES.keys() & row.keys():
            found = await connection.fetchrow(
                "SELECT count(*) FILTER (WHERE score < $2), count(*) FILTER (WHERE score <= $2), count(score)"
                f" FROM sales WHERE {where}", region, row[name],
            )  # fmt: skip
            assert found is not None
            below, upto, every = found
            if not every:
                return f"{name} of {region} is {row[name]}, of no rows"
            rank, slack = PERCENTILES[name], SURE * KLL_RANK_ERROR
            if not below / every - slack <= rank <= upto / every + slack:
                return f"{name} of {region} is {row[name]}, of rank {below / every} to {upto / every}"
    return ""
