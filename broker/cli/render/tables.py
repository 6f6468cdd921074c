"""Answers as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from broker.cli.render.cells import NULL, OTHER_SUFFIX, formatter, heading, is_number
from broker.cli.render.console import listing
from querybroker.v1.answer_pb2 import ColumnSchema

_VISIBLE: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{ord(control): repr(control)[1:-1] for control in "\t\n\r"},
}
"""Control characters in values, which would break the lines of a table or steer the terminal, as they are escaped."""


def answer_table(
    schema: Sequence[ColumnSchema], rows: Sequence[Sequence[object]], *, title: str = "", narrow: bool = False
) -> Table:
    """The rows of an answer; ``narrow`` breaks long names of columns.

    A row of all other values, which a column of its own marks, shows ``(other)`` in place of that column.
    """
    names = [column.name for column in schema]
    marks = {
        names.index(name.removesuffix(OTHER_SUFFIX)): i
        for i, name in enumerate(names)
        if name.endswith(OTHER_SUFFIX) and name.removesuffix(OTHER_SUFFIX) in names
    }
    shown = [i for i in range(len(schema)) if i not in marks.values()]
    write = [formatter(column) for column in schema]
    table = listing(title=title)
    for i in shown:
        table.add_column(
            heading(schema[i], narrow=narrow),
            justify="right" if is_number(schema[i]) else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(write[i], row[i], other=i in marks and bool(row[marks[i]])) for i in shown))
    return table


def _cell(write: Callable[[object], str], value: object, *, other: bool) -> Text:
    if other:
        return Text("(other)", style="italic")
    return Text(NULL, style="dim") if value is None else Text(write(value).translate(_VISIBLE))
