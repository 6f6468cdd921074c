"""Random changes of a drawn table: late rows, rows that move, corrections, deletions, changes of joined tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.support.drawn.tables import (
    COLUMNS,
    KEYS,
    POOLS,
    Shape,
    inserted,
    instant,
    literal,
    pooled,
    row,
    stored,
    time_literal,
)

Change = Callable[[Random, Shape, int], str]
CORRECTED = ("s", "c", "i", "big", "q", "b", "n", "w", "f", "h", "u", "net")
FRESH = 1_000_000
"""Numbers of rows that are inserted later begin here, times how often that was done."""


def insert(random: Random, shape: Shape, number: int) -> str:
    """More rows, some of them late."""
    return inserted(random, shape, FRESH * (number + 1), random.randint(1, 12))


def upsert(random: Random, shape: Shape, number: int) -> str:
    """A row that is replaced where it is there."""
    if shape.partitioned:
        return insert(random, shape, number)
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name != "id")
    values = row(random, shape, random.randint(1, 60))
    return f"INSERT INTO {shape.name} ({', '.join(COLUMNS)}) VALUES {values} ON CONFLICT (id) DO UPDATE SET {sets}"


def move(random: Random, shape: Shape, _: int) -> str:
    """Rows to another time."""
    to = time_literal(random, shape)
    if random.random() < 0.5:
        to = stored(instant(random, shape), shape)
    return f"UPDATE {shape.name} SET at = {to} WHERE {_some(random)}"


def correct(random: Random, shape: Shape, _: int) -> str:
    """Other values in some columns."""
    names = random.sample(CORRECTED, random.randint(1, 3))
    sets = ", ".join(f"{name} = {pooled(random, shape, name)}" for name in names)
    return f"UPDATE {shape.name} SET {sets} WHERE {_some(random)}"


def renumber(random: Random, shape: Shape, number: int) -> str:
    """Other keys, by which the first and last of equal times are decided, and a column that nobody reads."""
    name = random.choice(("id = id + 50000000", "code = 'z' || code", "note = 'new'"))
    more = f"{name}, note = '{number}'" if not name.startswith("note") else name
    return f"UPDATE {shape.name} SET {more} WHERE {_some(random)} AND id < 50000000"


def due(random: Random, shape: Shape, _: int) -> str:
    """Other dates, and links to joined rows."""
    sets = random.choice(
        (
            "due = due + 1",
            "due = NULL",
            "moment = moment - interval '1 hour'",
            f"k = {literal(random.choice(KEYS))}",
        )
    )
    return f"UPDATE {shape.name} SET {sets} WHERE {_some(random)}"


def delete(random: Random, shape: Shape, _: int) -> str:
    """Fewer rows."""
    return f"DELETE FROM {shape.name} WHERE {_some(random)}"


def rejoin(random: Random, shape: Shape, number: int) -> str:
    """Other rows in the tables that are joined."""
    key = literal(random.choice(KEYS))
    names, fars = f"{shape.name}_names", f"{shape.name}_fars"
    return random.choice((
        f"UPDATE {names} SET name = 'new {number}' WHERE k = {key}",
        f"UPDATE {names} SET level = level + 1",
        f"UPDATE {names} SET far = NULL WHERE k = {key}",
        f"UPDATE {fars} SET title = 'far {number}' WHERE far = {random.randint(1, 3)}",
        f"DELETE FROM {names} WHERE k = {key}",
        f"UPDATE {names} SET k = k + 100 WHERE k = {key}",
        f"INSERT INTO {names} VALUES (9, 'nine', 9, 1) ON CONFLICT (k) DO UPDATE SET name = 'again'",
    ))  # fmt: skip


def empty(random: Random, shape: Shape, number: int) -> str:
    """No rows at all, in a partition or for a moment."""
    if shape.partitioned:
        return f"TRUNCATE {shape.name}_{random.choice('abc')}"
    return (
        f"TRUNCATE {shape.name}; {insert(random, shape, number)}"
        if random.random() < 0.2
        else delete(random, shape, number)
    )


def merge(random: Random, shape: Shape, _: int) -> str:
    """Corrections and deletions by one statement."""
    return (
        f"MERGE INTO {shape.name} AS t USING (SELECT generate_series(1, 40) AS n) AS s ON t.id = s.n "
        f"WHEN MATCHED AND t.i > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET i = {random.choice((0, 4, 7))}"
    )


def directly(random: Random, shape: Shape, number: int) -> str:
    """A change of a partition by its own name, which triggers of the whole table do not see."""
    if not shape.partitioned:
        return delete(random, shape, number)
    rest = f"{shape.name}_c"
    return random.choice((
        f"UPDATE {rest} SET i = 5 WHERE {_some(random)}",
        f"DELETE FROM {rest} WHERE {_some(random)}",
        f"INSERT INTO {rest} ({', '.join(COLUMNS)}) SELECT {_copied(number)} FROM {rest} WHERE {_some(random)}",
    ))  # fmt: skip


def again(random: Random, shape: Shape, number: int) -> str:
    """Rows that are taken out and put in again by one statement, at another time."""
    return (
        f"WITH gone AS (DELETE FROM {shape.name} WHERE {_some(random)} RETURNING *) INSERT INTO {shape.name} "
        f"({', '.join(COLUMNS)}) SELECT {_copied(number)} FROM gone"
    )


def by_another(random: Random, shape: Shape, _: int) -> str:
    """Rows that are changed, or go, by what a joined table says."""
    names = f"{shape.name}_names AS other"
    which = f"other.k = {shape.name}.k AND other.level > {random.choice((0, 10, 20))} AND {_some(random)}"
    return random.choice((
        f"UPDATE {shape.name} SET i = other.level FROM {names} WHERE {which}",
        f"DELETE FROM {shape.name} USING {names} WHERE {which}",
    ))  # fmt: skip


def undone(random: Random, shape: Shape, number: int) -> str:
    """A change that is taken back within its transaction, and one after it."""
    back, kept = random.choice(PLAIN)(random, shape, number), random.choice(PLAIN)(random, shape, number)
    return f"SAVEPOINT before;\n{back};\nROLLBACK TO before;\n{kept}"


def replicated(random: Random, shape: Shape, number: int) -> str:
    """A change as a subscription applies it: triggers are silent unless they are always enabled."""
    change = random.choice(PLAIN)(random, shape, number)
    role = "SET LOCAL session_replication_role ="
    return f"{role} replica;\n{change};\n{role} origin"


PLAIN: Sequence[Change] = (insert, move, correct, due, delete, rejoin, empty)
EVERY: Sequence[Change] = (
    insert, insert, upsert, move, move, correct, correct, renumber, due, delete, rejoin, empty, merge,
    directly, again, by_another, undone, replicated,
)  # fmt: skip


def changes(random: Random, shape: Shape, number: int) -> str:
    """One to four changes, to be made in one transaction."""
    count = random.randint(1, 4)
    return ";\n".join(random.choice(EVERY)(random, shape, number * 10 + i) for i in range(count))


def _copied(number: int) -> str:
    """The columns of a row, with a number of its own."""
    return ", ".join(f"id + {FRESH * (number + 1) + 500_000}" if name == "id" else name for name in COLUMNS)


def _some(random: Random) -> str:
    """Which rows: few, by number, by value, or a stretch of them."""
    part = random.randrange(2, 30)
    at = random.randrange(1, 200)
    value = random.choice(POOLS["i"][1])
    return random.choice((
        f"id % {part} = {random.randrange(part)}", f"id = {at}", f"id BETWEEN {at} AND {at + random.randrange(20)}",
        f"i = {value} AND id % 2 = 0",
    ))  # fmt: skip
