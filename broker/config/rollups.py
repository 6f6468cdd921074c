"""Rollups of a dataset: from the schema to the domain, with everything that keeps one from being right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from zoneinfo import available_timezones

from broker.config.conditions import read_condition
from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.report import Report
from broker.config.rollup_columns import read_columns
from broker.config.rollup_storage import relation_of, storage_problems, tracking_of, tracking_problems
from broker.config.rollup_times import (
    FIRST_YEAR,
    grains_of,
    multiple,
    odd_offset,
    read_start,
    width_problems,
)
from broker.config.schema_rollups import RollupConfig
from broker.config.shape import Removed
from broker.domain.measures import UNMERGEABLE, leaves
from broker.domain.model import Dataset, Dimension
from broker.domain.query import AllOf, Condition, Filter, Grain, conditions
from broker.domain.rollup import Rollup, Storage
from broker.domain.values import DataType
from broker.policy.conditions import nearest
from broker.policy.fanout import fan_out_violation, multiplying_joins

TIME_COLUMN = "t"
"""What stored buckets are called; no stored dimension may have the name."""


def build_rollups(
    given: Mapping[str, RollupConfig],
    dataset: Dataset,
    declared: Mapping[str, Collection[str]],
    removed: Removed,
    report: Report,
) -> dict[str, Rollup]:
    """The rollups of a dataset without those that are wrong. ``declared`` are all members by kind, broken ones too."""
    rollups: dict[str, Rollup] = {}
    for name, config in given.items():
        path = ("datasets", dataset.name, "rollups", name)
        if not removed.within(path):
            rollup = _Builder(name, config, path, dataset, declared, removed, report).build()
            if rollup is not None:
                rollups[name] = rollup
    return rollups


class _Builder:
    """Builds one rollup."""

    def __init__(
        self,
        name: str,
        given: RollupConfig,
        path: Path,
        dataset: Dataset,
        declared: Mapping[str, Collection[str]],
        removed: Removed,
        report: Report,
    ) -> None:
        self._name = name
        self._given = given
        self._path = path
        self._dataset = dataset
        self._declared = declared
        self._removed = removed
        self._report = report
        self._wrong = False

    def build(self) -> Rollup | None:
        given = self._given
        time = self._time()
        dimensions = self._dimensions(time)
        measures = self._measures()
        condition = self._filter()
        grains = grains_of(given, dated=time is not None and time.type is DataType.DATE)
        partition = given.partition or (Grain.MONTH if multiple(Grain.MONTH, grains[-1]) else grains[-1])
        zone = self._zone(time)
        tracking = tracking_of(given)
        if not self._wrong:
            self._fan_out(time, dimensions, measures, condition)
        columns, problems = read_columns(given.columns, self._dataset, time, dimensions, measures)
        if given.storage is not Storage.EXTERNAL:
            columns, problems = {}, []
        for key, text in (
            *width_problems(given, time, grains, partition),
            *tracking_problems(given),
            *storage_problems(given, self._dataset, measures),
            *problems,
        ):
            self._say(key, text)
        start = read_start(given.start, zone)
        if given.start and start is None:
            self._say(
                "start",
                f"{given.start!r} is neither a date such as 2020-01-01 nor an instant with its offset",
            )
        offset = odd_offset(zone, grains[0], start) if zone else None
        if offset is not None:
            since = start.year if start is not None else FIRST_YEAR
            self._say(
                "zone",
                f"the offset of {zone} has been {offset} since {since}, no multiple of the base of one {grains[0]}, so "
                "its days begin within buckets; use a base of fifteen_minutes, or set a later `start`",
            )
        if self._wrong or time is None:
            return None
        self._policies(dimensions, time)
        return Rollup(
            name=self._name,
            dataset=self._dataset.name,
            time=time.name,
            dimensions=tuple(dimensions),
            measures=tuple(measures),
            grains=tuple(grains),
            zone=zone,
            partition=partition,
            filter=condition,
            storage=given.storage,
            tracking=tracking,
            start=start,
            retention=given.retention,
            refresh_every=given.refresh_every,
            lateness=given.lateness or 0.0,
            token=given.token.strip(),
            relation=relation_of(given),
            columns=columns,
        )

    def _say(self, key: str | Path, text: str) -> None:
        self._wrong = True
        parts = key if isinstance(key, tuple) else (key,) if key else ()
        self._report((*self._path, *parts), text)

    def _unknown(self, kind: str, name: str, known: Iterable[str], at: Path) -> None:
        """Reports a member that does not exist; one that has an error of its own has been reported."""
        self._wrong = True
        lost = (*self._path[:2], f"{kind}s", name)
        if name not in self._declared[kind] and not self._removed.may_hold(lost):
            self._say(at, f"there is no {kind} {name!r}{nearest(name, list(known))}")

    def _time(self) -> Dimension | None:
        dataset, name = self._dataset, self._given.time or self._dataset.default_time
        times = [dimension.name for dimension in dataset.dimensions.values() if dimension.time]
        if not name:
            self._say("", f"needs `time`, or the dataset a `default_time`{nearest('', times)}")
            return None
        dimension = dataset.dimensions.get(name)
        if dimension is None:
            if self._given.time:
                self._unknown("dimension", name, times, ("time",))
            self._wrong = True
            return None
        if not dimension.time:
            if self._given.time:
                self._say("time", f"{name!r} is not a time dimension{nearest('', times)}")
            self._wrong = True
            return None
        if dimension.tables != (dataset.name,):
            other = next((table for table in dimension.tables if table != dataset.name), "no table")
            text = f"{name!r} reads {other!r}; buckets are of columns of the dataset's own table, {dataset.name!r}"
            self._say("time" if self._given.time else "", text)
        return dimension

    def _dimensions(self, time: Dimension | None) -> list[str]:
        found: list[str] = []
        for i, name in enumerate(self._given.dimensions):
            at = ("dimensions", i)
            if name not in self._dataset.dimensions:
                self._unknown("dimension", name, self._dataset.dimensions, at)
            elif time is not None and name == time.name:
                self._say(at, f"{name!r} is the time of the buckets; leave it out")
            elif name == TIME_COLUMN:
                self._say(at, f"{name!r} is what the buckets are called; rename the dimension")
            elif name in found:
                self._say(at, f"{name!r} is given twice")
            else:
                found.append(name)
        return found

    def _measures(self) -> list[str]:
        """The measures that own states."""
        dataset = self._dataset
        found: dict[str, None] = {}
        for i, name in enumerate(self._given.measures):
            at = ("measures", i)
            if name not in dataset.measures:
                self._unknown("measure", name, dataset.measures, at)
                continue
            if name in self._given.measures[:i]:
                self._say(at, f"{name!r} is given twice")
            for leaf in leaves(dataset, [name]):
                if leaf.kind in UNMERGEABLE:
                    other = leaf.kind.replace("exact", "approx")
                    of = "" if leaf.name == name else f", which {name!r} is made of,"
                    text = f"{leaf.name!r}{of} is an {leaf.kind}, whose parts do not merge; use an {other}"
                    self._say(at, text)
                found[leaf.name] = None
        return list(found)

    def _filter(self) -> Filter | None:
        found: list[Condition] = []
        for i, text in enumerate(self._given.filter):
            condition = read_condition(text, self._dataset.dimensions)
            if isinstance(condition, Condition):
                found.append(condition)
                continue
            for problem in condition:
                self._say(("filter", i), problem)
        return None if not found else found[0] if len(found) == 1 else AllOf(tuple(found))

    def _zone(self, time: Dimension | None) -> str:
        zone = self._given.zone
        if not zone:
            return (time.stored_zone if time is not None else "") or "UTC"
        zones = available_timezones()
        if zone not in zones:
            self._say("zone", f"there is no time zone {zone!r}{nearest(zone, sorted(zones))}")
            return ""
        if time is not None and time.type is DataType.DATE and zone != "UTC":
            self._say("zone", f"{time.name!r} holds dates, which are the same in every zone; remove it")
        return zone

    def _fan_out(
        self, time: Dimension | None, dimensions: list[str], measures: list[str], condition: Filter | None
    ) -> None:
        filtered = [each.member for _, each in conditions(condition)]
        used = [*dimensions, *filtered, *([time.name] if time is not None else [])]
        problem = fan_out_violation(self._dataset, used, measures)
        if problem:
            self._say("", problem)
            return
        joins = multiplying_joins(
            self._dataset, [table for name in filtered for table in self._dataset.dimensions[name].tables]
        )
        if joins:
            self._say("filter", f"uses the one-to-many join {joins[0]!r}, which would repeat rows")

    def _policies(self, dimensions: Collection[str], time: Dimension) -> None:
        """Row policies that stored values cannot meet keep the rollup from answering those whom they concern."""
        for policy in self._dataset.row_policies:
            missing = sorted({name for name, _ in policy.terms or ()} - {*dimensions, time.name})
            if policy.terms is not None and not missing:
                continue
            why = (
                f"needs the dimension {missing[0]!r}, which is not stored"
                if missing
                else "is no conjunction of equalities between string dimensions and values of the caller"
            )
            whom = (
                f"answers only callers with {' or '.join(policy.unless)}"
                if policy.unless
                else "answers nobody"
            )
            self._report(self._path, f"{whom}: the row policy {policy.name!r} {why}", Severity.WARNING)
