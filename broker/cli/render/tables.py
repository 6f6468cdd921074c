"""Answers as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from broker.cli.render.cells import NULL, OTHER_SUFFIX, formatter, heading, is_number
from querybroker.v1.answer_pb2 import ColumnSchema


def answer_table(
    schema: Sequence[ColumnSchema],
    columns: Sequence[Sequence[object]],
    *,
    title: str = "",
    most_rows: int = 0,
) -> Table:
    """The rows of an answer, the first ``most_rows`` of them unless that is 0.

    The row of all other values, which has a flag in a column of its own, shows ``(other)`` in place of the flag.
    """
    names = [column.name for column in schema]
    flags = {
        i: names.index(name.removesuffix(OTHER_SUFFIX))
        for i, name in enumerate(names)
        if _is_flag(name, names)
    }
    texts = [
        _texts(column, values[: most_rows or None]) for column, values in zip(schema, columns, strict=True)
    ]
    for flag, dimension in flags.items():
        texts[dimension] = [
            Text("(other)", style="italic") if other else text
            for other, text in zip(columns[flag], texts[dimension], strict=False)
        ]
    shown = [i for i in range(len(schema)) if i not in flags]
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for i in shown:
        table.add_column(
            heading(schema[i]), justify="right" if is_number(schema[i]) else "left", no_wrap=True
        )
    for row in zip(*(texts[i] for i in shown), strict=True):
        table.add_row(*row)
    return table


def row_count(columns: Sequence[Sequence[object]]) -> int:
    """Rows of an answer."""
    return len(columns[0]) if columns else 0


def _is_flag(name: str, names: Sequence[str]) -> bool:
    return name.endswith(OTHER_SUFFIX) and name.removesuffix(OTHER_SUFFIX) in names


def _texts(column: ColumnSchema, values: Sequence[object]) -> list[Text]:
    write = formatter(column)
    return [Text(NULL, style="dim") if value is None else Text(write(value)) for value in values]
