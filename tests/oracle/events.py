"""A dataset made to be nasty: text that formats stumble over, nulls in everything, NaN, exact decimals, clocks.

The flights have none of these. Rows are made from a seed; the same rows go to PostgreSQL and to the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import polars as pl

from tests.oracle.flights import ONE, model, when
from tests.oracle.model import DimensionSpec, MeasureSpec, OracleModel
from tests.oracle.zones import DAY, EPOCH, micros, moment, zone_clock

ROWS = 4_000
STORED_ZONE = "America/New_York"
NAMES = (
    *(
        "a",
        "A",
        "b",
        "",
        " ",
        "a ",
        " a",
        "NULL",
        "null",
        r"\N",
        "\\",
        r"\.",
        "a,b",
        'q"q',
        '"',
        "'",
        "''",
        "%",
        "a_b",
    ),
    *(
        "line\nbreak",
        "\r\n",
        "\t",
        "é",
        "e\u0301",
        "ß",
        "Z",
        "z",
        "\ufffd",
        "\U0001f600",
        "\u200b",
        "$1",
        "{x}",
        "--",
    ),
    *("x" * 300, "0", "1e5", "t", "nan"),
)
NUMBERS = (0.0, 1.5, -2.25, 1e-300, 1e300, 0.1, float("nan"), float("inf"), float("-inf"))
BIG = (0, 1, -1, 2**53 + 1, -(2**53) - 1, 2**61, -(2**61), 9_007_199_254_740_993)
EDGES = tuple(
    datetime(2013, month, day)  # noqa: DTZ001 - a wall-clock time
    for month, day in ((3, 10), (11, 3), (4, 7), (10, 6), (9, 29), (10, 20))
)

SCHEMA = """
CREATE TABLE events (
  id bigint PRIMARY KEY, at timestamptz NOT NULL, local timestamp, day date, name text, flag boolean, big bigint,
  qty integer, price numeric(12, 2), x double precision, y double precision
)
"""
MODEL = f"""
datasets:
  events:
    table: public.events
    primary_key: {{id: int64}}
    default_time: at
    dimensions:
      at: timestamp
      local: {{type: timestamp, stored_zone: {STORED_ZONE}}}
      day: date
      name: string
      upper: {{sql: 'upper(name COLLATE "C")', type: string}}
      flag: bool
      big: int64
      price: {{type: decimal, scale: 2}}
      x: double
    measures:
      events: count
      named: {{kind: count, column: name}}
      flagged: {{kind: count, filter: flag}}
      qty: {{kind: sum, column: qty, type: int64}}
      turnover: {{kind: sum, sql: price * qty, type: decimal, scale: 2}}
      sum_y: {{kind: sum, column: y, type: double}}
      sum_x: {{kind: sum, column: x, type: double}}
      avg_price: {{kind: avg, column: price, type: decimal, scale: 2}}
      avg_qty: {{kind: avg, column: qty, type: int64}}
      var_y: {{kind: variance, column: y}}
      dev_price: {{kind: stddev, column: price}}
      median_price: {{kind: exact_percentile, column: price, percentile: 0.5}}
      p10_y: {{kind: approx_percentile, column: y, percentile: 0.1}}
      price_per_item: {{kind: ratio, numerator: turnover, denominator: qty}}
