"""The oracle notices what is wrong: every kind of damage to a right answer is reported, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from querybroker.v1 import query_pb2 as q
from tests.oracle.cells import Anything, Between, Derived, Near
from tests.oracle.check import Drawing
from tests.oracle.compare import difference
from tests.oracle.decode import Actual
from tests.oracle.expected import ColumnSpec, Expected, SortKey
from tests.oracle.flights import all_models
from tests.oracle.generate import QuerySpace
from tests.oracle.smaller import smallest
from tests.oracle.zones import day_date, moment, zone_clock
from tests.support.flights_frames import FlightsFrames

MODEL = Path(__file__).parents[2] / "broker" / "demo" / "flights.yaml"
Rows = list[tuple[object, ...]]


def right(expected: Expected) -> Actual:
    """An answer as it should be, from the expected one."""
    names = [column.name for column in expected.columns]
    rows: Rows = []
    for row in expected.rows[: expected.row_count]:
        values: dict[str, object] = {}
        for name, cell in zip(names, row, strict=True):
            match cell:
                case Near(value, _):
                    values[name] = value
                case Between(low, _, _):
                    values[name] = low
                case Derived(formula):
                    derived = formula(values)
                    values[name] = derived.value if isinstance(derived, Near) else derived
                case Anything():
                    values[name] = None
                case _:
                    values[name] = cell
        rows.append(tuple(values.values()))
    return Actual(expected.columns, tuple(rows))


def changed(rows: Rows) -> Rows:
    """The last value of the first row is another one of its type."""
    value: Any = rows[0][-1]
    match value:
        case bool():
            other: object = not value
        case int() | float():
            other = value * 1.001 + 1 if isinstance(value, float) else value + 10_000
        case str():
            other = value + " "
        case None:
            other = 0
        case _:
            other = None
    return [(*rows[0][:-1], other), *rows[1:]]


DAMAGE: dict[str, Callable[[Rows], Rows]] = {
    "value": changed,
    "null": lambda rows: [(*rows[0][:-1], None), *rows[1:]],
    "order": lambda rows: [rows[1], rows[0], *rows[2:]],
    "missing": lambda rows: rows[:-1],
    "missing first": lambda rows: rows[1:],
    "twice": lambda rows: [rows[0], *rows],
    "type": lambda rows: [(*rows[0][:-1], str(rows[0][-1])), *rows[1:]],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_noticed(damage: Callable[[Rows], Rows], spaces: Sequence[QuerySpace], seed: int) -> None:
    tried = 0
    for question in Drawing(spaces, seed).take(60):
        answer = right(question.expected)
        assert difference(question.expected, answer) is None
        first = question.expected.rows[0][-1] if question.expected.rows else None
        if len(answer.rows) < 2 or first is None or isinstance(first, Between | Derived | Anything):
            continue
        damaged = tuple(damage(list(answer.rows)))
        tried += damaged != answer.rows
        assert (difference(question.expected, replace(answer, rows=damaged)) is None) == (
            damaged == answer.rows
        )
    assert tried > 15


def test_every_property_of_a_column_counts(spaces: Sequence[QuerySpace], seed: int) -> None:
    (question,) = Drawing(spaces, seed).take(1)
    answer = right(question.expected)
    last = answer.columns[-1]
    for other in (
        replace(last, name="other"),
        replace(last, type="DATE"),
        replace(last, role="DIMENSION"),
        replace(last, scale=9),
        replace(last, zone="UTC"),
        replace(last, unit="other"),
    ):
        columns = (*answer.columns[:-1], other)
        assert difference(question.expected, replace(answer, columns=columns)) is not None


def ranked(limit: int, *values: tuple[str, float]) -> Expected:
    """Names by a double, known up to 1e-6."""
    columns = (ColumnSpec("name", "STRING", "DIMENSION"), ColumnSpec("x", "DOUBLE", "MEASURE"))
    rows = tuple((name, Near(value, 1e-6)) for name, value in values)
    return Expected(columns, (0,), (SortKey(1), SortKey(0)), rows, limit)


def test_rows_whose_keys_are_nearly_equal_may_change_places_and_one_may_be_cut_off_for_the_other() -> None:
    expected = ranked(2, ("a", 1.0), ("b", 2.0), ("c", 2.0 + 1e-7))
    rows: list[Rows] = [
        [("a", 1.0), ("b", 2.0)],
        [("a", 1.0), ("c", 2.0)],
        [("a", 1.0), ("c", 2.0 + 1e-7)],
    ]
    for right_rows in rows:
        assert difference(expected, Actual(expected.columns, tuple(right_rows))) is None
    whole = replace(expected, limit=0)
    assert difference(whole, Actual(expected.columns, (("a", 1.0), ("c", 2.0), ("b", 2.0 + 1e-8)))) is None
    wrong: list[Rows] = [
        [("b", 2.0), ("c", 2.0)],
        [("b", 2.0), ("a", 1.0)],
        [("c", 2.0), ("b", 2.0)],
        [("a", 1.0), ("c", 2.1)],
    ]
    for wrong_rows in wrong:
        assert difference(expected, Actual(expected.columns, tuple(wrong_rows))) is not None


async def test_a_failing_query_is_made_small() -> None:
    text = """dataset: "flights" measures: "flights" measures: "miles" dimensions: "carrier" dimensions: "origin"
      limit: 7 order { member: "miles" } calculations {
        shares { measure: "miles" } top_n { dimension: "carrier" by: "flights" } }
      filter { not_filter { all_of {
        filters { condition { member: "carrier" operator: FILTER_OPERATOR_IN values { string_value: "AA" }
          values { string_value: "UA" } } }
        filters { condition { member: "hour" operator: FILTER_OPERATOR_LT values { int64_value: 9 } } } } } }"""

    async def fails(query: q.Query) -> str | None:
        return "wrong" if "miles" in query.measures and 'string_value: "UA"' in str(query.filter) else None

    query, wrong = await smallest(text_format.Parse(text, q.Query()), "wrong", fails)
    small = """dataset: "flights" measures: "miles"
      filter { condition { member: "carrier" operator: FILTER_OPERATOR_IN values { string_value: "UA" } } }"""
    assert query == text_format.Parse(small, q.Query())
    assert wrong == "wrong"


def test_clocks_of_the_nasty_zones() -> None:
    def local(zone: str, *grains: str) -> list[str]:
        clock = zone_clock(zone)
        start = clock.first_instant(day)
        buckets = clock.buckets(start, clock.first_instant(day + 1), grains[0])
        return [f"{moment(clock.local(bucket)):%H:%M}" for bucket in buckets]

    day = (datetime(2013, 4, 7, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert day_date(day).isoformat() == "2013-04-07"
    assert local("Australia/Lord_Howe", "HOUR")[:5] == ["00:00", "01:00", "01:30", "02:00", "03:00"]
    assert local("Pacific/Chatham", "HOUR")[1:6] == ["01:00", "02:00", "03:00", "02:45", "03:00"]
    day += 196
    assert local("America/Sao_Paulo", "HOUR")[:2] == ["01:00", "02:00"]
    assert len(local("America/Sao_Paulo", "MINUTE")) == 23 * 60


def test_the_datasets_are_those_of_the_demonstration(flights_frames: FlightsFrames) -> None:
    datasets = yaml.safe_load(MODEL.read_text("utf-8"))["datasets"]
    found: dict[str, dict[str, set[str]]] = {}
    for model in all_models(flights_frames):
        names = found.setdefault(model.dataset, {"dimensions": set(), "measures": set()})
        names["dimensions"] |= {f"{d.name}: {d.type}" for d in model.dimensions.values()}
        names["measures"] |= {f"{m.name}: {m.kind} {m.unit}" for m in model.measures.values()}
    declared = {
        name: {
            "dimensions": {f"{n}: {_of(d, 'type').upper()}" for n, d in dataset["dimensions"].items()},
            "measures": {
                f"{n}: {_of(m, 'kind').upper()} {_of(m, 'unit', '')}" for n, m in dataset["measures"].items()
            },
        }
        for name, dataset in datasets.items()
    }
    assert found == declared


def _of(value: object, key: str, default: str | None = None) -> str:
    """A property, of which the first may stand for the whole mapping."""
    if isinstance(value, dict):
        return str(value.get(key, default))
    return str(value) if default is None else default
