"""``broker datasets``: what can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options

if TYPE_CHECKING:
    from rich.table import Table

    from querybroker.v1.catalog_service_pb2 import Dataset


@click.command()
@click.argument("name", required=False)
@connection_options
def datasets(name: str | None, connection: Connection) -> None:
    """List what can be asked, or show the dimensions and measures of one dataset."""
    from broker.cli.render.console import console

    screen = console()
    if name is None:
        found = call(connection, lambda client: client.datasets(timeout=connection.deadline))
        screen.print(_list(found))
        return
    dataset = call(connection, lambda client: client.dataset(name, timeout=connection.deadline))
    click.echo(f"{click.style(_bare(dataset), bold=True)}  {dataset.description}\n")
    screen.print(_dimensions(dataset))
    screen.print(_measures(dataset))


def _bare(dataset: Dataset) -> str:
    return dataset.name.removeprefix("datasets/")


def _list(found: list[Dataset]) -> Table:
    from broker.cli.render.console import listing

    table = listing(("dataset", "what a row is"))
    for dataset in found:
        table.add_row(_bare(dataset), dataset.description or dataset.title)
    return table


def _dimensions(dataset: Dataset) -> Table:
    from broker.cli.render.console import listing
    from broker.cli.render.status import short
    from querybroker.v1 import answer_pb2

    table = listing(("name", "type", ""), title="Dimensions")
    for dimension in dataset.dimensions:
        notes = [dimension.description or dimension.title]
        if dimension.name == dataset.default_time_dimension:
            notes.append("Default time.")
        if dimension.fans_out:
            notes.append("Not with every measure: it repeats rows.")
        kind = short(answer_pb2.DataType.DESCRIPTOR, dimension.type)
        table.add_row(dimension.name, kind, " ".join(filter(None, notes)))
    return table


def _measures(dataset: Dataset) -> Table:
    from broker.cli.render.console import listing
    from broker.cli.render.status import short
    from querybroker.v1 import answer_pb2, catalog_service_pb2

    table = listing(("name", "kind", "type", "unit", ""), title="Measures")
    for measure in dataset.measures:
        table.add_row(
            measure.name,
            short(catalog_service_pb2.MeasureKind.DESCRIPTOR, measure.kind),
            short(answer_pb2.DataType.DESCRIPTOR, measure.type),
            measure.unit,
            measure.description or measure.title,
        )
    return table
