"""Random changes of what a drawn dataset's tables are, of which no trigger tells, and of rows after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.support.drawn.changes import correct, delete, insert
from tests.support.drawn.tables import Shape, middle_partition

Alteration = Callable[[Random, Shape, int], str]


def swapped(random: Random, shape: Shape, number: int) -> str:
    """Another table in the place of a joined one, with other rows."""
    names = f"{shape.name}_names"
    return (
        f"ALTER TABLE {names} RENAME TO {names}_{number};\n"
        f"CREATE TABLE {names} AS SELECT k, name || 'new' AS name, level, far FROM {names}_{number};\n"
        f"UPDATE {names} SET level = level + {random.randint(1, 9)}"
    )


def silenced(random: Random, shape: Shape, number: int) -> str:
    """Triggers that are switched off, on all tables that there are or on one."""
    table = random.choice((shape.name, f"{shape.name}_names"))
    return f"ALTER TABLE {table} DISABLE TRIGGER USER;\n{_change(random, shape, number)}"


def untriggered(random: Random, shape: Shape, number: int) -> str:
    """Triggers that are dropped."""
    return (
        "DO $$ DECLARE each record; BEGIN FOR each IN SELECT tgname, tgrelid::regclass AS own FROM pg_trigger "
        f"WHERE tgrelid = '{shape.name}'::regclass AND NOT tgisinternal AND tgparentid = 0 LOOP "
        "EXECUTE format('DROP TRIGGER %I ON %s', each.tgname, each.own); END LOOP; END $$;\n"
        f"{_change(random, shape, number)}"
    )


def widened(random: Random, shape: Shape, number: int) -> str:
    """A column more."""
    return (
        f"ALTER TABLE {shape.name} ADD COLUMN extra_{number} int DEFAULT 1;\n{_change(random, shape, number)}"
    )


def replaced(random: Random, shape: Shape, number: int) -> str:
    """Another column by the name of one that keeps its values under another name; no row is written for it."""
    table = f"ALTER TABLE {shape.name}"
    return ";\n".join((
        f"{table} RENAME i TO i_{number}", f"{table} ADD COLUMN i int DEFAULT {random.randint(0, 9)}",
        _change(random, shape, number),
    ))  # fmt: skip


def detached(random: Random, shape: Shape, number: int) -> str:
    """A partition less; what it holds is changed, and it comes back."""
    own = f"{shape.name}_{random.choice('bc')}"
    back = random.random() < 0.5
    if not shape.partitioned:
        return widened(random, shape, number)
    bound = "DEFAULT" if own.endswith("c") else middle_partition(shape)
    found = [f"ALTER TABLE {shape.name} DETACH PARTITION {own}"]
    if back:
        found += [
            f"UPDATE {own} SET i = 3, s = 'apart'",
            f"ALTER TABLE {shape.name} ATTACH PARTITION {own} {bound}",
        ]
    return ";\n".join(found)


def attached(random: Random, shape: Shape, number: int) -> str:
    """A partition more, with rows of the one that took what no other holds."""
    if not shape.partitioned:
        return swapped(random, shape, number)
    name, rest = f"{shape.name}_{number}", f"{shape.name}_c"
    edge = f"(SELECT max(at)::date - {random.randint(0, 9)} FROM {rest} WHERE isfinite(at))"
    return (
        f"DO $$ DECLARE edge date := {edge}; BEGIN IF edge IS NULL THEN RETURN; END IF; "
        f"CREATE TABLE {name} (LIKE {shape.name} INCLUDING GENERATED); "
        f"ALTER TABLE {shape.name} DETACH PARTITION {rest}; "
        f"DELETE FROM {rest} WHERE at >= edge AND at < edge + 30; "
        f"EXECUTE format('ALTER TABLE {shape.name} ATTACH PARTITION {name} FOR VALUES FROM (%L) TO (%L)', "
        "edge, edge + 30); "
        f"ALTER TABLE {shape.name} ATTACH PARTITION {rest} DEFAULT; END $$;\n{_change(random, shape, number)}"
    )


EVERY: Sequence[Alteration] = (
    swapped,
    silenced,
    untriggered,
    widened,
    replaced,
    detached,
    detached,
    attached,
    attached,
)


def alteration(random: Random, shape: Shape, number: int, *, viewed: bool) -> str:
    """One of them. A view goes on reading the columns that it was made of, whatever they are called since."""
    able = [each for each in EVERY if not (viewed and each is replaced)]
    return random.choice(able)(random, shape, number)


def _change(random: Random, shape: Shape, number: int) -> str:
    return random.choice((insert, correct, delete))(random, shape, number)
