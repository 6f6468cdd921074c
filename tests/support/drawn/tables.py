"""Random small tables: values that are hard to keep, and times where buckets begin or clocks are changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from tests.oracle.events import BIG, NAMES, NUMBERS

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ERAS = (
    ((2013, 3, 8), "America/New_York"),
    ((2013, 10, 4), "Australia/Lord_Howe"),
    ((2013, 10, 26), "Europe/Berlin"),
    ((2013, 9, 27), "Pacific/Chatham"),
    ((2013, 10, 18), "America/Sao_Paulo"),
    ((2011, 12, 28), "Pacific/Apia"),
    ((2011, 3, 11), "America/St_Johns"),
    ((1969, 12, 29), "Asia/Kathmandu"),
    ((1999, 12, 27), "America/Havana"),
    ((2024, 2, 26), "Asia/Kolkata"),
    ((1883, 11, 16), "America/New_York"),
)
"""Where the rows of a dataset begin, and a zone in which something happens there."""
KEYS = ("0", "1", "2", "3", "4", "-7")
POOLS: dict[str, tuple[str, Sequence[object]]] = {
    "s": ("text", NAMES),
    "c": ("char(4)", ("a", "ab", "A", "", "é", " b")),
    "i": ("int", (-3, -1, 0, 1, 2, 3, 5, 8)),
    "big": ("bigint", (*BIG, 2**63 - 1, -(2**63))),
    "q": ("bigint", (2**52 + 1, -(2**52) - 3, 3, 7, 0, 2**40, -1)),
    "b": ("boolean", (True, False)),
    "n": ("numeric(10, 2)", ("0.00", "1.10", "-2.25", "99.99", "0.05", "10000000.01")),
    "w": ("numeric", ("1.005", "-1.005", "0.125", "0.1", "12345678901234567890.12", "-0.004", "7")),
    "f": ("double precision", (*NUMBERS, -0.0)),
    "h": ("double precision", (0.5, -1.25, 3.0, float("nan"), float("inf"), float("-inf"), 2.0, 4.0, 8.5)),
    "r": ("real", (0.1, 1.5, -2.25, 3e38, "NaN", -0.0)),
    "u": ("uuid", [f"0000000{i}-aaaa-4bbb-8ccc-{i}00000000000" for i in range(5)]),
    "net": ("inet", ("10.0.0.1", "10.0.0.0/8", "::1", "192.168.1.5/24")),
    "k": ("int", (*KEYS, "9")),
}
"""The columns that hold values out of a pool: type and pool. ``g`` and the times are made up for every row."""
COLUMNS = ("id", "code", "at", "due", "moment", "g", *POOLS)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table is like.

    ``time`` is the kind of its time column: ``zoned``, ``local`` (in ``zone``), ``date`` or ``seconds`` since 1970.
    """

    name: str
    first: date
    days: int
    zone: str
    time: str
    nullable: bool
    partitioned: bool
    referring: bool
    endless: bool

    @property
    def times(self) -> str:
        """The type of the time column."""
        return {"zoned": "timestamptz", "local": "timestamp", "date": "date", "seconds": "bigint"}[self.time]


def shape(random: Random, name: str) -> Shape:
    """A random one."""
    first, zone = random.choice(ERAS)
    time = random.choice(("zoned", "zoned", "zoned", "local", "date", "seconds"))
    return Shape(
        name,
        date(*first),
        random.choice((3, 9, 40, 400)),
        zone,
        time,
        nullable=random.random() < 0.3,
        partitioned=random.random() < 0.25 and time in ("zoned", "date"),
        referring=random.random() < 0.2,
        endless=random.random() < 0.12 and time != "seconds",
    )


