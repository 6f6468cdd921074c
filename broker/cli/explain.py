"""``broker explain``: how a question would be answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from broker.cli.ask.options import question_options
from broker.cli.connection import Connection, call, connection_options

if TYPE_CHECKING:
    from querybroker.v1.query_service_pb2 import ExplainResponse


@click.command()
@question_options(sql=True)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["dashboard", "explore", "job"]),
    default="explore",
    show_default=True,
    help="The call that would carry the question.",
)
@connection_options
def explain(data: Mapping[str, object], kind: Any, connection: Connection) -> None:
    """Tell how a question would be answered, without answering it.

    \b
      broker explain flights -m flights,p95_delay -b dest -r 2013-Q1

    Shows the sources that were considered, the class and its pool, the predicted cost, the columns, and, to callers
    that may see them (grant explain.statements), the SQL.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    from broker.cli.ask.question import question_of

    question = question_of(data)
    response = call(
        connection,
        lambda client: client.explain(
            question.source, policy=question.policy, kind=kind, timeout=connection.deadline
        ),
    )
    for name, text in facts(response):
        click.echo(f"{click.style(f'{name:<12}', bold=True)} {text}")
    for statement in response.statements:
        click.echo(f"\n{statement}")


def facts(response: ExplainResponse) -> Iterator[tuple[str, str]]:
    """What an explanation says, as pairs of a name and a text."""
    from broker.cli.render.status import bound_text, cost_text, interval_text, ladder_text, short
    from querybroker.v1 import answer_pb2, query_service_pb2

    kind = short(answer_pb2.AnswerKind.DESCRIPTOR, response.expected_kind)
    yield "answer", f"{kind}, {short(answer_pb2.Exactness.DESCRIPTOR, response.expected_exactness)}"
    for bound in response.bounds:
        yield "bound", bound_text(bound)
    given = response.classification
    basis = short(query_service_pb2.ClassificationBasis.DESCRIPTOR, given.basis).replace("_", " ")
    earlier = "earlier run" if given.sample_count == 1 else "earlier runs"
    runs = f", {given.sample_count} {earlier}" if given.sample_count else ""
    cost_class = short(answer_pb2.CostClass.DESCRIPTOR, given.cost_class)
    yield "class", f"{cost_class}, pool {given.pool}, from {basis}{runs}"
    for factor in given.factors:
        yield "", f"{factor.name} = {factor.value:,.6g}{f': {factor.effect}' if factor.effect else ''}"
    yield "cost", cost_text(response.predicted_cost)
    if response.HasField("resolved_range"):
        yield "range", interval_text(response.resolved_range)
    for i, step in enumerate(response.candidates):
        yield "" if i else "considered", ladder_text(step)
    yield (
        "columns",
        ", ".join(
            f"{column.name} {short(answer_pb2.DataType.DESCRIPTOR, column.type)}"
            for column in response.schema
        ),
    )
    yield "fingerprint", response.fingerprint
