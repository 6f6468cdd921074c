"""What a database says about itself: its tables and views, their columns and keys, and the server, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.domain.values import DataType


class RelationKind(StrEnum):
    """What stands behind a name that can be selected from."""

    TABLE = "table"
    PARTITIONED = "partitioned table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    FOREIGN = "foreign table"

    @property
    def stored(self) -> bool:
        """Whether it has rows of its own, on which keys and indexes can stand."""
        return self in (RelationKind.TABLE, RelationKind.PARTITIONED)


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type of PostgreSQL as it shows it (``numeric(10,2)``), and the type of the broker that holds its values.

    ``type`` is None when there is none, so that an expression must convert it. ``scale`` counts the digits after the
    point where the type limits them. ``zoned`` is false for a timestamp without time zone.
    """

    name: str
    type: DataType | None
    scale: int | None = None
    zoned: bool = True


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column. ``distinct`` estimates its distinct values; None when never analysed.

    ``folding`` when its collation takes some different texts for equal.
    """

    name: str
    sql_type: SqlType
    nullable: bool = True
    distinct: float | None = None
    comment: str = ""
    folding: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that point to a row of another relation: ``columns[i]`` to its ``referenced[i]``."""

    columns: tuple[str, ...]
    schema: str
    table: str
    referenced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view.

    ``rows`` is an estimate, 0 for views; ``unique_keys`` hold for every row; ``indexed`` are the columns that lead an
    index; ``ranged_by`` is the column whose ranges its partitions are; ``readable`` says whether the current role may
    select from it, ``secured`` whether row level security decides which of its rows that role sees.
    """

    schema: str
    name: str
    kind: RelationKind
    columns: tuple[RelationColumn, ...]
    primary_key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    indexed: frozenset[str] = frozenset()
    ranged_by: str = ""
    rows: int = 0
    readable: bool = True
    secured: bool = False
    comment: str = ""

    def column(self, name: str) -> RelationColumn | None:
        """The column of a name."""
        return next((column for column in self.columns if column.name == name), None)

    def narrowed(self, name: str) -> bool:
        """Whether a range of a column can be read without reading all rows."""
        return name in self.indexed or name == self.ranged_by


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server and the role it knows the broker by. ``reserved_connections`` are kept from ordinary roles."""

    version: str
    database: str
    role: str
    superuser: bool = False
    replica: bool = False
    max_connections: int = 100
    reserved_connections: int = 3


@dataclass(frozen=True, slots=True)
class DatabaseCatalog:
    """Everything that can be selected from, in the order of schema and name."""

    server: ServerFacts
    relations: tuple[Relation, ...]

    def relation(self, schema: str, name: str) -> Relation | None:
        """The relation of a name."""
        return next((r for r in self.relations if (r.schema, r.name) == (schema, name)), None)


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """What is known of the functions that share a name: whether any of them has the property."""

    name: str
    volatile: bool = False
    aggregate: bool = False
    returns_set: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """Types of a statement's columns, found without running it; or what PostgreSQL has against it."""

    types: tuple[SqlType, ...] = ()
    error: str = ""
