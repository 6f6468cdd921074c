"""What is tracked for the rollups of a dataset: tables, columns, names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.adapters.pg_rollup_ddl import functions, triggers, written_tables
from broker.adapters.pg_rollup_tracked import sources, tag
from broker.domain.model import Dataset, Dimension
from broker.domain.query import Condition, Grain, Operator
from broker.domain.rollup import Rollup, Storage, Tracking
from broker.domain.values import DataType
from tests.support.datasets import flights


def with_rollups(*rollups: Rollup, **dimensions: Dimension) -> Dataset:
    """The flights with rollups."""
    made = flights()
    return replace(made, rollups={r.name: r for r in rollups}, dimensions={**made.dimensions, **dimensions})


def rollup(name: str = "r", time: str = "time_hour", **fields: object) -> Rollup:
    """A rollup of the flights."""
    made = Rollup(name, "flights", time, ("origin",), ("flights",))
    return replace(made, **fields)  # type: ignore[arg-type] # fields of a rollup


def columns(dataset: Dataset) -> dict[str, tuple[str, ...] | None]:
    """Columns by alias."""
    (source,) = sources(dataset)
    return {table.alias: table.columns for table in source.tables}


def test_columns_are_those_of_everything_that_is_read() -> None:
    wanted = rollup(
        dimensions=("carrier_name",),
        measures=("late_flights", "seat_miles", "mean_delay"),
        filter=Condition("dest_altitude", Operator.GT, (100,)),
    )
    assert columns(with_rollups(wanted)) == {
        "flights": ("arr_delay", "carrier", "dest", "distance", "tailnum", "time_hour"),
        "airlines": ("carrier", "name"),
        "planes": ("seats", "tailnum"),
        "dest_airport": ("alt", "faa"),
    }


def test_first_and_last_read_what_decides_between_rows() -> None:
    found = columns(with_rollups(rollup(measures=("last_delay",), time="day")))
    assert found == {"flights": ("arr_delay", "day", "id", "month", "origin", "time_hour", "year")}


@pytest.mark.parametrize("sql", ["flights::text", "flights.*::text", "hour"])
def test_what_may_be_any_column_is_all_of_them(sql: str) -> None:
    odd = Dimension("odd", sql, DataType.STRING, ("flights",))
    assert columns(with_rollups(rollup(dimensions=("odd",)), odd=odd))["flights"] is None


def test_names_are_folded_as_postgresql_does() -> None:
    odd = Dimension("odd", 'flights.Origin || flights."Dest"', DataType.STRING, ("flights",))
    assert columns(with_rollups(rollup(dimensions=("odd",)), odd=odd))["flights"] == (
        "Dest",
        "origin",
        "time_hour",
    )


def test_each_time_dimension_is_a_source() -> None:
    found = sources(with_rollups(rollup(), rollup("s", "day"), rollup("t")))
    assert [(s.time.name, [r.name for r in s.rollups]) for s in found] == [
        ("time_hour", ["r", "t"]),
        ("day", ["s"]),
    ]
    assert len({s.tag for s in found} | {tag("other", "day")}) == 3


def test_marks_are_as_fine_as_the_finest_base() -> None:
    (coarse,) = sources(with_rollups(rollup(grains=(Grain.DAY,))))
    (fine,) = sources(with_rollups(rollup(grains=(Grain.DAY,)), rollup("m", grains=(Grain.MINUTE,))))
    assert (coarse.width, fine.width) == (900_000_000, 60_000_000)


def test_only_what_is_followed_by_triggers_is_written() -> None:
    append = rollup("a", dimensions=("dest_name",), tracking=Tracking.APPEND_ONLY)
    outside = rollup("x", dimensions=("carrier_name",), storage=Storage.EXTERNAL, tracking=Tracking.NONE)
    (source,) = sources(with_rollups(rollup(), append, outside))
    assert [table.alias for table in source.tables] == ["flights", "dest_airport"]
    assert [table.alias for table in source.written] == ["flights"]
    (alone,) = sources(with_rollups(outside))
    assert (alone.tables, alone.written) == ((), ())


def test_aliases_of_one_table_share_triggers() -> None:
    near = Dimension("near", "origin_airport.tz", DataType.INT64, ("origin_airport",))
    (source,) = sources(with_rollups(rollup(dimensions=("dest_name", "near")), near=near))
    own, airports = written_tables(source)
    assert (own.alias, airports.columns) == ("flights", ("faa", "name", "tz"))
    names = [name for table in (own, airports) for name in triggers(source, table, table.table)]
    assert len(set(names)) == 8
    assert all(len(name) <= 63 for name in (*names, *functions(source, 1)))
