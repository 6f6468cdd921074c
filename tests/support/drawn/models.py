"""Random models over random tables: which members there are, and overlapping rollups of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import polars as pl
import yaml

from broker.adapters.auth_keys import digest
from broker.config.findings import ConfigError
from broker.config.loader import load_text
from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Seeded
from tests.oracle.model import OracleModel
from tests.oracle.values import condition
from tests.support.drawn import members as m
from tests.support.drawn.policies import CALLER_KEY, policies
from tests.support.drawn.tables import Shape, shape, token

GRAINS = (
    "fifteen_minutes day month", "fifteen_minutes hour day week", "minute hour day", "hour", "hour day",
    "hour day month year", "day", "day week", "day month quarter year", "week", "month", "month quarter", "year",
)  # fmt: skip
PARTITIONS = ("day", "week", "month", "month", "quarter", "year")
ZONES = ("UTC", "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu")
_WORDS = {
    "EQ": "=", "NE": "!=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "IN": "in", "NOT_IN": "not in",
    "CONTAINS": "contains", "STARTS_WITH": "starts with", "ENDS_WITH": "ends with", "IS_NULL": "is null",
    "IS_NOT_NULL": "is not null",
}  # fmt: skip
EXTERNAL_KINDS = ("count", "sum", "min", "max", "avg")


@dataclass(frozen=True, slots=True)
class DrawnModel(OracleModel):
    """A dataset for the generator of questions: nothing is decided by values whose last digits may differ."""

    inexact: frozenset[str] = frozenset()

    def sketched(self, name: str) -> bool:
        """Whether the measure's values are estimates, or not known to the last digit."""
        return any(leaf.name in self.inexact for leaf in self.leaves([name]))


@dataclass(frozen=True, slots=True)
class DrawnDataset:
    """A dataset: its table, how it is declared, its members, and what more the database needs for its rollups.

    ``filters`` has the conditions of every rollup, ``attributes`` what row policies compare with of a caller.
    """

    shape: Shape
    given: Mapping[str, Any]
    dimensions: Mapping[str, m.Member]
    measures: Mapping[str, m.Member]
    views: Sequence[str]
    filters: Mapping[str, Sequence[q.Condition]]
    attributes: Mapping[str, str]

    def model(self, rollup: str = "") -> DrawnModel:
        """The dataset as the generator of questions sees it; of a rollup what it stores, and no more."""
        dimensions, measures = self._stored(rollup) if rollup else (set(self.dimensions), set(self.measures))
        inexact = {
            name
            for name, each in self.measures.items()
            if each.inexact or each.kind in ("approx_distinct", "approx_percentile")
        }
        return DrawnModel(
            self.shape.name,
            "at",
            pl.DataFrame(),
            {name: each.dimension(name) for name, each in self.dimensions.items() if name in dimensions},
            {name: each.measure(name) for name, each in self.measures.items() if name in measures},
            frozenset(inexact),
        )

    def _stored(self, rollup: str) -> tuple[set[str], set[str]]:
        """The dimensions and measures that a rollup can tell of."""
        given = self.given["rollups"][rollup]
        named = {
            given.get("time", "at"),
            "at",
            *given["dimensions"],
            *(each.member for each in self.filters[rollup]),
        }
        stored = set(given["measures"])
        for name in given["measures"]:
            own = self.measures[name].given
            stored |= {own.get(side, name) for side in ("numerator", "denominator")}
        ratios = {name for name, each in self.measures.items() if each.kind == "ratio"}
        told = {
            name
            for name in ratios
            if {self.measures[name].given[side] for side in ("numerator", "denominator")} <= stored
        }
        return named, (stored - ratios) | told

    def known(self) -> dict[str, Sequence[object]]:
        """Values of every dimension and every measure's input."""
        inputs = {f"@{name}": each.pool for name, each in self.measures.items()}
        return {name: each.pool for name, each in self.dimensions.items()} | inputs


