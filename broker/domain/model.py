"""The semantic model as values: datasets with their joins, dimensions, measures and row policies.

Expressions are SQL over ``{table alias}.column`` names, checked when the configuration is loaded. The model is built
once at start; everything derived from it (versions, fingerprints) is a pure function of these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.domain.materialised import Materialised
from broker.domain.rollup import Rollup
from broker.domain.values import DataType


class JoinKind(StrEnum):
    """How many rows of the joined table one row of the parent meets."""

    MANY_TO_ONE = "many_to_one"
    ONE_TO_ONE = "one_to_one"
    ONE_TO_MANY = "one_to_many"


@dataclass(frozen=True, slots=True)
class Join:
    """A left join of ``table`` as ``name`` onto the alias ``parent`` by the SQL condition ``on``.

    The dataset's own table has the dataset's name as its alias.
    """

    name: str
    table: str
    on: str
    parent: str
    kind: JoinKind = JoinKind.MANY_TO_ONE


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something to group and filter by.

    ``sql`` is an expression over columns of the aliases in ``tables``. A ``time`` dimension of a type without zone
    (date, or timestamp declared with ``stored_zone``) is read in that zone. ``scale`` counts decimal digits.
    """

    name: str
    sql: str
    type: DataType
    tables: tuple[str, ...]
    time: bool = False
    stored_zone: str = ""
    scale: int = 0
    title: str = ""
    description: str = ""


class MeasureKind(StrEnum):
    """How a measure aggregates; the same list as the proto enum ``MeasureKind``."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    AVG = "avg"
    VARIANCE = "variance"
    STDDEV = "stddev"
    APPROX_DISTINCT = "approx_distinct"
    APPROX_PERCENTILE = "approx_percentile"
    FIRST = "first"
    LAST = "last"
    EXACT_DISTINCT = "exact_distinct"
    EXACT_PERCENTILE = "exact_percentile"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Measure:
    """Something to aggregate.

    ``sql`` is the aggregated expression (empty for a count of rows), ``type`` its input type and ``scale`` the decimal
    digits of it; ``filter`` restricts the rows. ``percentile`` is in (0, 1). A ratio names two other measures of the
    dataset. ``tables`` are the aliases that the expression, the filter and, for first and last, the order need.
    """

    name: str
    kind: MeasureKind
    sql: str = ""
    type: DataType = DataType.INT64
    scale: int = 0
    filter: str = ""
    percentile: float = 0.5
    numerator: str = ""
    denominator: str = ""
    tables: tuple[str, ...] = ()
    title: str = ""
    description: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class RowPolicy:
    """Rows that a principal may see: an SQL predicate, applied unless the principal has one of the ``unless`` grants.

    The predicate may use ``{tenant}``, ``{principal}`` and ``{attributes.NAME}``, which are bound as values of the
    principal, never as text. ``terms`` say the same as a conjunction of equalities over dimensions, where that can be
    said, so that rollups can apply it: (dimension, placeholder) with the placeholder's name without braces. None where
    it cannot.
    """

    name: str
    sql: str
    tables: tuple[str, ...]
    unless: tuple[str, ...] = ()
    terms: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table or view (``table``, qualified) with everything that can be asked of it.

    ``primary_key`` names columns of the table, ``primary_key_types`` their types; first and last need them to break
    ties. ``grants`` lists the grants of which a principal needs one; empty means everybody. ``max_staleness``, and the
    ages of answers that are held, ``soft_age`` and ``hard_age``, are in seconds; None leaves those to the settings.
    A sample of ``sample_blocks`` blocks is kept beside the segments, and drawn anew every ``sample_every`` seconds.
    ``version`` changes with every definition that answers depend on, which rollups, ages and samples are not among.
    A dataset that a job made has no table; ``materialised`` says where its rows are.
    """

    name: str
    table: str
    dimensions: Mapping[str, Dimension]
    measures: Mapping[str, Measure]
    joins: Mapping[str, Join] = field(default_factory=dict)
    row_policies: tuple[RowPolicy, ...] = ()
    primary_key: tuple[str, ...] = ()
    primary_key_types: tuple[DataType, ...] = ()
    default_time: str = ""
    title: str = ""
    description: str = ""
    grants: tuple[str, ...] = ()
    max_staleness: float | None = None
    version: str = ""
    rollups: Mapping[str, Rollup] = field(default_factory=dict)
    soft_age: float | None = None
    hard_age: float | None = None
    sample_blocks: int = 0
    sample_every: float = 600.0
    materialised: Materialised | None = None

    def rounds(self, measure: str) -> bool:
        """Whether each row's value has the measure's digits before it is added up: a decimal that some rollup stores.

        Stored sums have these digits, so sums of sums could not be the sum of rows that have more.
        """
        stored = any(measure in rollup.measures for rollup in self.rollups.values())
        return stored and self.measures[measure].type is DataType.DECIMAL

    def time_dimension(self, name: str) -> Dimension | None:
        """The time dimension ``name``, or the default one when the name is empty."""
        dimension = self.dimensions.get(name or self.default_time)
        return dimension if dimension is not None and dimension.time else None


@dataclass(frozen=True, slots=True)
class Model:
    """All datasets by name. ``version`` changes whenever any definition does."""

    datasets: Mapping[str, Dataset]
    version: str = ""
