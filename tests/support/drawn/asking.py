"""Asks from rollups and from the tables in one snapshot, and tells the answers apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.model import OracleModel

SIDES = ("require", "forbid")
TOGETHER = 30
"""Questions of one dashboard."""
UNSATISFIABLE = "POLICY_UNSATISFIABLE"
RELATIVE, ABSOLUTE = 1e-9, 1e-6
DISTINCT_ERROR = 0.15


@dataclass(slots=True)
class Tally:
    """What was compared, how rollups answered or why not, and what was wrong."""

    compared: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[q.Query, str]] = field(default_factory=list)

    def add(
        self,
        model: OracleModel,
        query: q.Query,
        rolled: Result | QueryBrokerError,
        live: Result | QueryBrokerError,
        *,
        together: bool = True,
    ) -> None:
        """One pair of answers, of one snapshot when they were asked for ``together``."""
        if isinstance(rolled, QueryBrokerError) and rolled.reason == UNSATISFIABLE:
            why = re.sub(r" \([^)]*\)", "", rolled.metadata.get("why_not", rolled.message))
            self.codes.update(re.findall(r"\b[A-Z]{2,}\b", why))
            self.codes["refused"] += 1
            return
        self.compared += 1
        if isinstance(rolled, QueryBrokerError) or isinstance(live, QueryBrokerError):
            reasons = [getattr(each, "reason", "answered") for each in (rolled, live)]
            self.refused[" / ".join(reasons)] += 1
            if reasons[0] != reasons[1]:
                self.wrong.append((query, f"rolled {reasons[0]}, live {reasons[1]}: {rolled} {live}"))
            return
        kind = a.AnswerKind.Name(rolled.status.kind).removeprefix("ANSWER_KIND_")
        self.kinds[kind if together else f"{kind} alone"] += 1
        found = difference(model, rolled, live, together=together)
        if found:
            parts = [(part.source_name, _shown(part.interval)) for part in rolled.status.parts]
            self.wrong.append((query, f"{found}\nfrom {parts}"))


async def compare(
    client: Client, model: OracleModel, queries: Sequence[q.Query], tally: Tally, *, alone: int = 6
) -> None:
    """Asks each question both ways, all in one snapshot for each dashboard; one of ``alone`` by itself as well.

    Nobody may write meanwhile: what is asked by itself is compared with the tables' answer in the dashboard.
    """
    for at in range(0, len(queries), TOGETHER):
        some = queries[at : at + TOGETHER]
        panels = {
            f"{i}/{side}": s.Panel(query=query, policy=policy(rollup=side))
            for i, query in enumerate(some)
            for side in SIDES
        }
        answered = await client.dashboard(panels, timeout=60)
        for i, query in enumerate(some):
            rolled, live = (answered.errors.get(f"{i}/{side}") or answered[f"{i}/{side}"] for side in SIDES)
            tally.add(model, query, rolled, live)
            if i % alone == 0 and isinstance(rolled, Result):
                for way in (_by_itself, _explored):
                    tally.add(model, query, await way(client, query), live, together=False)


async def _by_itself(client: Client, query: q.Query) -> Result | QueryBrokerError:
    try:
        return await client.ask(query, policy=policy(rollup="require"), timeout=60)
    except QueryBrokerError as error:
        return error


async def _explored(client: Client, query: q.Query) -> Result | QueryBrokerError:
    try:
        return await client.explore(query, policy=policy(rollup="auto"), timeout=60).collect()
    except QueryBrokerError as error:
        return error


def _shown(interval: a.TimeInterval) -> str:
    return f"{interval.start_time.ToJsonString()}..{interval.end_time.ToJsonString()}"


def difference(model: OracleModel, rolled: Result, live: Result, *, together: bool = True) -> str:
    """What is different between two answers, in words; also of their status when they are of one snapshot."""
    if together and (found := _of_status(rolled.status, live.status)):
        return found
    if rolled.schema != live.schema:
        return f"{rolled.schema} is not {live.schema}"
    left, right = rolled.rows(), live.rows()
    if len(left) != len(right):
        return f"{len(left)} rows from rollups, {len(right)} live:\n{left[:6]}\n{right[:6]}"
    slack = [_slack(model, name) for name in rolled.columns]
    for i, (one, other) in enumerate(zip(left, right, strict=True)):
        for name, allowed, mine, theirs in zip(rolled.columns, slack, one, other, strict=True):
            if not _alike(mine, theirs, allowed):
                return f"row {i}, {name}: {mine!r} from rollups, {theirs!r} live\n{one}\n{other}"
    return ""


def _of_status(rolled: a.AnswerStatus, live: a.AnswerStatus) -> str:
    if rolled.kind not in (a.ANSWER_KIND_ROLLUP, a.ANSWER_KIND_HYBRID) or live.kind != a.ANSWER_KIND_LIVE:
        return f"kinds {rolled.kind} and {live.kind}"
    if rolled.as_of != live.as_of:
        return f"as of {rolled.as_of.ToJsonString()} and {live.as_of.ToJsonString()}"
    if rolled.exactness != live.exactness or rolled.degraded or rolled.missing_intervals:
        return f"exactness {rolled.exactness} and {live.exactness}, degraded {rolled.degraded}"
    if list(rolled.bounds) != list(live.bounds):
        return f"bounds {rolled.bounds} and {live.bounds}"
    return ""


def _slack(model: OracleModel, column: str) -> tuple[float, float]:
    """How far two values of a column may be apart: relative, and absolute."""
    name, _, calculated = column.partition("__")
    if name not in model.measures:
        return 0.0, 0.0
    if any(leaf.kind == "APPROX_DISTINCT" for leaf in model.leaves([name])):
        return DISTINCT_ERROR, 1.0
    if calculated in ("change", "change_ratio", "share") and model.sketched(name):
        return 0.0, math.inf  # what is left when numbers that are nearly equal cancel
    return (RELATIVE, ABSOLUTE) if model.sketched(name) else (0.0, 0.0)


def _alike(one: object, other: object, slack: tuple[float, float]) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    if one == other:
        return True
    if isinstance(one, float | int) and isinstance(other, float | int) and slack != (0.0, 0.0):
        return math.isclose(one, other, rel_tol=slack[0], abs_tol=slack[1])
    return False
