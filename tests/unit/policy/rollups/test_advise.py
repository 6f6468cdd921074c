"""The obvious rollup is proposed, and what is predicted for it is what the rules say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from broker.domain.model import Dataset, RowPolicy
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator, Query, TimeSelection
from broker.domain.rollup import Rollup, Span, Tracking, micros
from broker.policy.resolve import resolve_query
from broker.policy.rollups.advise import Logged, advise
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.sizing import SourceFacts, occupied, size_of
from tests.support.datasets import flights

NOW = datetime(2013, 12, 31, tzinfo=UTC)
YEAR = AbsoluteRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
ADA = Principal("ada", "AA")
DISTINCT = {
    "time_hour": 7000.0, "carrier": 16.0, "origin": 3.0, "dest": 105.0, "tailnum": 4000.0, "month": 12.0,
    "dest_name": 100.0,
}  # fmt: skip
FACTS = SourceFacts(50e6, Span(micros(YEAR.start), micros(YEAR.end)), DISTINCT)


def asked(
    *dimensions: str,
    measures: tuple[str, ...] = ("flights",),
    grain: Grain | None = None,
    zone: str = "UTC",
    where: tuple[str, ...] = (),
    count: int = 100,
    seconds: float = 1.0,
    dataset: Dataset | None = None,
) -> Logged:
    """A question that took so many seconds each time."""
    conditions = [Condition(name, Operator.EQ, ("AA",)) for name in where]
    query = Query(
        "flights",
        measures,
        dimensions,
        TimeSelection("time_hour", grain, zone, YEAR),
        conditions[0] if conditions else None,
    )
    plan = resolve_query(query, dataset or flights(), ADA, NOW)
    return Logged(plan, count, count * seconds)


def shape(rollup: Rollup) -> tuple[tuple[str, ...], tuple[str, ...], Grain]:
    return rollup.dimensions, rollup.measures, rollup.base


def test_one_dashboard_gets_one_rollup_with_what_its_panels_share() -> None:
    advice = advise(
        flights(),
        [
            asked("carrier", grain=Grain.DAY, zone="Europe/Berlin"),
            asked("origin", where=("carrier",), measures=("flights", "distance")),
            asked(grain=Grain.HOUR, measures=("mean_delay", "late_share")),
        ],
        FACTS,
    )
    (proposal,) = advice.proposals
    assert shape(proposal.rollup) == (
        ("origin", "carrier"),
        ("flights", "late_flights", "distance", "mean_delay"),
        Grain.FIFTEEN_MINUTES,
    )
    assert proposal.rollup.name == "by_origin_carrier"
    assert proposal.rollup.zone == "Europe/Berlin"
    assert (advice.hit_rate, proposal.hit_count, advice.question_count) == (1.0, 300, 300)
    assert advice.left_seconds < 0.1 * advice.live_seconds
    assert proposal.saved_seconds == pytest.approx(advice.live_seconds - advice.left_seconds)


def test_a_day_is_enough_for_those_who_ask_by_days_of_one_zone() -> None:
    daily = [
        asked("carrier", grain=grain, zone="Europe/Berlin") for grain in (Grain.DAY, Grain.MONTH, Grain.WEEK)
    ]
    (proposal,) = advise(flights(), daily, FACTS).proposals
    assert shape(proposal.rollup) == (("carrier",), ("flights",), Grain.DAY)
    assert (proposal.rollup.zone, proposal.rollup.name) == ("Europe/Berlin", "by_carrier_daily")


def test_a_dimension_that_makes_it_as_large_as_the_source_gets_a_rollup_of_its_own_or_none() -> None:
    facts = replace(FACTS, rows=1e6)
    advice = advise(
        flights(),
        [asked("carrier", grain=Grain.HOUR), asked("tailnum", "dest", grain=Grain.HOUR, count=1)],
        facts,
    )
    assert [proposal.rollup.dimensions for proposal in advice.proposals] == [("carrier",)]
    assert advice.hit_rate == pytest.approx(100 / 101)


def test_what_no_rollup_can_answer_is_counted_as_missed() -> None:
    secret = RowPolicy("secret", "flights.carrier <> 'AA'", ("flights",))
    own = RowPolicy("own", "flights.carrier = {tenant}", ("flights",), terms=(("carrier", "tenant"),))
    logged = [
        asked("origin", measures=("planes",)),
        asked("origin", dataset=flights(policies=[secret])),
        asked("origin", dataset=flights(policies=[own])),
    ]
    advice = advise(flights(), logged, FACTS)
    (proposal,) = advice.proposals
    assert proposal.rollup.dimensions == ("origin", "carrier"), "the row policy needs the carrier"
    assert advice.hit_rate == pytest.approx(1 / 3)


def test_rollups_that_there_are_already_are_not_proposed_again() -> None:
    logged = [asked("carrier", grain=Grain.DAY)]
    (proposal,) = advise(flights(), logged, FACTS).proposals
    dataset = replace(flights(), rollups={"present": replace(proposal.rollup, name="present")})
    again = advise(dataset, logged, FACTS)
    assert (again.proposals, again.hit_rate) == ((), 1.0)


def test_sketches_are_kept_where_they_are_asked_for_only() -> None:
    wide = {**DISTINCT, "dest": 3000.0}
    logged = [
        asked("dest", grain=Grain.HOUR),
        asked(measures=("approx_planes",), grain=Grain.HOUR),
    ]
    found = {
        proposal.rollup.dimensions: proposal.rollup.measures
        for proposal in advise(flights(), logged, replace(FACTS, distinct=wide)).proposals
    }
    assert found == {("dest",): ("flights",), (): ("approx_planes",)}


def test_no_more_are_proposed_than_asked_for_and_the_best_comes_first() -> None:
    facts = replace(FACTS, distinct={**DISTINCT, "carrier": 5000.0, "origin": 5000.0, "dest": 5000.0})
    logged = [asked("carrier", seconds=9.0), asked("origin", seconds=5.0), asked("dest", seconds=2.0)]
    for most in (1, 2):
        advice = advise(flights(), logged, facts, most=most)
        assert [proposal.rollup.dimensions for proposal in advice.proposals] == [("carrier",), ("origin",)][
            :most
        ]
        assert advice.hit_count == 100 * most


def test_there_is_nothing_to_propose_for_questions_that_are_fast() -> None:
    advice = advise(flights(), [asked("carrier", seconds=0.0005)], FACTS)
    assert (advice.proposals, advice.hit_rate) == ((), 0.0)
    assert advise(flights(), [], FACTS).hit_rate == 0.0


def test_what_takes_too_many_bytes_is_not_proposed() -> None:
    logged = [
        asked("carrier"),
        asked("carrier", "dest", "origin", "month", "dest_name", measures=("approx_p90",)),
    ]
    small = advise(flights(), logged, FACTS, byte_limit=20e6)
    assert [proposal.rollup.dimensions for proposal in small.proposals] == [("carrier",)]
    assert sum(proposal.size.byte_count for proposal in small.proposals) <= 20e6


@pytest.mark.parametrize("seed", range(20))
def test_the_predicted_hit_rate_is_what_the_rules_say(seed: int) -> None:
    rng = Random(seed)
    names = ["carrier", "origin", "dest", "month", "dest_name", "tailnum"]
    logged = [
        asked(
            *rng.sample(names, rng.randint(0, 3)),
            measures=tuple(
                rng.sample(["flights", "distance", "mean_delay", "approx_planes", "median_delay"], 2)
            ),
            grain=rng.choice([None, Grain.HOUR, Grain.DAY, Grain.MONTH]),
            zone=rng.choice(["UTC", "Asia/Kathmandu", "America/New_York"]),
            where=tuple(rng.sample(["carrier", "origin"], rng.randint(0, 1))),
            count=rng.randint(1, 50),
            seconds=rng.uniform(5.0, 60.0),
        )
        for _ in range(30)
    ]
    advice = advise(flights(), logged, FACTS, most=3)
    assert 0 < len(advice.proposals) <= 3
    rollups: Mapping[str, Rollup] = {proposal.rollup.name: proposal.rollup for proposal in advice.proposals}
    index = Candidates(replace(flights(), rollups=rollups))
    allowed = sum(
        each.count for each in logged if all(index.check(scan).accepted for scan in each.plan.scans)
    )
    assert advice.hit_count == allowed


def test_rows_of_a_rollup_are_at_most_those_of_the_source() -> None:
    assert occupied(1, 100) == 1
    assert occupied(1e12, 100) == pytest.approx(100)
    assert occupied(100, 100) == pytest.approx(100 * (1 - 0.99**100))
    rollup = Rollup("r", "flights", "time_hour", ("carrier", "origin"), ("flights", "approx_p90"))
    size = size_of(flights(), rollup, FACTS)
    assert size.base_rows == pytest.approx(7000 * 16 * 3, rel=0.01)
    assert list(size.rows) == [Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH]
    assert size.rows[Grain.MONTH] == pytest.approx(12 * 48, rel=0.01)
    plain = size_of(flights(), replace(rollup, measures=("flights",)), FACTS)
    assert size.byte_count > 10 * plain.byte_count
    assert size.build_seconds > plain.build_seconds > 50


def test_costs_of_a_rollup_go_by_rows_measures_sketches_and_triggers() -> None:
    facts = SourceFacts(1e6, FACTS.extent, {"time_hour": 10.0, "carrier": 0.5})
    rollup = Rollup("r", "flights", "time_hour", ("carrier",), ("flights", "approx_p90"), (Grain.DAY,))
    size = size_of(flights(), rollup, facts)
    assert size.base_rows == pytest.approx(10.0), "a dimension has one value at the least"
    assert size.build_seconds == pytest.approx(1e6 * (1e-6 + 2 * 3e-7 + 3e-7) + 2e-6 * 10.0)
    assert size.write_seconds == pytest.approx(1e-4 + 1000 * 1e-6)
    assert size_of(flights(), replace(rollup, tracking=Tracking.APPEND_ONLY), facts).write_seconds == 0.0
    unknown = size_of(flights(), rollup, replace(facts, distinct={}))
    assert unknown.base_rows == pytest.approx(365 * 100, rel=0.01)
    assert size_of(flights(), rollup, SourceFacts(0.0, Span(0, 1))).base_rows == 1.0


@pytest.mark.parametrize(
    ("measure", "wanted"), [("flights", 8.0), ("approx_p90", 2600.0), ("approx_planes", 2088.0)]
)
def test_a_stored_row_is_as_large_as_its_keys_and_states(measure: str, wanted: float) -> None:
    facts = SourceFacts(1e6, FACTS.extent, {"time_hour": 10.0, "carrier": 1.0})
    rollup = Rollup("r", "flights", "time_hour", ("carrier",), (measure,), (Grain.DAY,))
    assert size_of(flights(), rollup, facts).byte_count == 10.0 * (8.0 + 4.0 + wanted)
