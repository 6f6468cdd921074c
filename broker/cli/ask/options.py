"""The options by which commands take a question: a file, or a dataset with what to ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TextIO

import click

_NAMES = "NAME[,NAME…]"
_OPTIONS = (
    click.argument("dataset", required=False),
    click.option(
        "-f", "--file", type=click.File(), help="YAML or JSON file with the question; - reads standard input."
    ),
    click.option("-m", "--measures", multiple=True, metavar=_NAMES, help="What to aggregate."),
    click.option("-b", "--by", multiple=True, metavar=_NAMES, help="Dimensions to group by."),
    click.option(
        "-r",
        "--range",
        metavar="RANGE",
        help="2013-01-01..2013-04-01 (the end excluded), 2013, 2013-Q2, 2013-04, 'last 7 days', 'this month'.",
    ),
    click.option("-g", "--grain", metavar="GRAIN", help="Width of time buckets: hour, day, week, month, …"),
    click.option(
        "-z", "--zone", metavar="ZONE", help="Time zone of ranges and buckets, as America/New_York."
    ),
    click.option(
        "--time", "time_dimension", metavar="NAME", help="Time dimension, if not the dataset's default."
    ),
    click.option("--fill", is_flag=True, help="Return buckets without rows as well."),
    click.option(
        "-w",
        "--where",
        multiple=True,
        metavar="CONDITION",
        help='"origin = JFK and (dep_delay > 60 or carrier in (UA, AA))". Several must all hold.',
    ),
    click.option("--having", multiple=True, metavar="CONDITION", help="The same for measures of the answer."),
    click.option(
        "--order", multiple=True, metavar=_NAMES, help="Columns to sort by; --order=-flights descends."
    ),
    click.option("-n", "--limit", type=click.IntRange(min=0), help="Most rows to return."),
    click.option("--top", metavar="TOP", help="'5 dest by flights', or '5 dest by flights with other'."),
    click.option("--compare", metavar="SHIFT", help="'1 year': adds the values of that time before."),
    click.option(
        "--share",
        multiple=True,
        metavar="SHARE",
        help="'flights' or 'flights within origin': adds the share.",
    ),
    click.option(
        "--rolling", multiple=True, metavar="WINDOW", help="'flights over 7': adds the trailing window."
    ),
    click.option(
        "--policy", multiple=True, metavar="KEY=VALUE", help="Terms for the answer, as max_staleness=60s."
    ),
)
_SQL_OPTIONS = (
    click.option("--sql", metavar="SELECT", help="SQL over the datasets, where the broker allows it."),
    click.option(
        "--parameter", multiple=True, metavar="VALUE", help="Value of $1, then $2 and so on, in SQL."
    ),
)


def question_options(*, sql: bool) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Adds the options; the command takes what they say as ``data``, as `broker.cli.ask.question` reads it."""

    def decorate(command: Callable[..., object]) -> Callable[..., object]:
        names = {
            "dataset",
            "file",
            "measures",
            "by",
            "range",
            "grain",
            "zone",
            "time_dimension",
            "fill",
            "where",
        }
        names |= {
            "having",
            "order",
            "limit",
            "top",
            "compare",
            "share",
            "rolling",
            "policy",
            "sql",
            "parameter",
        }

        @wraps(command)
        def gathered(**given: Any) -> object:
            own = {name: given.pop(name) for name in names & given.keys()}
            return command(data=question_data(**own), **given)

        for option in reversed((*_OPTIONS, *(_SQL_OPTIONS if sql else ()))):
            gathered = option(gathered)
        return gathered

    return decorate


def question_data(
    *,
    file: TextIO | None,
    policy: tuple[str, ...],
    sql: str | None = None,
    parameter: tuple[str, ...] = (),
    **asked: Any,
) -> Mapping[str, object]:
    """The data of a question. Raises `click.UsageError` when the options do not go together."""
    from broker.cli.ask.question import policy_data, read_data, sql_data

    given = [name for name, value in asked.items() if value]
    ways = [bool(file), sql is not None, bool(given)]
    if sum(ways) > 1:
        raise click.UsageError("Give a file, SQL, or a dataset with its options, not several of them.")
    if not any(ways):
        raise click.UsageError(
            "There is no question: name a dataset, or a file with -f. `broker datasets` lists datasets."
        )
    if file is not None:
        data = dict(read_data(file))
        if policy:
            nested = data if {"panels", "query", "sql"} & data.keys() else {"query": data}
            own = nested.get("policy")
            return {**nested, "policy": {**(own if isinstance(own, Mapping) else {}), **policy_data(policy)}}
        return data
    if sql is not None:
        return {"sql": sql_data(sql, parameter), "policy": policy_data(policy)}
    if not asked["dataset"]:
        raise click.UsageError("Name the dataset first. `broker datasets` lists datasets.")
    return {"query": _query_data(**asked), "policy": policy_data(policy)}


def _query_data(
    *,
    dataset: str,
    range: str | None,
    grain: str | None,
    zone: str | None,
    time_dimension: str | None,
    fill: bool,
    where: tuple[str, ...],
    having: tuple[str, ...],
    measures: tuple[str, ...],
    by: tuple[str, ...],
    order: tuple[str, ...],
    share: tuple[str, ...],
    **others: Any,
) -> dict[str, object]:
    time = {"dimension": time_dimension, "grain": grain, "zone": zone, "range": range, "fill": fill or None}
    time = {key: value for key, value in time.items() if value is not None}
    return {
        "dataset": dataset,
        "measures": ",".join(measures),
        "by": ",".join(by),
        "time": time or None,
        "where": _all(where),
        "having": _all(having),
        "order": ",".join(order),
        "share": list(share),
        **{key: list(value) if isinstance(value, tuple) else value for key, value in others.items()},
    }


def _all(conditions: tuple[str, ...]) -> object:
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return {"all_of": list(conditions)}
