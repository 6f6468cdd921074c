"""Where tables and progress bars go, and what tables look like."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 500
T = TypeVar("T")


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; one that is no terminal is wide enough for every table.

    It takes texts as they are: brackets in data are no markup.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, markup=False)


def listing(columns: Iterable[str] = (), *, title: str = "", right: Collection[str] = ()) -> Table:
    """An empty table with these columns, those of ``right`` set to the right; long cells are folded."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def with_spinner(what: str, work: Callable[[], T]) -> T:
    """Shows that something goes on."""
    with console(stderr=True).status(what):
        return work()
