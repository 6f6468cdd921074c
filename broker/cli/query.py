"""``broker query``: one question, or the panels of a dashboard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from broker.cli.ask.options import question_options
from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit, fail

if TYPE_CHECKING:
    from broker.cli.writers import Writer
    from querybroker.result import Dashboard, Result


@click.command()
@question_options(sql=False)
@click.option(
    "--format",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="json is one object per line.",
)
@connection_options
def query(data: Mapping[str, object], format: str, connection: Connection) -> None:
    """Ask one question, or the panels of a dashboard from a file, and print the answers.

    \b
      broker query flights -m flights,dep_delay -b carrier -r 2013 --order=-flights
      broker query flights -m flights -r 2013-01 -g day -w "origin = JFK and dest in (SFO, LAX)"
      broker query -f dashboard.yaml

    A file holds a query, with the names of the contract or of these options as keys, or `panels` with several.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    from broker.cli.ask.question import dashboard_of
    from broker.cli.render.cells import duration_text
    from broker.cli.render.status import clock_text

    request = dashboard_of(data)
    if format == "csv" and len(request.panels) > 1:
        raise click.UsageError("CSV holds one answer. Choose table or json for several panels.")
    panels = {panel.panel_id or str(i): panel for i, panel in enumerate(request.panels)}
    if len(panels) < len(request.panels):
        raise click.UsageError("Every panel needs an id of its own.")
    started = time.monotonic()
    dashboard = call(
        connection,
        lambda client: client.dashboard(
            panels,
            policy=request.policy,
            format="arrow" if format == "csv" else "columns",
            dashboard_id=request.dashboard_id,
            timeout=connection.deadline,
        ),
        within="panels[0].query." if len(panels) == 1 else "",
    )
    seconds = time.monotonic() - started
    codes = [_show(dashboard, name, format, seconds, connection) for name in dashboard]
    if len(dashboard) > 1:
        count = f"{len(dashboard)} panels in {duration_text(seconds)}"
        taken = dashboard.snapshot_time
        snapshot = f", from one snapshot of {clock_text(taken)}" if taken is not None else ""
        click.echo(click.style(f"{count}{snapshot}", bold=True), err=format != "table")
    click.echo(click.style(f"request {dashboard.request_id}", dim=True), err=True)
    if any(codes):
        raise EndedError(max(codes))


def _show(dashboard: Dashboard, name: str, format: str, seconds: float, connection: Connection) -> Exit:
    """Prints one panel and its status, or its error."""
    from broker.cli.failures import show_error
    from broker.cli.render.status import status_line

    several = len(dashboard) > 1
    if (error := dashboard.errors.get(name)) is not None:
        return show_error(error, connection.address, subject=name if several else "")
    result = dashboard[name]
    _write(result, _writer(format, name if several else None))
    line = status_line(result.status, len(result), None if several else seconds)
    click.echo(click.style(line + "\n" * several, dim=True), err=format != "table")
    return Exit.OK


def _write(result: Result, writer: Writer) -> None:
    writer.begin(result.schema)
    try:
        for batch in result.batches:
            writer.write(batch)
    except OverflowError as error:  # of a value that only --format csv can show
        fail(f"{error}; --format csv shows them.")
    writer.end()


def _writer(format: str, panel: str | None) -> Writer:
    from broker.cli import writers

    sys.stdout.flush()
    if format == "csv":
        return writers.CsvWriter(sys.stdout.buffer)
    if format == "json":
        return writers.JsonWriter(sys.stdout.buffer, panel)
    from broker.cli.render.console import console

    return writers.TableWriter(console(), sys.maxsize, panel or "")
