"""What breaks first when traffic doubles: loads made so that one part must give out before the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from broker.domain.pool import PoolLimits, PoolName, TenantLimits
from broker.policy.admission.events import Configuration
from broker.policy.admission.record import LogError
from broker.simulation import double
from broker.simulation.double import EVERYBODY, Outlook, Row, first_broken
from broker.simulation.replay import load
from broker.simulation.scenario import Database, Population, Scenario, Work
from broker.simulation.watch import Part
from tests.support.recordings import record

DASHBOARD, EXPLORATION = PoolName.DASHBOARD, PoolName.EXPLORATION
LOADS = (1.0, 1.5, 2.0, 3.0)


def limits(**more: float) -> PoolLimits:
    base = PoolLimits(in_flight=1000, queue=1000, connections=1, workers=1, wait_fraction=0.25)
    return replace(base, **more)  # type: ignore[arg-type] # names and types of the fields


def scenario(*populations: Population, slots: float = 16.0, memory: int = 0, **pools: PoolLimits) -> Scenario:
    named = {PoolName(name): value for name, value in pools.items()}
    database = Database(slots=slots, pools=tuple(named), memory=memory)
    return Scenario("recorded", populations, seconds=60.0, warmup=0.0, databases=(database,), pools=named)


def outlook(
    path: Path,
    recorded: Scenario,
    configuration: Configuration | None = None,
    loads: Sequence[float] = LOADS,
) -> Outlook:
    record(path, recorded, seed=1)
    return double.run(path, configuration, loads=loads)


def people(load: float, pool: PoolName = EXPLORATION, **more: object) -> Population:
    given = {"work": Work(0.2), "timeout": 4.0, **more}
    return Population(pool.value, pool=pool, load=load, **given)  # type: ignore[arg-type] # names and types of the fields


def test_seats_give_out_when_the_database_is_full(tmp_path: Path) -> None:
    recorded = scenario(people(0.45, tenants=2), exploration=limits())
    answer = outlook(tmp_path / "log", recorded, loads=(1.0, 1.5, 3.0))

    assert answer.first is not None
    assert (answer.first.load, answer.first.pool, answer.first.part) == (3.0, EXPLORATION, Part.SEATS)
    assert answer.sentence.startswith("At 3 times the traffic the pool 'exploration' breaks first: ")
    assert "for want of seats" in answer.sentence
    assert "hit hardest is the tenant 'exploration-" in answer.sentence
    assert [use.busy for use in answer.uses] == pytest.approx([0.45, 0.675, 1.0], abs=0.08)


def test_nothing_breaks_where_there_is_room(tmp_path: Path) -> None:
    answer = outlook(tmp_path / "log", scenario(people(0.2), exploration=limits()))

    assert answer.first is None
    assert answer.sentence.startswith(
        "Nothing breaks up to 3 times the recorded traffic; the database 'database' is"
    )


def test_memory_gives_out_before_seats(tmp_path: Path) -> None:
    """Sixteen seats, and memory for five queries at once."""
    wide = people(0.15, work=Work(0.2, memory=100))
    answer = outlook(tmp_path / "log", scenario(wide, memory=640, exploration=limits()))

    assert answer.first is not None
    assert answer.first.part is Part.MEMORY
    assert "the bound on its memory" in answer.sentence


def test_a_tenants_quota_gives_out_for_that_tenant_alone(tmp_path: Path) -> None:
    recorded = scenario(people(0.15, tenants=3, demands=(1, 1, 4)), exploration=limits())
    rate = 12.0  # of about 8 requests a second of the third tenant, 5 of the others together
    recorded = replace(recorded, tenants={"exploration-2": TenantLimits(rate=rate, burst=20.0)})

    answer = outlook(tmp_path / "log", recorded)

    assert answer.first is not None
    assert (answer.first.tenant, answer.first.part) == ("exploration-2", Part.TENANT_QUOTA)
    assert "the tenant 'exploration-2' in the pool 'exploration' breaks first" in answer.sentence
    assert "the bound on its tenant's quota" in answer.sentence
    assert {row.tenant for row in answer.rows if row.broken} == {EVERYBODY, "exploration-2"}


@pytest.mark.parametrize(
    ("bound", "part"),
    [
        ({"in_flight": 1}, Part.IN_FLIGHT),
        ({"queue": 1}, Part.QUEUE),
        ({"tenant_queue": 1}, Part.TENANT_QUEUE),
    ],
)
def test_bounds_of_a_pool_give_out(tmp_path: Path, bound: dict[str, float], part: Part) -> None:
    """The database has room; what is bounded is the pool."""
    bursts = people(0.0, work=Work(0.2, sigma=0.1), timeout=20.0)
    bursts = replace(bursts, rate=3.0, period=2.0)  # six at a time
    slots = 64.0 if part is Part.IN_FLIGHT else 4.0
    answer = outlook(tmp_path / "log", scenario(bursts, slots=slots, exploration=limits(**bound)))

    assert answer.first is not None
    assert answer.first.part is part


def test_the_pool_that_has_little_breaks_while_the_other_holds(tmp_path: Path) -> None:
    """Explorers may use what they own and nothing else: the database is not full, and their share is."""
    recorded = scenario(
        people(0.2, DASHBOARD),
        people(0.15, EXPLORATION),
        dashboard=limits(share=0.8, lendable=0.0),
        exploration=limits(share=0.2, borrow=1.0),
    )

    answer = outlook(tmp_path / "log", recorded)

    assert answer.first is not None
    assert (answer.first.pool, answer.first.part) == (EXPLORATION, Part.SHARE)
    assert "what other pools own is not lent to it" in answer.sentence
    assert not any(row.broken for row in answer.rows if row.pool is DASHBOARD and row.load < 3.0)


def test_deadlines_that_are_shorter_than_the_queries_break_already(tmp_path: Path) -> None:
    hasty = people(0.2, work=Work(1.0), timeout=0.7)
    answer = outlook(tmp_path / "log", scenario(hasty, exploration=limits()))

    assert answer.first is not None
    assert (answer.first.load, answer.first.part) == (1.0, Part.DEADLINE)
    assert answer.sentence.startswith("Already at the recorded traffic ")
    assert "its deadlines are shorter than its queries" in answer.sentence


def test_another_configuration_may_hold(tmp_path: Path) -> None:
    recorded = scenario(people(0.15), exploration=limits(in_flight=3))
    tight = outlook(tmp_path / "log", recorded)
    configuration = load(tmp_path / "log").configuration

    roomy = outlook(tmp_path / "log", recorded, replace(configuration, pools={EXPLORATION: limits()}))

    assert tight.first is not None
    assert tight.first.part is Part.IN_FLIGHT
    assert roomy.first is None


def test_the_same_log_and_seed_give_the_same_answer(tmp_path: Path) -> None:
    recorded = scenario(people(0.6, tenants=2), exploration=limits())
    record(tmp_path / "log", replace(recorded, seconds=20.0), seed=1)

    assert double.run(tmp_path / "log", seed=3) == double.run(tmp_path / "log", seed=3)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("time,tenant\n")

    with pytest.raises(LogError, match="not a decision log"):
        double.run(tmp_path / "log")


def row(load: float, tenant: str, refused: float, pool: PoolName = DASHBOARD) -> Row:
    broken = ("refusals",) if refused > 0.01 else ()
    return Row(load, pool, tenant, 100, refused, 0.0, 0.0, 0.0, Part.SEATS, broken)


def test_first_is_what_breaks_under_the_least_load() -> None:
    assert first_broken([]) is None
    assert first_broken([row(1.0, "a", 0.0), row(3.0, "a", math.inf)]) == row(3.0, "a", math.inf)
    worst = row(2.0, "b", 0.4, EXPLORATION)
    assert first_broken([row(2.0, "a", 0.3), worst, row(3.0, "a", 0.9)]) == worst


def test_a_pool_is_named_when_several_of_its_tenants_break_and_a_tenant_when_it_is_alone() -> None:
    whole = row(2.0, EVERYBODY, 0.2)

    assert first_broken([whole, row(2.0, "a", 0.3), row(2.0, "b", 0.1)]) == whole
    assert first_broken([whole, row(2.0, "a", 0.3), row(2.0, "b", 0.0)]) == row(2.0, "a", 0.3)
