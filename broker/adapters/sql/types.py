"""Typed expressions: how SQL of the model becomes values of the broker's types, and what leaves the database.

An expression has two forms. *Typed* is what is grouped, compared and ordered: a cast to the type, text by code point.
*Wire* is what is selected: the same, but instants as microseconds and dates as days since 1970, which are as fast to
write for PostgreSQL as to read for a kernel and need neither a time zone nor a date style to be understood.
"""

from __future__ import annotations

from sqlglot import exp

from broker.adapters.sql.values import DIALECT, sql_type
from broker.domain.measures import EARLIEST, LATEST
from broker.domain.values import DataType

# exp.And and its like are functions to sqlglot, and would bind less than what they stand beside.
_ATOMS = (
    exp.Column,
    exp.Literal,
    exp.Cast,
    exp.Anonymous,
    exp.AggFunc,
    exp.Paren,
    exp.Boolean,
    exp.Null,
    exp.Var,
)
MICROSECONDS = 1_000_000
NAME_BYTES = 63
"""PostgreSQL cuts identifiers after so many bytes (NAMEDATALEN)."""


def is_atom(node: exp.Expr) -> bool:
    """Whether the expression can stand beside any operator."""
    return isinstance(node, _ATOMS)


def atom(node: exp.Expr) -> exp.Expr:
    """The expression, in parentheses unless it can stand beside any operator."""
    return node if is_atom(node) else exp.Paren(this=node)


def quoted(name: str, position: int = 0) -> exp.Identifier:
    """An identifier for an output column; one too long for PostgreSQL is named by its position."""
    fits = len(name.encode()) <= NAME_BYTES
    return exp.to_identifier(name if fits else f"c{position}", quoted=True)


def cast(node: exp.Expr, kind: DataType, scale: int | None = None) -> exp.Expr:
    """A cast; a decimal without a scale keeps its digits."""
    return exp.Cast(this=node, to=sql_type(kind, scale=scale))


def by_code_point(node: exp.Expr) -> exp.Expr:
    """Text that compares by code point, as every order of the broker does."""
    return exp.Collate(this=atom(node), expression=exp.to_identifier("C", quoted=True))


def typed(node: exp.Expr, kind: DataType, scale: int = 0, stored_zone: str = "") -> exp.Expr:
    """The typed form. ``stored_zone`` is the zone in which a timestamp without one is read."""
    if kind is DataType.STRING:
        return by_code_point(cast(node, kind))
    if kind is DataType.TIMESTAMP and stored_zone:
        local = exp.Cast(this=node, to=exp.DataType.build("timestamp", dialect=DIALECT))
        return exp.Paren(this=exp.AtTimeZone(this=local, zone=exp.Literal.string(stored_zone)))
    return cast(node, kind, scale)


def wire(node: exp.Expr, kind: DataType) -> exp.Expr:
    """The wire form of a typed expression.

    ``extract`` counts instants as numeric, hence exactly; an infinite instant raises 22003, out of range.
    """
    if kind is DataType.TIMESTAMP:
        seconds = exp.Extract(this=exp.Var(this="EPOCH"), expression=node)
        return cast(exp.Mul(this=seconds, expression=exp.Literal.number(MICROSECONDS)), DataType.INT64)
    if kind is DataType.DATE:
        epoch = cast(exp.Literal.string("1970-01-01"), DataType.DATE)
        return exp.Sub(this=atom(node), expression=epoch)
    return node


def order_wire(node: exp.Expr, kind: DataType) -> exp.Expr:
    """The wire form of a time that rows are only ordered by: infinite ones are the ends of 64 bits, not an error."""
    if kind not in (DataType.TIMESTAMP, DataType.DATE):
        return wire(node, kind)
    ends = [
        exp.If(
            this=exp.EQ(this=atom(node.copy()), expression=cast(exp.Literal.string(name), kind)),
            true=cast(exp.Literal.string(str(end)), DataType.INT64),
        )
        for name, end in (("infinity", LATEST), ("-infinity", EARLIEST))
    ]
    return exp.Case(ifs=ends, default=wire(node, kind))
