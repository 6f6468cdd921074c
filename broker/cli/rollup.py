"""``broker rollup``: what is stored ahead of the questions."""

from __future__ import annotations

import click

from broker.cli.group import Group
from broker.cli.rollup_advise import advise
from broker.cli.rollup_install import drop, install, plan, seal
from broker.cli.rollup_run import build, refresh, release, status, verify

COMMANDS = (advise, plan, install, build, refresh, status, verify, release, seal, drop)


class Ordered(Group):
    """A group whose help has the commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - given by click
        """The commands in the order in which they were added."""
        return list(self.commands)


@click.group(cls=Ordered)
def rollup() -> None:
    """Propose, plan, install, build, refresh, check and drop rollups.

    A NAME is a rollup, as flights.hourly, or a dataset, for all of its rollups.

    advise, plan, install and seal talk to the database with the configuration. The others ask a running broker, or do
    it themselves with --direct.
    """


for _command in COMMANDS:
    rollup.add_command(_command)
