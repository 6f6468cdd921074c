"""``broker submit``: an answer as a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.ask.options import question_options
from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit
from broker.cli.watch import going_on

if TYPE_CHECKING:
    from querybroker.client import Client
    from querybroker.v1.job_pb2 import Job, JobSpec
    from querybroker.v1.query_pb2 import Query, SqlQuery


@click.command()
@question_options(sql=True)
@click.option(
    "--format",
    type=click.Choice(["parquet", "csv", "arrow"]),
    default="parquet",
    show_default=True,
    help="Format of the files.",
)
@click.option(
    "--dataset", "kept", default="", metavar="NAME", help="Keep the answer as a dataset to ask, not as files."
)
@click.option("--keep", default="", metavar="TIME", help="How long the dataset is kept, such as 2h or 7d.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 comes first, 9 last; 5 if not given.")
@click.option(
    "--label", multiple=True, metavar="KEY=VALUE", help="A note that is kept with the job. Repeatable."
)
@click.option(
    "--request-id", default="", metavar="UUID", help="Submitting again with it returns the same job."
)
@click.option("--check", is_flag=True, help="Check everything and store nothing.")
@click.option("--wait", is_flag=True, help="Follow the job to its end, as `broker watch` does.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Wait, then download the files into this folder."
)
@connection_options
def submit(  # noqa: PLR0917 - click passes options by name
    data: Mapping[str, object],
    format: Any,
    kept: str,
    keep: str,
    priority: int | None,
    label: tuple[str, ...],
    request_id: str,
    check: bool,
    wait: bool,
    output: Path | None,
    connection: Connection,
) -> None:
    """Export an answer as a job, which goes on without this command and survives restarts.

    \b
      broker submit flights -m flights,miles -b carrier,dest,tailnum -r 2013 -g day
      broker submit flights -m flights -b dest --format csv -o exports/
      broker submit flights -m flights,miles -b carrier,dest --dataset routes --wait

    Prints the name of the job; `broker watch` and `broker jobs` take it.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    from broker.cli.ask.question import question_of

    question = question_of(data)
    work = _dataset(question.source, kept, keep)
    labels = dict(_label(text) for text in label)

    async def submitted(client: Client) -> Job:
        return await client.jobs.submit(
            work,
            format=format,
            policy=question.policy,
            priority=priority,
            labels=labels,
            request_id=request_id,
            validate_only=check,
            timeout=connection.deadline,
        )

    job = call(connection, submitted, within=f"spec.{'materialize' if kept else 'export'}.query.")
    if check:
        click.echo("The job would be accepted.")
        return
    with going_on(job.name):
        click.echo(job.name)
        if wait or output is not None:
            raise EndedError(_waited(connection, job.name, output))


def _dataset(source: Query | SqlQuery, name: str, keep: str) -> Query | SqlQuery | JobSpec:
    """The work of a submission: a dataset where it is given a name."""
    from broker.cli.ask.problems import UnreadableError
    from broker.cli.ask.shorthand import parse_duration
    from querybroker.v1.job_pb2 import JobSpec, MaterializeJob
    from querybroker.v1.query_pb2 import Query

    if not name:
        if keep:
            raise click.UsageError("--keep goes with --dataset, which names what is kept.")
        return source
    if not isinstance(source, Query):
        raise click.UsageError("--dataset keeps the answer of a query, not of SQL.")
    work = MaterializeJob(query=source, dataset=name)
    if keep:
        try:
            work.retention.CopyFrom(parse_duration(keep))
        except UnreadableError as error:
            raise click.UsageError(f"--keep: {error}.") from None
    return JobSpec(materialize=work)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"Cannot read the label {text!r}. Write it as --label team=web.")
    return key, value


def _waited(connection: Connection, name: str, output: Path | None) -> Exit:
    from broker.cli.jobs import download_all
    from broker.cli.render.console import console
    from broker.cli.watch import follow, show_end

    screen = console(stderr=True)
    job = call(connection, lambda client: follow(client, name, screen))
    code = show_end(job, connection.address)
    if code is not Exit.OK:
        return code
    if output is None and job.result.dataset:
        click.echo(f"Ask it by its name: `broker explore {job.result.dataset}`.", err=True)
    elif output is None:
        click.echo(f"Download it with `broker jobs download {name}`.", err=True)
    else:
        call(connection, lambda client: download_all(client, job, output, screen))
    return code