"""
_OF_EVERY_TYPE: Mapping[str, tuple[str, int]] = {
    "at": ("TIMESTAMP", 0),
    "day": ("DATE", 0),
    "name": ("STRING", 0),
    "flag": ("BOOL", 0),
    "big": ("INT64", 0),
    "price": ("DECIMAL", 2),
    "x": ("DOUBLE", 0),
}
_KINDS = ("min", "max", "first", "last", "approx_distinct", "exact_distinct")


def yaml_model() -> str:
    """The model for the broker: some kinds are there for a column of every type."""
    lines = [
        f"      {kind}_{name}: {{kind: {kind}, column: {name}, type: {type_.lower()}"
        + (f", scale: {scale}}}" if scale else "}")
        for name, (type_, scale) in _OF_EVERY_TYPE.items()
        for kind in _KINDS
    ]
    return MODEL + "\n".join(lines) + "\n"


def rows(seed: int = 1) -> list[tuple[object, ...]]:
    """The rows of the table, in the order of its columns."""
    random = Random(seed)

    def perhaps(value: object) -> object:
        return None if random.random() < 0.15 else value

    made: list[tuple[object, ...]] = []
    for number in range(ROWS):
        near = random.choice(EDGES) + timedelta(microseconds=random.randrange(-DAY, 2 * DAY))
        far = datetime(2013, 1, 1) + timedelta(minutes=15 * random.randrange(4 * 24 * 365))  # noqa: DTZ001 - a wall-clock time
        wall = random.choice((near, far, near.replace(minute=0, second=0, microsecond=0)))
        instant = moment(micros(wall.replace(tzinfo=EPOCH.tzinfo)))
        made.append((
            number * 7 % ROWS,
            instant,
            perhaps(random.choice((near, far))),
            perhaps((wall + timedelta(days=random.randrange(-2, 3))).date()),
            perhaps(random.choice(NAMES)),
            perhaps(random.random() < 0.5),
            perhaps(random.choice(BIG)),
            perhaps(random.randrange(-5, 50)),
            perhaps(Decimal(random.randrange(-999, 99_999)) / 100 if random.random() < 0.7 else Decimal("1.10")),
            perhaps(random.choice(NUMBERS[:6] if number % 8 else NUMBERS)),
            perhaps(random.choice((random.gauss(1e6, 1.0), random.random(), 0.5))),
        ))  # fmt: skip
    return made


def events(table: list[tuple[object, ...]]) -> OracleModel:
    """The dataset as the oracle sees it."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "id": pl.Int64,
        "at": pl.Datetime("us", "UTC"),
        "local": pl.Datetime("us"),
        "day": pl.Date,
        "name": pl.String,
        "flag": pl.Boolean,
        "big": pl.Int64,
        "qty": pl.Int64,
        "price": pl.Decimal(38, 2),
        "x": pl.Float64,
        "y": pl.Float64,
    }
    frame = pl.DataFrame(table, schema=schema, orient="row")
    local = [_instant(value) for value in frame["local"].to_list()]
    frame = frame.with_columns(pl.Series("local", local, pl.Datetime("us", "UTC")))
    price, qty = pl.col("price"), pl.col("qty")
    members: dict[DimensionSpec | MeasureSpec, pl.Expr | None] = {
        DimensionSpec("at", "TIMESTAMP", time=True): pl.col("at"),
        DimensionSpec("local", "TIMESTAMP", time=True): pl.col("local"),
        DimensionSpec("day", "DATE", time=True): pl.col("day"),
        DimensionSpec("name", "STRING"): pl.col("name"),
        DimensionSpec("upper", "STRING"): pl.col("name").map_elements(_upper, pl.String),
        DimensionSpec("flag", "BOOL"): pl.col("flag"),
        DimensionSpec("big", "INT64"): pl.col("big"),
        DimensionSpec("price", "DECIMAL", scale=2): price,
        DimensionSpec("x", "DOUBLE"): pl.col("x"),
        MeasureSpec("events", "COUNT"): ONE,
        MeasureSpec("named", "COUNT", "STRING"): pl.col("name"),
        MeasureSpec("flagged", "COUNT"): when(pl.col("flag")),
        MeasureSpec("qty", "SUM"): qty,
        MeasureSpec("turnover", "SUM", "DECIMAL", 2): (price * qty.cast(pl.Decimal(38, 0))).cast(
            pl.Decimal(38, 2)
        ),
        MeasureSpec("sum_y", "SUM", "DOUBLE"): pl.col("y"),
        MeasureSpec("sum_x", "SUM", "DOUBLE"): pl.col("x"),
        MeasureSpec("avg_price", "AVG", "DECIMAL", 2): price,
        MeasureSpec("avg_qty", "AVG"): qty,
        MeasureSpec("var_y", "VARIANCE"): pl.col("y"),
        MeasureSpec("dev_price", "STDDEV"): price,
        MeasureSpec("median_price", "EXACT_PERCENTILE", percentile=0.5): price,
        MeasureSpec("p10_y", "APPROX_PERCENTILE", percentile=0.1): pl.col("y"),
        MeasureSpec("price_per_item", "RATIO", numerator="turnover", denominator="qty"): None,
    }
    for name, (type_, scale) in _OF_EVERY_TYPE.items():
        for kind in _KINDS:
            members[MeasureSpec(f"{kind}_{name}", kind.upper(), type_, scale)] = pl.col(name)
    return model("events", "at", frame, members, "id")


def _upper(text: str) -> str:
    """Of ASCII letters only, as the C locale has it."""
    return "".join(c.upper() if c.isascii() else c for c in text)


def _instant(wall: datetime | None) -> datetime | None:
    """The instant of a stored wall-clock time, as PostgreSQL reads it: of two the later, and of a skipped time the one
    that a clock which was not put forward would show."""
    if wall is None:
        return None
    clock = zone_clock(STORED_ZONE)
    local = micros(wall.replace(tzinfo=EPOCH.tzinfo))
    found = clock.instants(local)
    return moment(found[-1] if found else clock.as_if_unchanged(local))
