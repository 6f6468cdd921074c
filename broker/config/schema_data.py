"""The schema of datasets: tables with their joins, dimensions, measures and row policies."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from broker.config.base import Name, Section, Text, or_text
from broker.config.schema_cache import DatasetCacheConfig
from broker.config.schema_rollups import RollupConfig
from broker.config.units import Duration
from broker.domain.model import JoinKind, MeasureKind
from broker.domain.values import DataType

Scale = Annotated[int, Field(ge=0, le=38)]


class JoinConfig(Section):
    """A table joined to the dataset's own, or to another joined table, by a left join."""

    table: Text
    """Table or view, as `schema.table`; without a schema it is in `public`."""
    on: Text
    """Condition in SQL, such as `flights.carrier = airlines.carrier`. Tables go by the names of dataset and joins."""
    kind: JoinKind = JoinKind.MANY_TO_ONE
    """How many rows each row of the parent meets: `many_to_one` and `one_to_one` at most one, `one_to_many` any number.
    Through a one-to-many join only measures of the joined table may be asked for."""
    parent: str = ""
    """Join that this one continues. Empty: the dataset's own table."""


class DimensionConfig(Section):
    """Something to group and filter by. Its type alone may stand for it: `carrier: string`."""

    model_config = or_text("type")

    type: DataType
    """Type of the values."""
    column: str = ""
    """Column, as `carrier` or, of a joined table, `airlines.name`. Unset, and without `sql`: the column that has the
    dimension's name."""
    sql: str = ""
    """Expression in SQL, in place of a column: one value per row, the same whenever it is computed."""
    time: bool | None = None
    """Whether queries may use it as the time dimension. Unset: yes, when the type is `timestamp` or `date`."""
    stored_zone: str = ""
    """Time zone of a `timestamp without time zone`, such as `America/New_York`."""
    scale: Scale | None = None
    """Digits after the point, for type `decimal`."""
    title: str = ""
    """Name for people."""
    description: str = ""
    """What it means."""

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, data: object) -> object:
        return {"type": data} if isinstance(data, str) else data


class MeasureConfig(Section):
    """Something to aggregate. Its kind alone may stand for a count of rows: `flights: count`."""

    model_config = or_text("kind")

    kind: MeasureKind
    """How values are aggregated."""
    column: str = ""
    """Aggregated column, as `dep_delay` or, of a joined table, `planes.seats`."""
    sql: str = ""
    """Aggregated expression in SQL, in place of a column. A count without either counts rows."""
    type: DataType | None = None
    """Type of the aggregated values. A count and a ratio have none; for variance, stddev and percentiles it is `double`
    when it is not given."""
    scale: Scale | None = None
    """Digits after the point, for type `decimal`."""
    filter: str = ""
    """Condition in SQL; only rows for which it is true are aggregated."""
    percentile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Which percentile, between 0 and 1, for `approx_percentile` and `exact_percentile`; 0.5 is the median."""
    numerator: str = ""
    """Measure above the line of a `ratio`."""
    denominator: str = ""
    """Measure below the line of a `ratio`; where it is 0 or null the ratio is null."""
    unit: str = ""
    """Unit or display hint, such as `min` or `%`."""
    title: str = ""
    """Name for people."""
    description: str = ""
    """What it means."""

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, data: object) -> object:
        return {"kind": data} if isinstance(data, str) else data


class RowPolicyConfig(Section):
    """Rows that a caller may see."""

    sql: Text
    """Condition in SQL. `{tenant}`, `{principal}` and `{attributes.NAME}` stand for values of the caller."""
    unless: list[Text] = Field(default_factory=list)
    """Grants that lift the policy; a caller needs one of them."""


class SampleConfig(Section):
    """A sample of a dataset's table that brokers keep in files beside the segments."""

    blocks: Annotated[int, Field(ge=0, le=20_000)] = 0
    """Blocks of the table in a sample that brokers keep in files, for estimates while the database is away; a thousand
    blocks of a hundred rows make some ten megabytes. 0: none is kept."""
    every: Annotated[Duration, Field(ge=10)] = 600
    """Time after which the sample is drawn again; estimates from it are as old as it is."""


class DatasetConfig(Section):
    """A table or view with everything that can be asked of it."""

    table: Text
    """Table or view, as `schema.table`; without a schema it is in `public`."""
    title: str = ""
    """Name for people."""
    description: str = ""
    """What one row is."""
    primary_key: dict[Text, DataType] = Field(default_factory=dict)
    """Key columns of the table with their types. `first` and `last` need it, to decide between rows of equal time."""
    default_time: str = ""
    """Time dimension of queries that name none."""
    grants: list[Text] = Field(default_factory=list)
    """Grants of which a caller needs one. Empty: everybody may ask."""
    max_staleness: Duration | None = None
    """Greatest age of an answer when the query does not say."""
    cache: DatasetCacheConfig = DatasetCacheConfig()
    """How old answers from the cache may get."""
    sample: SampleConfig = SampleConfig()
    """A sample of the table's blocks that is kept beside the segments, for estimates while the database is away."""
    joins: dict[Name, JoinConfig] = Field(default_factory=dict)
    """Joined tables, by the name that expressions use."""
    dimensions: dict[Name, DimensionConfig] = Field(default_factory=dict)
    """What to group and filter by."""
    measures: dict[Name, MeasureConfig] = Field(default_factory=dict)
    """What to aggregate."""
    row_policies: dict[Name, RowPolicyConfig] = Field(default_factory=dict)
    """Rows that callers may see; a row must satisfy all policies."""
    rollups: dict[Name, RollupConfig] = Field(default_factory=dict)
    """What is stored ahead of the questions; `broker rollup install` and `broker rollup build` fill it."""
