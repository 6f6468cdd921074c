"""Where tables and progress bars go."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDE = 500


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; one that is no terminal is wide enough for every table.

    It takes texts as they are: brackets in data are no markup.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, markup=False)
