"""The twin on the event loop: byte for byte the kernels, or nothing at all."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import encode, inline, kernels
from broker.domain.measures import SKETCHES
from broker.domain.plan import Columns, CsvBlock, Plan, Rows, ScanResult
from broker.domain.query import Calculations, Query, TopN
from broker.domain.values import Column, DataType, ResultFormat
from tests.unit.aggregation import questions
from tests.unit.aggregation.facts import DATASET, facts, plan
from tests.unit.aggregation.source import results

COLUMNS = ResultFormat.COLUMNS
PLAIN = [n for n in questions.MERGEABLE if DATASET.measures[n].kind not in SKETCHES] + ["flag_exactly"]


def asked(seed: int) -> Plan:
    """A plan without calculations, with measures of every kind that is no sketch."""
    chance = Random(seed)
    query = questions.query(chance)
    measures = tuple(chance.sample(PLAIN, chance.randint(1, 4)))
    time = replace(query.time, gap_fill=False) if query.time is not None else None
    having = questions.condition(chance, list(measures)) if chance.random() < 0.5 else None
    bare = replace(query, measures=measures, time=time, order=(), having=having, calculations=Calculations())
    keys = {column.name for column in plan(bare).columns}
    return plan(replace(bare, order=tuple(key for key in query.order if key.member in keys)))


@settings(max_examples=400, deadline=None)
@given(
    resolved=st.integers(0, 2**32).map(asked),
    seed=st.integers(0, 2**32),
    pushed_down=st.booleans(),
)
def test_the_twin_writes_what_the_kernels_write(resolved: Plan, seed: int, pushed_down: bool) -> None:
    finish = replace(resolved.finish, pushed_down=pushed_down)
    scanned = results(resolved, facts(Random(seed)), [0], csv=False)
    made = inline.table(scanned, finish, COLUMNS)
    expected = kernels.answer(scanned, finish)
    if scanned[0].grouped:
        (block,) = scanned[0].grouped
        assert isinstance(block, Rows)
        assert inline.table((ScanResult((Columns(block.columns, block.values),)),), finish, COLUMNS) == made
        assert made == (expected.height, encode.table(expected, finish.columns, COLUMNS))
        batch = inline.batch(
            scanned[0].grouped[0], replace(finish, pushed_down=True), finish.columns, COLUMNS
        )
        rows = kernels.rows(scanned[0].grouped[0], finish, finish.columns)
        assert batch == (rows.height, encode.row_batch(rows, finish.columns, COLUMNS))
    else:
        assert made is None, "no block at all is left to the kernels, which know what no rows mean"


STATES = (Column("k0", DataType.STRING), Column("rows.n", DataType.INT64))


def small(rows: int = 3) -> ScanResult:
    return ScanResult((Rows(STATES, tuple((str(i), i) for i in range(rows))),))


NAMES = plan(Query("facts", ("rows",), ("name",))).finish
MERGING = replace(NAMES, pushed_down=False)


def test_what_it_takes() -> None:
    assert inline.table((small(),), NAMES, COLUMNS) is not None
    assert inline.table((small(),), MERGING, COLUMNS) is not None


@pytest.mark.parametrize(
    ("scanned", "finish", "encoding"),
    [
        pytest.param((small(1_001),), NAMES, COLUMNS, id="more than 2,000 cells"),
        pytest.param((small(),), NAMES, ResultFormat.ARROW, id="Arrow"),
        pytest.param((small(), small()), NAMES, COLUMNS, id="a comparison"),
        pytest.param((ScanResult(small().grouped * 2),), MERGING, COLUMNS, id="two blocks"),
        pytest.param((ScanResult(()),), NAMES, COLUMNS, id="no block"),
        pytest.param((small(),), replace(MERGING, gap_fill=True), COLUMNS, id="gap filling"),
        pytest.param(
            (small(),),
            replace(MERGING, calculations=Calculations(TopN(1, "name", "rows"))),
            COLUMNS,
            id="a calculation",
        ),
        pytest.param(
            (ScanResult((CsvBlock(STATES, b"a,1\n"),)),),
            NAMES,
            COLUMNS,
            id="CSV",
        ),
        pytest.param(
            (ScanResult((Rows(STATES, (("a", 1), ("a", 2))),)),),
            MERGING,
            COLUMNS,
            id="a key twice",
        ),
    ],
)  # fmt: skip
def test_what_it_leaves_to_the_workers(
    scanned: tuple[ScanResult, ...], finish: object, encoding: ResultFormat
) -> None:
    assert inline.table(scanned, finish, encoding) is None  # type: ignore[arg-type] # of parametrize, a Finish


def test_sketches_are_left_to_the_workers() -> None:
    resolved = plan(Query("facts", ("name_distinct",)))
    scanned = results(resolved, facts(Random(0)), [0], csv=False)
    assert inline.table(scanned, resolved.finish, COLUMNS) is None


def test_a_block_of_sql_rows() -> None:
    columns = (Column("a", DataType.INT64), Column("a", DataType.STRING))
    block = Rows(columns, ((1, "x"), (None, None)))
    made = inline.batch(block, None, columns, COLUMNS)
    frame = kernels.rows(block, None, columns)
    assert made == (2, encode.row_batch(frame, columns, COLUMNS))
    assert inline.batch(CsvBlock(columns, b"1,x\n"), None, columns, COLUMNS) is None
