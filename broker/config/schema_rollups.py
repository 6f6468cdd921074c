"""The schema of rollups: what of a dataset is stored ahead of the questions, how, and how it is kept right."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.config.base import Section, Text
from broker.config.units import Duration
from broker.domain.query import Grain
from broker.domain.rollup import Storage, Tracking


class RollupConfig(Section):
    """States of measures, stored by dimensions and buckets of time, from which questions are answered."""

    dimensions: list[Text] = Field(default_factory=list)
    """Stored dimensions. Questions that group or filter by others are not answered from the rollup."""
    measures: Annotated[list[Text], Field(min_length=1)]
    """Stored measures; of a ratio, the two that it is made of. Exact distinct counts and exact percentiles do not
    merge, so they cannot be stored."""
    time: str = ""
    """Time dimension of the buckets, over columns of the dataset's own table. Unset: the dataset's `default_time`."""
    grains: list[Grain] = Field(default_factory=list)
    """Widths of the buckets, the finest (the base) first; the others are kept merged ahead. Unset:
    `[fifteen_minutes, day, month]`, and `[day, month]` for dates. A base of at most fifteen minutes serves every time
    zone."""
    zone: str = ""
    """Time zone of days and longer buckets, and of the partitions. Unset: the `stored_zone` of the time dimension, or
    UTC."""
    partition: Grain | None = None
    """Stretch of time that is built and replaced as a whole, a day or more and no less than the longest bucket. Unset:
    `month`, or the longest bucket when a month cannot hold it."""
    filter: list[Text] = Field(default_factory=list)
    """Conditions over dimensions that stored rows meet, all of them, such as `origin = JFK`, `carrier in (AA, UA)`,
    `distance >= 500`, `tailnum is not null`. Only questions whose filter implies all of them are answered."""
    storage: Storage = Storage.SEGMENTS
    """Where states are kept: `segments` in columnar files that are scanned fast and hold sketches, `table` in an
    indexed table, best for narrow questions; `external` is a table or view that somebody else keeps."""
    tracking: Tracking | None = None
    """How changes are noticed. `triggers`: writers mark what they change, and answers are exact. `append_only`: rows
    are only added, no later than `lateness`. `change_token`: an SQL value changes with the data. `none`: not at all,
    only for external rollups, whose default it is; that of the others is `triggers`."""
    lateness: Duration | None = None
    """How long after its own time a row may still be added, for `append_only`."""
    token: str = ""
    """SQL value that changes whenever the source does, for `change_token`, as
    `SELECT max(updated_at) FROM public.flights`."""
    start: str = ""
    """First date (in `zone`) or instant to build, as `2020-01-01` or `2020-01-01T00:00:00Z`. Unset: the first row's."""
    retention: Duration | None = None
    """How long partitions are kept after their end. Unset: for ever."""
    refresh_every: Annotated[Duration, Field(gt=0)] = 60.0
    """Time between two looks at what has changed."""
    relation: str = ""
    """Table or view of an external rollup, as `schema.table`."""
    columns: dict[Text, Text] = Field(default_factory=dict)
    """Columns of an external rollup by what they hold: `revenue: total` or, for measures of several states,
    `dep_delay.n: delays` and `dep_delay.s: minutes`. Unset: a dimension's has its name."""
