"""Proposes a configuration for a database: a file to start from, complete enough to ask the first question at once.

The biggest tables become datasets, foreign keys become joins, columns become dimensions and measures as
:mod:`broker.config.propose_columns` judges them. The same catalog always gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.config.propose_joins import ProposedJoin, joins_by_key, joins_by_name
from broker.config.propose_members import (
    default_time,
    judgements_of,
    labels,
    left_out,
    measures,
    own_dimensions,
)
from broker.config.propose_names import Names, flow, scalar
from broker.config.sql_text import show_table
from broker.domain.relations import DatabaseCatalog, Relation
from broker.domain.values import DataType

MAX_DATASETS = 10
_HOUSEKEEPING = (
    "migration",
    "alembic_version",
    "flyway",
    "databasechangelog",
    "spatial_ref_sys",
    "goose_db_version",
)
_WIDTH = 118
_HEAD = """\
# Proposed by `broker init` for the database {database}. Read it, rename what has a better name, remove what nobody
# needs. Then:
#
#   broker check-config --database     # compares this file with the database
#   broker migrate                     # makes the tables for jobs, rollups and shared seats, in the schema `broker`
#   broker serve                       # answers
#
# The address of the database comes from the variable DATABASE_URL; or set `database.dsn` here. The reference of
# everything that can be configured is docs/configuration.md.

server:
  host: 127.0.0.1  # this machine only; declare `auth.api_keys` before you open it to others
  port: 50051

datasets:
"""


def propose(catalog: DatabaseCatalog, tables: Sequence[str] = ()) -> str:
    """The text of a configuration over the biggest tables, or over those named (``orders`` or ``sales.orders``).

    Raises:
        ValueError: A named table does not exist or cannot be read, or there is none at all; says what there is.
    """
    chosen, others = _choose(catalog, tables)
    names = Names()
    text = _HEAD.format(database=catalog.server.database)
    for relation in chosen:
        name = names.take(relation.name, f"{relation.schema}_{relation.name}")
        text += "\n".join(_dataset(name, relation, catalog)) + "\n\n"
    if others:
        text += "# Not proposed, because they are smaller; `broker init` proposes them when they are named:\n"
        text += "".join(f"#   {relation.schema}.{relation.name}\n" for relation in others)
    return text.rstrip() + "\n"


def _choose(catalog: DatabaseCatalog, tables: Sequence[str]) -> tuple[list[Relation], list[Relation]]:
    usable = [relation for relation in catalog.relations if relation.readable and relation.columns]
    if tables:
        wanted = [[r for r in usable if table in (r.name, f"{r.schema}.{r.name}")] for table in tables]
        missing = [table for table, found in zip(tables, wanted, strict=True) if not found]
        if missing:
            known = ", ".join(f"{r.schema}.{r.name}" for r in usable) or "none"
            raise ValueError(f"no readable table or view is named {', '.join(missing)}; there are {known}")
        return list({(r.schema, r.name): r for found in wanted for r in found}.values()), []
    usable = [r for r in usable if not any(word in r.name.lower() for word in _HOUSEKEEPING)]
    if not usable:
        raise ValueError(
            f"the role {catalog.server.role!r} can read no table or view of {catalog.server.database!r}: "
            "GRANT SELECT on what is to be asked"
        )
    ordered = sorted(usable, key=lambda r: (not r.kind.stored, -r.rows, r.schema, r.name))
    return ordered[:MAX_DATASETS], ordered[MAX_DATASETS:]


def _dataset(name: str, relation: Relation, catalog: DatabaseCatalog) -> Iterator[str]:
    judgements = judgements_of(relation)
    aliases = Names(name)
    joins = joins_by_key(name, relation, catalog, aliases)
    guesses = list(joins_by_name(name, relation, catalog, aliases))
    members = Names()
    dimensions = own_dimensions(judgements, members)
    time = default_time(judgements, relation)
    default = next((line.name for line in dimensions if line.column is time and time is not None), "")
    yield f"  {name}:  # " + (
        f"about {relation.rows:,} rows" if relation.kind.stored else f"a {relation.kind}"
    )
    yield f"    table: {scalar(show_table(relation.schema, relation.name))}"
    if relation.comment:
        yield f"    description: {scalar(' '.join(relation.comment.split()))}"
    yield from _primary_key(relation)
    if default:
        yield f"    default_time: {default}"
    yield from _joins(joins, guesses)
    for join in joins:
        dimensions += labels(join, members)
    if dimensions:
        yield "    dimensions:"
        yield from (f"      {line}" for line in dimensions)
    yield from _wrapped("Left out: ", left_out(judgements))
    yield "    measures:"
    yield from (f"      {line}" for line in measures(name, judgements, members))


def _primary_key(relation: Relation) -> Iterator[str]:
    columns = [column for name in relation.primary_key if (column := relation.column(name)) is not None]
    types = {scalar(column.name): column.sql_type.type for column in columns}
    if types and None not in types.values() and DataType.DECIMAL not in types.values():
        yield f"    primary_key: {flow({name: str(kind) for name, kind in types.items()})}"


def _joins(joins: Sequence[ProposedJoin], guesses: Sequence[ProposedJoin]) -> Iterator[str]:
    if joins:
        yield "    joins:"
    for join in joins:
        yield f"      {join.name}:"
        yield f"        table: {scalar(show_table(join.relation.schema, join.relation.name))}"
        if join.parent:
            yield f"        parent: {join.parent}"
        yield f"        on: {scalar(join.on)}"
        if join.one_to_one:
            yield "        kind: one_to_one"
    if guesses:
        yield "    # By their names these belong together, though no foreign key says so; uncomment what is right:"
        if not joins:
            yield "    # joins:"
    for guess in guesses:
        table = scalar(show_table(guess.relation.schema, guess.relation.name))
        yield f"    #   {guess.name}: {flow({'table': table, 'on': scalar(guess.on)})}"


def _wrapped(start: str, parts: Sequence[str]) -> Iterator[str]:
    """A comment that lists the parts, on as many lines as it takes."""
    line = f"    # {start}"
    for i, part in enumerate(parts):
        piece = part + (", " if i < len(parts) - 1 else "")
        if len(line) + len(piece) > _WIDTH:
            yield line.rstrip()
            line = "    #   "
        line += piece
    if parts:
        yield line
