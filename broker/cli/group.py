"""A command with commands of its own, whose help shows what each of them does."""

from __future__ import annotations

import click

_ANY_LENGTH = 1_000


class Group(click.Group):
    """Lists its commands with the whole first sentence of their help, where click cuts it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The section ``Commands`` of the help."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(n, c.get_short_help_str(_ANY_LENGTH)) for n, c in found if c is not None])
