"""The command ``broker``: which commands there are, where they live, and how errors become exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

from broker.cli.ask.problems import QuestionError
from broker.cli.exits import CommandError, EndedError, Exit

COMMANDS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Run a broker": {
        "demo": ("demo", "Start a PostgreSQL with real flights, a broker and a worker."),
        "init": ("init", "Propose a configuration from the catalog of a database."),
        "check-config": ("check_config", "Check a configuration, and that it fits the database."),
        "key": ("key", "Make an API key, and its entry in the configuration."),
        "migrate": ("migrate", "Make or update the broker's own tables."),
        "serve": ("serve", "Run the broker."),
        "worker": ("serve", "Run a worker for jobs."),
        "cluster": ("cluster", "Start a Dask cluster on this machine, for calculations."),
        "simulate": ("simulate", "Try scenarios of overload, and what breaks first when a load doubles."),
    },
    "Ask a broker": {
        "ping": ("ping", "Tell whether a broker serves, and how fast it replies."),
        "datasets": ("datasets", "List what can be asked, or show one dataset."),
        "query": ("query", "Ask one question, or the panels of a dashboard."),
        "explore": ("explore", "Stream an answer of any size."),
        "explain": ("explain", "Tell how a question would be answered."),
    },
    "Rollups": {
        "rollup": ("rollup", "Plan, install, build, refresh, check and drop rollups."),
    },
    "Cache": {
        "cache": ("cache", "Show the tiers of the cache, and remove answers."),
    },
    "Jobs": {
        "submit": ("submit", "Export an answer as a job."),
        "watch": ("watch", "Follow a job to its end."),
        "jobs": ("jobs", "List jobs, show or cancel one, download its result."),
    },
}
"""Sections of the help; each command with its module in `broker.cli` and its one line of help."""


class Program(click.Group):
    """A group that imports the module of a command only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - given by click
        """All commands, in the order of the help."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - given by click
        """The command, imported now; None when there is none of that name."""
        for section in COMMANDS.values():
            if cmd_name in section:
                module = import_module(f"broker.cli.{section[cmd_name][0]}")
                command = getattr(module, cmd_name.replace("-", "_"))
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; an unknown one is answered with the nearest name."""
        from difflib import get_close_matches

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "`broker --help` lists the commands."
            ctx.fail(f"There is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, without importing any of them."""
        width = max(map(len, self.list_commands(ctx)))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in section.items()])


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 wrong configuration, 4 refused for good, 5 not allowed, "
    "6 try again later, 7 deadline passed, 8 the job failed, 130 stopped by Ctrl-C.",
)
@click.version_option(package_name="querybroker-server", prog_name="broker")
def broker() -> None:
    """Broker of analytical questions in front of PostgreSQL.

    Begin with `broker demo`. With a database of your own: `broker init`, `broker check-config`, `broker serve`.
    """


def run(arguments: list[str] | None = None) -> int:
    """Run a command line (None: that of the process) and return its exit code."""
    try:
        return _exit_code(broker.main(arguments, prog_name="broker", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return Exit.INTERRUPTED
    except QuestionError as error:
        click.echo("The question cannot be sent:", err=True)
        for place, text in error.problems:
            click.echo(f"  {click.style(place, bold=True)}: {text}" if place else f"  {text}", err=True)
        return Exit.USAGE
    except EndedError as error:
        return error.code
    except CommandError as error:
        click.echo(str(error), err=True)
        return error.code
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"{error.filename}: {error.strerror}.", err=True)
        return Exit.FAILED


def _exit_code(result: object) -> int:
    return result if isinstance(result, int) else Exit.OK