def configuration(datasets: Sequence[DrawnDataset]) -> str:
    """The file for some datasets, and for a caller whom their row policies concern beside those who see all."""
    attributes = {name: value for each in datasets for name, value in each.attributes.items()}
    caller = {"attributes": attributes, "hashes": [f"sha256:{digest(CALLER_KEY).hex()}"]}
    given = {
        "auth": {"anonymous": {"enabled": True}, "api_keys": {"caller": caller}},
        "datasets": {each.shape.name: each.given for each in datasets},
    }
    return json.dumps(given, ensure_ascii=False)  # which is YAML, and quotes texts that look like numbers


def draw(random: Random, name: str) -> DrawnDataset:
    """A random dataset with two rollups or more."""
    own = shape(random, name)
    every, counted = m.dimensions(), m.measures(random, own)
    chosen = m.times(random, own) | {each: every[each] for each in random.sample(sorted(every), 8)}
    taken = set(random.sample(sorted(counted), 12)) | {"rows"}
    for each in sorted(taken):
        taken |= {counted[each].given.get(side, each) for side in ("numerator", "denominator")}
    kept = {each: counted[each] for each in sorted(taken)}
    given: dict[str, Any] = {
        "table": f"public.{name}",
        "primary_key": random.choice(({"id": "int64"}, {"code": "string"}, {"i": "int64", "id": "int64"})),
        "default_time": "at",
        "joins": {
            "names": {"table": f"public.{name}_names", "on": f"names.k = {name}.k"},
            "fars": {"table": f"public.{name}_fars", "on": "fars.far = names.far", "parent": "names"},
        },
        "dimensions": {each: dict(member.given) for each, member in chosen.items()},
        "measures": {each: dict(member.given) for each, member in kept.items()},
    }
    given["row_policies"], attributes = policies(random, name, chosen)
    rollups: dict[str, Any] = {}
    views: list[str] = []
    filters: dict[str, Sequence[q.Condition]] = {}
    while len(rollups) < random.randint(2, 4):
        called = f"r{len(rollups)}"
        drawn, view = _rollup(random, own, chosen, kept), ""
        own_filter: list[q.Condition] = []
        if random.random() < 0.3:
            own_filter = _conditions(random, chosen)
            drawn["filter"] = [written(each) for each in own_filter]
        if random.random() < 0.1 and own.time == "zoned":
            (drawn, view), own_filter = _external(random, own, chosen, kept, called), []
        if _valid(name, {**given, "rollups": {called: drawn}}):
            rollups[called], filters[called] = drawn, own_filter
            views += [view] if view else []
    return DrawnDataset(own, {**given, "rollups": rollups}, chosen, kept, views, filters, attributes)


def _rollup(
    random: Random, own: Shape, dimensions: Mapping[str, m.Member], measures: Mapping[str, m.Member]
) -> dict[str, Any]:
    others = [name for name in dimensions if name != "at"]
    able = [name for name, each in measures.items() if each.kind != "exact_distinct"]
    found: dict[str, Any] = {
        "dimensions": random.sample(others, random.randint(0, 6)),
        "measures": random.sample(able, random.randint(3, len(able))),
        "grains": random.choice(GRAINS).split(),
        "partition": random.choice(PARTITIONS[own.days > 9 :]),
    }
    dated = own.time == "date"
    if random.random() < 0.15:
        found["time"], dated = "due", True
        found["dimensions"] = [name for name in found["dimensions"] if name != "due"]
    if not dated and random.random() < 0.6:
        found["zone"] = random.choice((*ZONES, own.zone))
    if random.random() < 0.35:
        found["storage"] = "table"
        found["measures"] = [
            name for name in found["measures"] if not measures[name].kind.startswith("approx")
        ]
    if random.random() < 0.1:
        found["start"] = str(own.first)
    if random.random() < 0.15:
        found |= {"tracking": "change_token", "token": token(own)}
    return found


