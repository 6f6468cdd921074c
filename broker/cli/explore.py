"""``broker explore``: an answer of any size, streamed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from broker.cli.ask.options import question_options
from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import fail

if TYPE_CHECKING:
    from broker.cli.writers import Writer
    from querybroker.client import Client
    from querybroker.v1.answer_pb2 import AnswerStatus


@click.command()
@question_options(sql=True)
@click.option(
    "--format",
    type=click.Choice(["table", "csv", "arrow", "json"]),
    default="table",
    show_default=True,
    help="json is one object per line.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.option(
    "--rows", type=click.IntRange(min=0), default=50, show_default=True, help="Rows of a table to print."
)
@connection_options
def explore(
    data: Mapping[str, object], format: str, output: Path | None, rows: int, connection: Connection
) -> None:
    """Stream an answer of any size, to the screen or into a file.

    \b
      broker explore flights -m flights,arr_delay -b carrier,dest,tailnum -r 2013
      broker explore flights -m flights -b tailnum,dest -r 2013 -g hour --format arrow -o flights.arrow
      broker explore --sql "SELECT dest, count(*) FROM flights GROUP BY dest" --format csv

    A file appears under its name only once the answer is complete. Rows that cannot be taken as fast as they come hold
    the broker back, not the memory of either side.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    from broker.cli.ask.question import question_of
    from broker.cli.render.status import status_line
    from broker.cli.writers import wire_format

    if format == "table" and output is not None:
        raise click.UsageError("A table goes to the screen. Choose --format csv, arrow or json for a file.")
    if format == "arrow" and output is None and sys.stdout.isatty():
        raise click.UsageError("Arrow is not for the screen. Name a file with -o, or pipe it somewhere.")
    question = question_of(data)
    started = time.monotonic()

    async def stream(
        client: Client, writer: Writer, arrived: Callable[[int], None]
    ) -> tuple[AnswerStatus, int]:
        answer = client.explore(
            question.source,
            policy=question.policy,
            format=wire_format(format),
            timeout=connection.deadline,
        )
        count = 0
        async with answer:
            writer.begin(answer.schema)
            async for batch in answer:
                try:
                    writer.write(batch)
                except OverflowError as error:  # of a value that these formats can show
                    fail(f"{error}; --format csv and arrow show them.")
                count += len(batch)
                arrived(count)
        assert answer.status is not None
        return answer.status, count

    with _writer(format, output, rows) as writer, _counter(shown=output is not None) as arrived:
        status, count = call(connection, lambda client: stream(client, writer, arrived))
        writer.end()
    line = status_line(status, count, time.monotonic() - started)
    click.echo(click.style(line, dim=True), err=format != "table")
    click.echo(click.style(f"request {status.request_id}", dim=True), err=True)


@contextmanager
def _counter(*, shown: bool) -> Iterator[Callable[[int], None]]:
    """Shows the rows that have arrived so far, while an answer goes into a file."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from broker.cli.render.console import console

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    screen = console(stderr=True)
    with Progress(
        *columns, console=screen, transient=True, disable=not (shown and screen.is_terminal)
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda count: bar.update(task, completed=count)


@contextmanager
def _writer(format: str, output: Path | None, rows: int) -> Iterator[Writer]:
    """A writer to standard output or to a file, which is put into place when all went well."""
    if output is None:
        sys.stdout.flush()
        yield _open(format, sys.stdout.buffer, rows, file=False)
        return
    partial = output.with_name(f"{output.name}.part")
    try:
        with partial.open("wb") as target:
            yield _open(format, target, rows, file=True)
        partial.replace(output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _open(format: str, target: IO[bytes], rows: int, *, file: bool) -> Writer:
    from broker.cli import writers
    from broker.cli.render.console import console

    match format:
        case "csv":
            return writers.CsvWriter(target)
        case "json":
            return writers.JsonWriter(target)
        case "arrow":
            return writers.ArrowWriter(target, file=file)
        case _:
            return writers.TableWriter(console(), rows)
