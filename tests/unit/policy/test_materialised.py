"""Datasets that jobs made: what is carried for them, what they are, and what their rows tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from broker.aggregation import arrow, frames, kernels, wire
from broker.aggregation.schema import ROWS
from broker.domain.answer import AnswerKind, AnswerStatus, Exactness
from broker.domain.errors import BrokerError
from broker.domain.materialised import Materialised
from broker.domain.model import Dataset, MeasureKind
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    Calculations,
    CompareTo,
    Condition,
    Grain,
    Operator,
    Query,
    RollingWindow,
    TimeRange,
    TimeSelection,
)
from broker.domain.rollup import micros
from broker.domain.timegrid import build
from broker.domain.values import ResultFormat
from broker.policy.materialised import carried, dataset_of, unsuited, way
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

ADA = Principal("ada", "acme")
NOW = datetime(2024, 5, 1, tzinfo=UTC)
ZONE = "Europe/Berlin"
NOON = datetime(2024, 3, 29, 12, tzinfo=UTC)
BEGIN = datetime(2024, 3, 29, 23, tzinfo=UTC)  # a midnight in Berlin, two days before its clocks change
END = datetime(2024, 4, 3, 22, tzinfo=UTC)
KEPT = Query(
    "flights",
    ("flights", "worst", "mean_delay", "approx_p90", "late_share"),
    ("origin",),
    TimeSelection("time_hour", Grain.DAY, ZONE, AbsoluteRange(NOON, END)),
)


def made(query: Query, rows: Mapping[str, list[object]] | None = None) -> tuple[Dataset, bytes]:
    """The dataset of a query, and its rows as they are read from the result store."""
    whole, source = carried(query, flights())
    plan = resolve_query(whole, source, ADA, NOW)
    status = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOW)
    stored = Materialised("tenants/acme/jobs/1", "1.1", plan.columns, (), b"", 0, 0, status, NOW)
    columns = [
        pl.Series(c.name, (rows or {}).get(c.name, []), frames.dtype(c.type, c.scale)) for c in plan.columns
    ]
    data = arrow.ipc_stream(pl.DataFrame(columns), plan.columns)
    return dataset_of("kept", plan, stored), b"".join(wire.message(ROWS[ResultFormat.ARROW], [data]))


def days() -> list[datetime]:
    """The kept buckets: the first one begins before the range."""
    return list(build(AbsoluteRange(NOON, END), Grain.DAY, ZONE).starts)


def rows() -> dict[str, list[object]]:
    """A row for every day and each of two origins; the n-th of all counts n + 1 flights."""
    times = [day for day in days() for _ in range(2)]
    counts = list(range(1, len(times) + 1))
    return {
        "time_hour": [micros(at) for at in times],
        "origin": ["EWR", None] * len(days()),
        "flights": list(counts),
        "worst": [-n for n in counts],
        "mean_delay": [0.5] * len(times),
        "approx_p90": [float(n) for n in counts],
        "late_share": [0.25] * len(times),
        "arrived": list(counts),
        "mean_delay__sum": [2 * n for n in counts],
        "late_flights": [n % 2 for n in counts],
    }


def answer(query: Query) -> list[tuple[object, ...]]:
    """What the rows answer."""
    dataset, data = made(KEPT, rows())
    plan = resolve_query(query, dataset, ADA, NOW)
    found = way(plan, [data], build)
    return kernels.answer(found.results, found.finish).rows()


def asked(*measures: str, by: tuple[str, ...] = (), time: TimeSelection | None = None) -> Query:
    return Query("kept", measures, by, time)


def during(start: datetime, end: datetime, grain: Grain | None = None, zone: str = ZONE) -> TimeSelection:
    span: TimeRange = AbsoluteRange(start, end)
    return TimeSelection("", grain, zone, span)


def refused(query: Query) -> str:
    with pytest.raises(BrokerError) as caught:
        answer(query)
    (violation,) = caught.value.violations
    return violation.code


def test_averages_and_ratios_are_carried_by_what_they_are_made_from() -> None:
    query, source = carried(replace(KEPT, measures=("mean_delay", "miles_per_arrival")), flights())
    assert query.measures == ("mean_delay", "miles_per_arrival", "arrived", "mean_delay__sum", "distance")
    assert source.measures["mean_delay__sum"].kind is MeasureKind.SUM
    assert source.measures.keys() - flights().measures.keys() == {"mean_delay__sum"}, "arrived is its count"


def test_what_is_added_takes_no_name_that_means_another() -> None:
    source = flights()
    taken = replace(source.measures["worst"], name="mean_delay__sum")
    query, complete = carried(KEPT, replace(source, measures={**source.measures, taken.name: taken}))
    assert complete.measures[taken.name] == taken
    assert "mean_delay__sum_" in query.measures


def test_the_dataset_has_the_keys_and_values_of_the_rows() -> None:
    dataset, _ = made(KEPT)
    assert list(dataset.dimensions) == ["time_hour", "origin"]
    assert [d.name for d in dataset.dimensions.values() if d.time] == [dataset.default_time] == ["time_hour"]
    assert list(dataset.measures) == [*KEPT.measures, "arrived", "mean_delay__sum", "late_flights"]
    stored = dataset.materialised
    assert stored is not None
    assert dataset.measures.keys() - stored.mergeable == {"approx_p90"}
    assert (stored.bucket, stored.grain, stored.zone, stored.bounds) == (
        "time_hour", Grain.DAY, ZONE, AbsoluteRange(NOON, END),
    )  # fmt: skip
    assert dataset.version == "1.1"


def test_values_are_computed_again_where_they_can_be() -> None:
    count = 2 * len(days())
    total = count * (count + 1) // 2
    (row,) = answer(asked("flights", "worst", "mean_delay", "late_share", "arrived"))
    assert row == (total, -1, 2.0, (count // 2) / total, total)
    assert answer(asked("flights", by=("origin",))) == [
        ("EWR", (count // 2) ** 2),
        (None, total - (count // 2) ** 2),
    ]
    assert answer(replace(asked("flights"), filter=Condition("origin", Operator.IS_NULL))) == [
        (total - (count // 2) ** 2,)
    ]


def test_time_is_asked_by_whole_buckets_the_first_of_which_was_cut() -> None:
    grid = build(AbsoluteRange(NOON, END), Grain.MONTH, ZONE).starts
    march, april = answer(asked("flights", time=during(NOON, END, Grain.MONTH)))
    assert [march[0], april[0]] == [micros(at) for at in grid]
    counts = rows()["flights"]
    assert (march[1], april[1]) == (sum(range(1, 7)), sum(range(7, len(counts) + 1)))
    assert answer(asked("flights", time=during(BEGIN, END))) == [(sum(range(3, len(counts) + 1)),)]
    wider = during(NOON - timedelta(days=400), END + timedelta(days=400))
    assert answer(asked("flights", time=wider)) == answer(asked("flights"))
    condition = Condition("time_hour", Operator.LT, (BEGIN,))
    assert answer(replace(asked("flights"), filter=condition)) == [(3,)]


@pytest.mark.parametrize(
    "time",
    [
        during(NOON, END, Grain.HOUR),
        during(NOON, END, Grain.DAY, "UTC"),
        during(BEGIN + timedelta(hours=1), END),
        during(BEGIN, END - timedelta(minutes=1), Grain.DAY),
        during(NOON + timedelta(minutes=1), END),
    ],
    ids=["finer", "another zone", "begins within", "ends within", "begins within the first"],
)
def test_what_lies_within_a_bucket_is_not_known(time: TimeSelection) -> None:
    assert refused(asked("flights", time=time)) == "FINER_THAN_KEPT"


def test_a_comparison_with_a_range_that_is_cut_is_refused() -> None:
    compared = Calculations(compare_to=CompareTo(1, Grain.HOUR))
    assert (
        refused(replace(asked("flights", time=during(BEGIN, END)), calculations=compared))
        == "FINER_THAN_KEPT"
    )


def test_other_values_are_shown_where_every_row_stands_for_itself() -> None:
    whole = asked("approx_p90", by=("origin",), time=during(NOON, END, Grain.DAY))
    assert {row[2] for row in answer(whole)} == set(rows()["approx_p90"])
    one = replace(whole, dimensions=(), filter=Condition("origin", Operator.EQ, ("EWR",)))
    assert [row[1] for row in answer(one)] == rows()["approx_p90"][::2]
    day = replace(one, time=during(BEGIN, BEGIN + timedelta(days=1)))
    assert answer(day) == [(3.0,)]


@pytest.mark.parametrize(
    "query",
    [
        asked("approx_p90"),
        asked("approx_p90", by=("origin",)),
        asked("approx_p90", time=during(NOON, END, Grain.DAY)),
        asked("approx_p90", "flights", by=("origin",), time=during(NOON, END, Grain.MONTH)),
    ],
    ids=["alone", "without time", "without the dimension", "coarser"],
)
def test_and_refused_elsewhere(query: Query) -> None:
    assert refused(query) == "NOT_MERGEABLE"


def test_rows_of_several_files_and_rolling_windows_are_merged() -> None:
    dataset, data = made(KEPT, rows())
    rolling = Calculations(rolling=(RollingWindow("flights", 2),))
    query = replace(asked("flights", time=during(BEGIN, END, Grain.DAY)), calculations=rolling)
    found = way(resolve_query(query, dataset, ADA, NOW), [data, data], build)
    counts = [2 * (4 * i + 3) for i in range(len(days()))]
    answered = kernels.answer(found.results, found.finish).rows()
    assert [row[1] for row in answered] == counts[1:]
    assert [row[2] for row in answered] == [a + b for a, b in pairwise(counts)]


def test_calculations_and_gaps_are_left_for_the_questions() -> None:
    filled = replace(KEPT, time=replace(KEPT.time, gap_fill=True))  # type: ignore[type-var] # it has a time
    wrong = unsuited(replace(filled, calculations=Calculations(compare_to=CompareTo(1, Grain.DAY))))
    assert [violation.field for violation in wrong] == ["calculations", "time.gap_fill"]
    assert unsuited(KEPT) == []