def _conditions(random: Random, dimensions: Mapping[str, m.Member]) -> list[q.Condition]:
    chooser = Seeded(random.randrange(1 << 30))
    names = random.sample(sorted(dimensions), random.randint(1, 2))
    return [condition(chooser, name, dimensions[name].type, dimensions[name].pool) for name in names]


def written(given: q.Condition) -> str:
    """A condition as a configuration has it."""
    name = q.FilterOperator.Name(given.operator).removeprefix("FILTER_OPERATOR_")
    values = [_written(each) for each in given.values]
    match name:
        case "IN" | "NOT_IN":
            return f"{given.member} {_WORDS[name]} ({', '.join(values)})"
        case "BETWEEN":
            return f"{given.member} between {values[0]} and {values[1]}"
        case _:
            return " ".join((given.member, _WORDS[name], *values))


def _written(value: q.Value) -> str:
    kind = value.WhichOneof("kind")
    match kind:
        case "timestamp_value":
            text = value.timestamp_value.ToJsonString()
        case "date_value":
            day = value.date_value
            text = f"{day.year:04}-{day.month:02}-{day.day:02}"
        case _:
            assert kind is not None, "values are of some kind"
            text = str(getattr(value, kind))
    return "'" + text.replace("'", "''") + "'"


def _external(
    random: Random,
    own: Shape,
    dimensions: Mapping[str, m.Member],
    measures: Mapping[str, m.Member],
    called: str,
) -> tuple[dict[str, Any], str]:
    """A rollup that is a view over the table, hence always as fresh as the table."""
    plain = [
        name
        for name, each in dimensions.items()
        if not each.given.get("sql") and "." not in each.given.get("column", "") and name != "at"
    ]
    able = [
        name
        for name, each in measures.items()
        if each.kind in EXTERNAL_KINDS
        and "." not in each.given.get("column", "")
        and each.given.get("filter") in (None, "b", "i > 0")
    ]
    kept, stored = random.sample(able, min(len(able), 5)), random.sample(plain, min(len(plain), 3))
    columns, selected = {"at": "bucket"}, ["date_trunc('hour', at, 'UTC') AS bucket", *stored]
    for name in kept:
        for state, sql in _states(measures[name]).items():
            member = name if len(_states(measures[name])) == 1 else f"{name}.{state}"
            columns[member] = f"{name}_{state}"
            selected.append(f"{sql} AS {name}_{state}")
    by = ", ".join(["1", *stored])
    view = f"CREATE VIEW {own.name}_{called} AS SELECT {', '.join(selected)} FROM {own.name} GROUP BY {by}"
    given = {
        "storage": "external", "relation": f"public.{own.name}_{called}", "grains": ["hour"],
        "dimensions": stored, "measures": kept, "columns": columns,
    }  # fmt: skip
    return given, view


def _states(measure: m.Member) -> dict[str, str]:
    """The states of a measure in SQL, as whoever keeps an external rollup would write them."""
    value = str(measure.given.get("column") or measure.given.get("sql") or "*")
    kept = f" FILTER (WHERE {measure.given['filter']})" if "filter" in measure.given else ""
    summed = f"({value})::numeric(38, {measure.scale})" if measure.type == "DECIMAL" else value
    match measure.kind:
        case "count":
            return {"n": f"count({value}){kept}"}
        case "sum":
            return {"s": f"sum({summed}){kept}"}
        case "avg":
            return {"n": f"count({value}){kept}", "s": f"sum({summed}){kept}"}
        case kind if measure.type == "BOOL":
            return {"v": f"{'bool_and' if kind == 'min' else 'bool_or'}({value}){kept}"}
        case kind if measure.type == "STRING":
            return {"v": f'{kind}({value}::text COLLATE "C"){kept}'}
        case kind:
            return {"v": f"{kind}({value}){kept}"}


def _valid(name: str, given: Mapping[str, Any]) -> bool:
    """Whether a dataset with one rollup may be declared so."""
    try:
        load_text(yaml.safe_dump({"datasets": {name: given}}, allow_unicode=True), {}, database_needed=False)
    except ConfigError:
        return False
    return True
