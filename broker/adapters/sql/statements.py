"""Compiled statements: what is run for a plan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from broker.adapters.sql.values import SqlText, Value
from broker.domain.values import Column, DataType


@dataclass(frozen=True, slots=True)
class Compiled:
    """One statement of a shape: its text, the columns of its result, and those of them that COPY is to quote.

    ``ordered`` when the rows have an order that matters, ``limited`` when the last value is a limit. ``dated`` is the
    prepared text with one more column, the last: the instant at which the statement began.
    """

    text: SqlText
    dated: str
    columns: tuple[Column, ...]
    force_quote: tuple[str, ...]
    ordered: bool = False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its values.

    ``shape`` is equal for statements that differ in values only; ``row_limit`` is the largest possible number of rows,
    None when nothing bounds it.
    """

    compiled: Compiled
    values: tuple[Value, ...]
    shape: Hashable
    dataset: str
    row_limit: int | None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the result."""
        return self.compiled.columns

    @property
    def sendable(self) -> bool:
        """Whether the extended protocol will do; else the values have to be literals."""
        return self.compiled.text.sendable(self.values)

    def whole(self) -> tuple[str, tuple[Value, ...]]:
        """Text and values for the extended protocol."""
        return self.compiled.text.prepared, self.values

    def capped(self, rows: int, *, dated: bool = False) -> tuple[str, tuple[Value, ...]]:
        """The same, but with at most so many rows.

        A limit in the protocol would switch parallel workers off (PostgreSQL, standard_ExecutorRun), and a limit right
        above the groups would make the planner prefer plans that find the first groups fast; above a sort it changes
        nothing (set_subquery_pathlist).
        """
        compiled = self.compiled
        text = compiled.dated if dated else compiled.text.prepared
        if compiled.limited:
            limit = self.values[-1]
            assert isinstance(limit, int), "a limit counts rows"
            return text, (*self.values[:-1], min(limit, rows))
        place = f"${len(self.values) + 1}::bigint"
        if compiled.ordered:
            return f"{text} LIMIT {place}", (*self.values, rows)
        framed = f"SELECT * FROM ({text}) AS capped ORDER BY 1 LIMIT {place}"  # noqa: S608 - a frame
        return framed, (*self.values, rows)

    def literal(self) -> str:
        """The text with the values as literals, for COPY."""
        return self.compiled.text.literal(self.values)


@dataclass(frozen=True, slots=True)
class ScanStatements:
    """The statements of one scan.

    ``grouped`` is None when there is nothing to group, no keys and no state in SQL; ``values`` has one statement for
    every sketched measure.
    """

    grouped: Statement | None
    values: Mapping[str, Statement] = field(default_factory=dict)

    def all(self) -> tuple[Statement, ...]:
        """Every statement, the grouped one first."""
        return (*((self.grouped,) if self.grouped is not None else ()), *self.values.values())


def first_text(columns: tuple[Column, ...], name: str) -> tuple[str, ...]:
    """The first column's name when it is text, for COPY to quote.

    Unquoted, a byte order mark at the start of a block would be taken for the mark of a file, and get lost.
    """
    return (name,) if columns and columns[0].type is DataType.STRING else ()
