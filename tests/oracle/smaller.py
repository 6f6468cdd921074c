"""Makes a failing query smaller while it keeps failing, so that what is reported shows little but the fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from querybroker.v1 import query_pb2 as q

Fails = Callable[[q.Query], Awaitable[str | None]]
"""Tells what is wrong with the answer of a query, None when nothing is or the query is not valid."""
MAX_TRIES = 300


async def smallest(query: q.Query, wrong: str, fails: Fails) -> tuple[q.Query, str]:
    """A query that still fails and from which nothing can be taken away alone, and what is wrong with it."""
    tries = 0
    found = True
    while found and tries < MAX_TRIES:
        found = False
        for candidate in smaller(query):
            tries += 1
            still = await fails(candidate)
            if still is not None:
                query, wrong, found = candidate, still, True
                break
    return query, wrong


def smaller(query: q.Query) -> Iterator[q.Query]:
    """Queries with one thing less; not all of them are valid."""
    yield from _cleared(query, (), ("calculations", "time", "filter", "having", "limit"))
    for name in query.measures:
        yield _without_measure(query, name)
    for name in query.dimensions:
        new = _copy(query)
        new.dimensions.remove(name)
        _drop_orders(new, name)
        yield new
    yield from _popped(query, (), "order")
    yield from _cleared(query, ("calculations",), ("compare_to", "top_n"))
    yield from _popped(query, ("calculations",), "shares")
    yield from _popped(query, ("calculations",), "rolling_windows")
    yield from _cleared(query, ("calculations", "top_n"), ("other", "ascending"))
    yield from _cleared(query, ("time",), ("zone", "gap_fill", "dimension", "grain"))
    yield from _halves(query)
    for tree in _trees(query.filter):
        new = _copy(query)
        new.filter.CopyFrom(tree)
        yield new
    for tree in _trees(query.having):
        new = _copy(query)
        new.having.CopyFrom(tree)
        yield new


def _copy(query: q.Query) -> q.Query:
    new = q.Query()
    new.CopyFrom(query)
    return new


def _inside(query: q.Query, path: Sequence[str]) -> Any:
    message: Any = query
    for name in path:
        message = getattr(message, name)
    return message


def _cleared(query: q.Query, path: Sequence[str], fields: Sequence[str]) -> Iterator[q.Query]:
    """The query without each of the fields that are set in the message at the path."""
    present = {descriptor.name for descriptor, _ in _inside(query, path).ListFields()}
    for field in fields:
        if field in present:
            new = _copy(query)
            _inside(new, path).ClearField(field)
            yield new


def _popped(query: q.Query, path: Sequence[str], field: str) -> Iterator[q.Query]:
    """The query without each element of a list of messages."""
    for i in range(len(getattr(_inside(query, path), field))):
        new = _copy(query)
        getattr(_inside(new, path), field).pop(i)
        yield new


def _without_measure(query: q.Query, name: str) -> q.Query:
    """The query without a measure and the calculations on it."""
    new = _copy(query)
    new.measures.remove(name)
    calculations = new.calculations
    for i in reversed(range(len(calculations.shares))):
        if calculations.shares[i].measure == name:
            calculations.shares.pop(i)
    for i in reversed(range(len(calculations.rolling_windows))):
        if calculations.rolling_windows[i].measure == name:
            calculations.rolling_windows.pop(i)
    if calculations.HasField("top_n") and calculations.top_n.by == name:
        calculations.ClearField("top_n")
    if name in calculations.compare_to.measures:
        calculations.compare_to.measures.remove(name)
        if not calculations.compare_to.measures:
            calculations.ClearField("compare_to")
    _drop_orders(new, name)
    return new


def _drop_orders(query: q.Query, name: str) -> None:
    for key in [k for k in query.order if k.member.split("__", maxsplit=1)[0] == name]:
        query.order.remove(key)


def _halves(query: q.Query) -> Iterator[q.Query]:
    """The first and the second half of an absolute range, parted at a full hour."""
    if query.time.WhichOneof("range") != "absolute":
        return
    start, end = query.time.absolute.start_time.seconds, query.time.absolute.end_time.seconds
    middle = (start + end) // 7200 * 3600
    if start < middle < end:
        for first, last in ((start, middle), (middle, end)):
            new = _copy(query)
            new.time.absolute.start_time.seconds = first
            new.time.absolute.end_time.seconds = last
            yield new


def _trees(tree: q.Filter) -> Iterator[q.Filter]:
    """The children of a tree, and the tree with one child replaced by something smaller or one value less."""
    match tree.WhichOneof("node"):
        case "not_filter":
            yield tree.not_filter
            for child in _trees(tree.not_filter):
                yield q.Filter(not_filter=child)
        case "all_of":
            yield from tree.all_of.filters
            for group in _groups(tree.all_of):
                yield q.Filter(all_of=group)
        case "any_of":
            yield from tree.any_of.filters
            for group in _groups(tree.any_of):
                yield q.Filter(any_of=group)
        case "condition" if tree.condition.operator in {q.FILTER_OPERATOR_IN, q.FILTER_OPERATOR_NOT_IN}:
            for i in range(len(tree.condition.values) if len(tree.condition.values) > 1 else 0):
                new = q.Filter()
                new.CopyFrom(tree)
                new.condition.values.pop(i)
                yield new
        case _:
            return


def _groups(group: q.FilterGroup) -> Iterator[q.FilterGroup]:
    children = list(group.filters)
    for i, child in enumerate(children):
        before, after = children[:i], children[i + 1 :]
        yield q.FilterGroup(filters=[*before, *after])
        for less in _trees(child):
            yield q.FilterGroup(filters=[*before, less, *after])
