"""SQL text with places for values, rendered once as a tree and then filled without touching the tree again.

A statement is needed in two forms: with bind parameters for the extended protocol, and with literals for COPY, which
takes no parameters. Both come from the same rendering: every value stands in the tree as a marker inside a cast,
``CAST(<0> AS TIMESTAMPTZ)``, the text is cut at the markers, and the pieces are joined with ``$1`` or with a literal.
A marker holds NUL characters, which no SQL text can contain, so the cut can never hit a string of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from sqlglot import exp

from broker.domain.errors import Violation, invalid
from broker.domain.values import DataType, Scalar

DIALECT = "postgres"
MARK = "\x00"
_ENDS = frozenset({
    date.min, date.max, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC),
})  # fmt: skip

Value = Scalar | tuple[Scalar, ...]
"""What fills a place: a scalar, or a tuple of them where the place is an array."""

SQL_TYPES = {
    DataType.INT64: "bigint",
    DataType.DOUBLE: "double precision",
    DataType.DECIMAL: "numeric",
    DataType.BOOL: "boolean",
    DataType.STRING: "text",
    DataType.TIMESTAMP: "timestamptz",
    DataType.DATE: "date",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The type of a value's place."""

    type: DataType
    array: bool = False


class Places:
    """Hands out places in the order in which the values will come."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def add(self, kind: DataType, *, array: bool = False) -> exp.Expr:
        """The node of the next value."""
        marker = exp.Var(this=f"{MARK}{len(self._places)}{MARK}")
        self._places.append(Place(kind, array))
        return exp.Cast(this=marker, to=sql_type(kind, array=array))

    def all(self) -> tuple[Place, ...]:
        """Every place so far, in order."""
        return tuple(self._places)


@dataclass(frozen=True, slots=True)
class SqlText:
    """A rendered statement: ``pieces[i]`` is followed by the value ``order[i]``, the last piece by nothing."""

    pieces: tuple[str, ...]
    order: tuple[int, ...]
    places: tuple[Place, ...]
    prepared: str

    def numbered(self, before: int) -> str:
        """The prepared statement, with so many parameters before its own."""
        return _numbered(self.pieces, self.order, before)

    def sendable(self, values: Sequence[Value]) -> bool:
        """Whether the driver sends the values as they are: asyncpg takes the ends of Python's calendar for infinity."""
        return not any(map(_at_an_end, values, self.places))

    def literal(self, values: Sequence[Value]) -> str:
        """The statement with the values as literals."""
        texts = [literal(value, place) for value, place in zip(values, self.places, strict=True)]
        parts = [self.pieces[0]]
        for position, piece in zip(self.order, self.pieces[1:], strict=True):
            parts += [texts[position], piece]
        return "".join(parts)


def render(tree: exp.Expr, places: Places, *, pretty: bool = False) -> SqlText:
    """Renders a tree. Every place that was handed out must occur in it."""
    cut = tree.sql(dialect=DIALECT, comments=False, pretty=pretty).split(MARK)
    pieces, order = tuple(cut[::2]), tuple(map(int, cut[1::2]))
    known = places.all()
    assert set(order) == set(range(len(known))), "a value has no place in the statement"
    return SqlText(pieces, order, known, _numbered(pieces, order, 0))


def _numbered(pieces: Sequence[str], order: Sequence[int], before: int) -> str:
    places = zip(order, pieces[1:], strict=True)
    return pieces[0] + "".join(f"${before + position + 1}{piece}" for position, piece in places)


def sql_type(kind: DataType, *, scale: int | None = None, array: bool = False) -> exp.DataType:
    """The PostgreSQL type that carries values of a type; ``scale`` limits a decimal's digits."""
    name = SQL_TYPES[kind]
    if kind is DataType.DECIMAL and scale is not None:
        name = f"numeric(38, {scale})"
    return exp.DataType.build(f"{name}[]" if array else name, dialect=DIALECT)


def literal(value: Value, place: Place) -> str:
    """The value as SQL text, made by sqlglot; it stands inside a cast to the place's type.

    An array of instants or dates is one string such as ``'{2024-01-01,2024-01-02}'``: grids are long, their texts hold
    nothing that would need escaping, and a node per element would take seconds.
    """
    if not isinstance(value, tuple):
        return _node(value).sql(dialect=DIALECT)
    if place.type in (DataType.TIMESTAMP, DataType.DATE):
        return exp.Literal.string("{" + ",".join(map(_temporal, value)) + "}").sql(dialect=DIALECT)
    return exp.Array(expressions=[_node(v) for v in value]).sql(dialect=DIALECT)


def _at_an_end(value: Value, place: Place) -> bool:
    dated = place.type is DataType.TIMESTAMP or place.type is DataType.DATE
    return dated and not _ENDS.isdisjoint(value if isinstance(value, tuple) else (value,))


def _temporal(value: Scalar) -> str:
    assert isinstance(value, date)
    return value.isoformat()


def _node(value: Scalar) -> exp.Expr:
    match value:
        case bool():
            return exp.Boolean(this=value)
        case int():
            return exp.Literal.number(value)
        case float():
            return exp.Literal.string(repr(value))
        case Decimal():
            return exp.Literal.string(f"{value:f}")
        case datetime() | date():
            return exp.Literal.string(value.isoformat())
        case str():
            return exp.Literal.string(value)


def checked_text(value: str, field: str) -> str:
    """The text, if PostgreSQL can hold it.

    Raises:
        BrokerError: INVALID_REQUEST for a NUL character or half of a surrogate pair.
    """
    if MARK in value or not _encodable(value):
        text = "text values must be valid Unicode without the NUL character, which PostgreSQL cannot hold"
        raise invalid([Violation(field, text, "VALUE_TEXT")])
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
