"""The dimensions and measures that datasets are drawn from, with values to compare them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from tests.oracle.events import BIG, NAMES, NUMBERS
from tests.oracle.model import DimensionSpec, MeasureSpec
from tests.support.drawn.tables import DAY, POOLS, Shape, instant

Pool = Sequence[object]
DECIMALS = tuple(
    map(Decimal, ("0.00", "1.10", "-2.25", "99.99", "0.05", "1.01", "-1", "12345678901234567890.12"))
)
WHOLE = (-3, -1, 0, 1, 2, 3, 5, 8)
FINITE = tuple(number for number in NUMBERS if abs(number) <= 1e300)


@dataclass(frozen=True, slots=True)
class Member:
    """A dimension, or a measure of ``kind``: how it is declared, its type, and values of it."""

    given: Mapping[str, Any]
    type: str
    pool: Pool
    scale: int = 0
    kind: str = ""
    inexact: bool = False
    """Whether its last digits depend on the order of additions."""

    def dimension(self, name: str) -> DimensionSpec:
        """It as a dimension of the generator of questions."""
        return DimensionSpec(name, self.type, bool(self.given.get("time")), self.scale)

    def measure(self, name: str) -> MeasureSpec:
        """It as a measure of the generator of questions."""
        given = self.given
        return MeasureSpec(
            name, self.kind.upper(), self.type, self.scale,
            numerator=given.get("numerator", ""), denominator=given.get("denominator", ""),
        )  # fmt: skip


def times(random: Random, shape: Shape) -> dict[str, Member]:
    """The time dimensions."""
    dates = [shape.first + DAY * i for i in range(-1, min(shape.days, 30) + 1)]
    instants = [instant(random, shape) for _ in range(30)]
    at: dict[str, Any] = {"type": "timestamp", "time": True}
    if shape.time == "date":
        at["type"] = "date"
    elif shape.time == "local":
        at["stored_zone"] = shape.zone
    elif shape.time == "seconds":
        at["sql"] = "to_timestamp(at)"
    kind = at["type"].upper()
    return {
        "at": Member(at, kind, dates if kind == "DATE" else instants),
        "due": Member({"type": "date", "time": True}, "DATE", dates),
        "moment": Member({"type": "timestamp", "time": random.random() < 0.5}, "TIMESTAMP", instants),
    }


def dimensions() -> dict[str, Member]:
    """All other dimensions that there may be."""

    def own(kind: str, pool: Pool, scale: int = 0, **more: object) -> Member:
        digits = {"scale": scale} if kind == "DECIMAL" else {}
        return Member({"type": kind.lower(), **digits, **more}, kind, pool, scale)

    addresses = [str(each) for each in POOLS["net"][1]]
    return {
        "s": own("STRING", NAMES),
        "c": own("STRING", ("a", "ab", "A", "", "é", " b")),
        "i": own("INT64", WHOLE),
        "big": own("INT64", BIG),
        "b": own("BOOL", (True, False)),
        "n": own("DECIMAL", DECIMALS, 2),
        "w": own("DECIMAL", DECIMALS, 2),
        "f": own("DOUBLE", FINITE),
        "r": own("DOUBLE", (0.1, 1.5, -2.25, 0.10000000149011612)),
        "u": own("STRING", POOLS["u"][1], sql="u::text"),
        "net": own("STRING", addresses, sql="net::text"),
        "lower": own("STRING", ("a", "b", "x", ""), sql='lower(s COLLATE "C")'),
        "third": own("DECIMAL", (Decimal("0.333"), Decimal("-0.750"), Decimal(0)), 3, sql="n / 3"),
        "parity": own("INT64", (0, 1, -1), sql="i % 2"),
        "either": own("BOOL", (True, False), sql="i > 2 OR b"),
        "day": own("STRING", ("1", "2"), sql="extract(isodow from due)::text"),
        "twice": own("INT64", (14, 6, 0)),
        "name": own("STRING", ("x", "y", "", "Z"), column="names.name"),
        "level": own("INT64", (0, 10, 20, -70), column="names.level"),
        "title": own("STRING", ("one", ""), column="fars.title"),
        "label": own("STRING", ("x-a", "-", "y-"), sql="coalesce(names.name, '') || '-' || coalesce(c, '')"),
    }


def measures(random: Random, shape: Shape) -> dict[str, Member]:
    """All measures that there may be."""
    found = {
        "rows": Member({"kind": "count"}, "INT64", (0, 1, 2, 3, 10), kind="count"),
        "named": Member({"kind": "count", "column": "s"}, "INT64", (0, 1, 2), kind="count"),
        "truths": Member({"kind": "count", "filter": "b"}, "INT64", (0, 1, 2), kind="count"),
        "known": Member({"kind": "count", "column": "names.name"}, "INT64", (0, 1), kind="count"),
        "levels": _over("sum", "INT64", WHOLE, column="names.level", filter="names.name <> ''"),
    }
    inputs: dict[str, tuple[str, Pool, int]] = {
        "i": ("INT64", WHOLE, 0), "q": ("INT64", (7, 3, 0), 0), "big": ("INT64", BIG, 0),
        "n": ("DECIMAL", DECIMALS, 2), "w": ("DECIMAL", DECIMALS, 2), "g": ("DOUBLE", (0.0, 1e6), 0),
        "h": ("DOUBLE", (0.5, 3.0), 0), "f": ("DOUBLE", FINITE, 0), "r": ("DOUBLE", (0.1, 1.5), 0),
        "b": ("BOOL", (True, False), 0), "s": ("STRING", NAMES, 0), "c": ("STRING", ("a", ""), 0),
    }  # fmt: skip
    inputs["moment"] = "TIMESTAMP", [instant(random, shape) for _ in range(5)], 0
    inputs["due"] = "DATE", [shape.first + DAY * i for i in range(3)], 0
    for column, (kind, pool, scale) in inputs.items():
        kinds = ["min", "max", "first", "last"]
        if kind in ("INT64", "DECIMAL", "DOUBLE") and column not in ("big", "f", "r"):
            kinds += ["sum", "avg"]
        if column in ("i", "n", "g", "h"):
            kinds += ["variance", "stddev"]
        for each in kinds:
            found[f"{each}_{column}"] = _over(each, kind, pool, scale, column=column)
    found |= {
        "some_n": _over("sum", "DECIMAL", DECIMALS, 2, column="n", filter="i > 0"),
        "last_some": _over("last", "INT64", WHOLE, column="i", filter="b AND n > 0"),
        "worth": _over("sum", "DECIMAL", DECIMALS, 2, sql="n * i"),
        "distinct_s": _over("approx_distinct", "STRING", (), column="s"),
        "distinct_i": _over("approx_distinct", "INT64", (), column="i"),
        # A sketch keeps all of some 200 values, more than a table has of them: then percentiles are equal, too.
        "half_i": _over("approx_percentile", "DOUBLE", (0.0, 1.0, 2.0), column="i", percentile=0.5),
        "most_n": _over("approx_percentile", "DOUBLE", (0.0, 99.99), column="n", percentile=0.9),
        "least_h": _over(
            "approx_percentile", "DOUBLE", (0.5, 3.0), column="h", percentile=0.1, filter="i > 0"
        ),
        "exactly": _over("exact_distinct", "STRING", (0, 1, 2), column="s"),
        "each": _ratio("sum_n", "rows"),
        "per_i": _ratio("sum_i", "named"),
        "blend": _ratio("avg_i", "sum_q"),
    }
    return found


def _over(kind: str, type_: str, pool: Pool, scale: int = 0, **more: object) -> Member:
    given: dict[str, object] = {"kind": kind, "type": type_.lower(), **more}
    if type_ == "DECIMAL":
        given["scale"] = scale
    inexact = kind in ("variance", "stddev") or (kind in ("sum", "avg") and type_ == "DOUBLE")
    return Member(given, type_, pool, scale, kind, inexact)


def _ratio(numerator: str, denominator: str) -> Member:
    given = {"kind": "ratio", "numerator": numerator, "denominator": denominator}
    return Member(given, "INT64", (0.5, 1.0, 2.5), kind="ratio")
