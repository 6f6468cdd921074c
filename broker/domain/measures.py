"""The measure algebra: every measure is a tuple of partial states that merge, and a finish.

One row of this table per kind is the single definition from which the SQL of the states, the kernel that merges them,
the finish and the error bound follow:

==================  =======================================  ====================  ==========================
kind                states                                   merge                 finish
==================  =======================================  ====================  ==========================
count               n                                        sum                   n, 0 when there are no rows
sum                 s                                        sum, null on none     s
min, max            v                                        min, max              v
avg                 n, s                                     sum, sum              s / n as a double
variance, stddev    n, mean, m2                              pairwise (Chan 1979)  m2 / (n - 1), its root
approx_distinct     HLL sketch, 4-bit, lgK 12                union                 estimate
approx_percentile   KLL sketch, K 200                        merge                 quantile
first, last         order keys (time, primary key), value    arg-min, arg-max      value
exact_distinct      value                                    none                  value
exact_percentile    value                                    none                  value
ratio               the states of both measures              theirs                a / b, null when b is 0
==================  =======================================  ====================  ==========================

A state is named ``{measure}.{state}``. Ratios own no states: they are expanded into their measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.domain.model import Dataset, Measure, MeasureKind
from broker.domain.values import DataType

HLL_LG_K = 12
HLL_RELATIVE_ERROR = 0.0318
"""Of a count at two standard deviations, 95.5 % (Apache DataSketches, HLL error table, lgK 12)."""
KLL_K = 200
KLL_RANK_ERROR = 0.0133
"""Of a rank, single-sided, at 99 % (Apache DataSketches, KLL accuracy table, K 200)."""

ADDITIVE = frozenset({MeasureKind.COUNT, MeasureKind.SUM})
UNMERGEABLE = frozenset({MeasureKind.EXACT_DISTINCT, MeasureKind.EXACT_PERCENTILE})
SKETCHES = frozenset({MeasureKind.APPROX_DISTINCT, MeasureKind.APPROX_PERCENTILE})
ORDERED = frozenset({MeasureKind.FIRST, MeasureKind.LAST})

EARLIEST, LATEST = -(2**63), 2**63 - 1
"""Infinite times among the order keys of first and last."""


@dataclass(frozen=True, slots=True)
class State:
    """One partial state column: its name within the measure, its type, and decimal digits."""

    name: str
    type: DataType
    scale: int = 0


def states(measure: Measure, keys: Iterable[State] = ()) -> tuple[State, ...]:
    """The partial states of a measure, in frame order.

    ``keys`` are the order keys of first and last, see :func:`order_keys`. Sketch states are byte strings,
    typed as STRING because they never leave a kernel.
    """
    value = State("v", measure.type, measure.scale)
    match measure.kind:
        case MeasureKind.COUNT:
            return (State("n", DataType.INT64),)
        case MeasureKind.SUM:
            return (State("s", measure.type, measure.scale),)
        case MeasureKind.MIN | MeasureKind.MAX:
            return (value,)
        case MeasureKind.AVG:
            return State("n", DataType.INT64), State("s", measure.type, measure.scale)
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            return State("n", DataType.INT64), State("mean", DataType.DOUBLE), State("m2", DataType.DOUBLE)
        case MeasureKind.FIRST | MeasureKind.LAST:
            return (*keys, value)
        case MeasureKind.APPROX_DISTINCT | MeasureKind.APPROX_PERCENTILE:
            return (State("sketch", DataType.STRING),)
        case MeasureKind.EXACT_DISTINCT:
            return (State("v", DataType.INT64),)
        case MeasureKind.EXACT_PERCENTILE:
            return (State("v", DataType.DOUBLE),)
        case MeasureKind.RATIO:
            return ()


def order_keys(dataset: Dataset) -> tuple[State, ...]:
    """The states by which first and last are decided: the default time dimension, then the primary key."""
    time = dataset.dimensions.get(dataset.default_time)
    if time is None:
        return ()
    return (
        State("t", time.type, time.scale),
        *(State(f"p{i}", t) for i, t in enumerate(dataset.primary_key_types)),
    )


def result_type(measure: Measure) -> tuple[DataType, int]:
    """Type and scale of a finished value.

    A sum has the type of its input; an integer sum past 64 bits is an error, never a wrapped value (declare the measure
    as decimal to go further). Averages, variances, percentiles and ratios are doubles.
    """
    match measure.kind:
        case MeasureKind.COUNT | MeasureKind.APPROX_DISTINCT | MeasureKind.EXACT_DISTINCT:
            return DataType.INT64, 0
        case MeasureKind.SUM | MeasureKind.MIN | MeasureKind.MAX | MeasureKind.FIRST | MeasureKind.LAST:
            return measure.type, measure.scale
        case _:
            return DataType.DOUBLE, 0


def leaves(dataset: Dataset, names: Iterable[str]) -> tuple[Measure, ...]:
    """The measures that own states, each once: ratios replaced by their operands, in order of first use."""
    found: dict[str, Measure] = {}

    def add(name: str) -> None:
        measure = dataset.measures[name]
        if measure.kind is MeasureKind.RATIO:
            add(measure.numerator)
            add(measure.denominator)
        else:
            found.setdefault(name, measure)

    for name in names:
        add(name)
    return tuple(found.values())


def mergeable(dataset: Dataset, name: str) -> bool:
    """Whether partial results of the measure merge."""
    return all(m.kind not in UNMERGEABLE for m in leaves(dataset, [name]))