def ddl(shape: Shape) -> str:
    """The statements that make the table and those that are joined to it."""
    name, filled = shape.name, "" if shape.nullable or shape.partitioned else " NOT NULL"
    refers = f" REFERENCES {name}_names (k) ON UPDATE CASCADE ON DELETE SET NULL" if shape.referring else ""
    pools = [f"{column} {kind}" + (refers if column == "k" else "") for column, (kind, _) in POOLS.items()]
    columns = [
        "id bigint NOT NULL", "code text", f"at {shape.times}{filled}", "due date", "moment timestamptz",
        "g double precision", *pools, "note text",
        "twice bigint GENERATED ALWAYS AS (q * 2) STORED",
    ]  # fmt: skip
    parted = " PARTITION BY RANGE (at)" if shape.partitioned else ""
    keys = f"unnest(ARRAY[{', '.join(KEYS)}])"
    names = "(ARRAY['x', 'y', NULL, '', 'x', 'Z'])[1 + abs(i) % 6]"
    found = [
        f"CREATE TABLE {name}_fars (far int PRIMARY KEY, title text)",
        f"CREATE TABLE {name}_names (k int PRIMARY KEY, name text, level int, far int)",
        f"INSERT INTO {name}_fars VALUES (1, 'one'), (2, ''), (3, NULL)",
        f"INSERT INTO {name}_names SELECT i, {names}, i * 10, i % 4 FROM {keys} AS i",
        f"CREATE TABLE {name} ({', '.join(columns)}){parted}",
    ]
    if shape.partitioned:
        middle = shape.first + DAY * (shape.days // 2)
        found += [
            f"CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO ('{middle}')",
            f"CREATE TABLE {name}_b PARTITION OF {name} {middle_partition(shape)}",
            f"CREATE TABLE {name}_c PARTITION OF {name} DEFAULT",
        ]
    else:
        found.append(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
    return ";\n".join((*found, f"CREATE INDEX ON {name} (at)"))


def middle_partition(shape: Shape) -> str:
    """What the partition in the middle holds."""
    middle = shape.first + DAY * (shape.days // 2)
    return f"FOR VALUES FROM ('{middle}') TO ('{middle + DAY * 2}')"


def instant(random: Random, shape: Shape) -> datetime:
    """A moment among the days of a table: anywhere, or where a bucket begins somewhere, or right before or after."""
    start = datetime.combine(shape.first, datetime.min.time(), UTC)
    found = start + TICK * random.randrange(shape.days * 86_400_000_000)
    if random.random() < 0.5:
        zone = ZoneInfo(random.choice((shape.zone, "UTC", "Asia/Kathmandu", "America/New_York")))
        local = found.astimezone(zone).replace(second=0, microsecond=0)
        width = random.choice((1, 15, 15, 60, 1440))
        minutes = local.hour * 60 + local.minute
        local = local.replace(hour=0, minute=0) + timedelta(minutes=minutes - minutes % width)
        found = local.astimezone(UTC) + TICK * random.choice((0, 0, -1, 1))
    return found


def time_literal(random: Random, shape: Shape) -> str:
    """A time as the table stores it, as SQL."""
    if shape.nullable and random.random() < 0.06:
        return "NULL"
    if shape.endless and random.random() < 0.05:
        return random.choice(("'infinity'", "'-infinity'", "'20000-01-01'", "'0044-03-15 BC'"))
    return stored(instant(random, shape), shape)


def stored(at: datetime, shape: Shape) -> str:
    """An instant as the table stores it, as SQL."""
    match shape.time:
        case "zoned":
            return f"'{at.isoformat()}'"
        case "local":
            return f"'{at.astimezone(ZoneInfo(shape.zone)).replace(tzinfo=None).isoformat()}'"
        case "date":
            return f"'{at.date()}'"
        case _:
            return str(int(at.timestamp()))


def literal(value: object) -> str:
    """A value as an SQL literal, whose type is that of its column."""
    if value is None:
        return "NULL"
    text = {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)
    return "'" + text.replace("'", "''") + "'"


def row(random: Random, shape: Shape, number: int) -> str:
    """A row as SQL, in the order of ``COLUMNS``."""
    due = shape.first + DAY * random.randrange(-2, shape.days + 2)
    values = [
        str(number),
        literal(f"c{number * 7 % 11}-{number}"),
        time_literal(random, shape),
        "NULL" if random.random() < 0.1 else f"'{due}'",
        "NULL" if random.random() < 0.1 else f"'{instant(random, shape).isoformat()}'",
        "NULL" if random.random() < 0.1 else repr(random.choice((random.gauss(0, 10), random.gauss(1e6, 1)))),
    ]
    values += [pooled(random, shape, column) for column in POOLS]
    return f"({', '.join(values)})"


def pooled(random: Random, shape: Shape, column: str) -> str:
    """A value of a column out of its pool, or null, as SQL."""
    pool = KEYS if column == "k" and shape.referring else POOLS[column][1]
    if column == "s":
        pool = [pool[i] for i in range(hash_of(shape.name) % 7, len(pool), 4)]
    return "NULL" if random.random() < 0.12 else literal(random.choice(pool))


def hash_of(name: str) -> int:
    """A number for a name, the same in every process."""
    return sum(name.encode())


def inserted(random: Random, shape: Shape, first: int, count: int) -> str:
    """The statement that inserts so many random rows, numbered from ``first``."""
    rows = ",\n".join(row(random, shape, first + i) for i in range(count))
    return f"INSERT INTO {shape.name} ({', '.join(COLUMNS)}) VALUES\n{rows}"


def token(shape: Shape) -> str:
    """A query whose value is another one after every change of the table, or of those that are joined to it."""
    tables = (shape.name, f"{shape.name}_names", f"{shape.name}_fars")
    sums = (
        f"(SELECT coalesce(sum(hashtextextended(t::text, 0)), 0) FROM public.{each} AS t)" for each in tables
    )
    return f"SELECT concat_ws(' ', {', '.join(sums)})"


def instants(shape: Shape, time: str) -> str:
    """The SQL of a time dimension as an instant; dates are their midnights in UTC."""
    column = f"{shape.name}.{time}"
    if time == "moment" or (time == "at" and shape.time == "zoned"):
        return column
    if time == "at" and shape.time == "seconds":
        return f"to_timestamp({column})"
    zone = shape.zone if time == "at" and shape.time == "local" else "UTC"
    return f"({column}::timestamp AT TIME ZONE '{zone}')"
