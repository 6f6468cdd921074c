"""How a case of the table of invalid requests is written down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import Message

from querybroker.v1 import query_pb2, query_service_pb2

Expected = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Case:
    """A request, and every violation that must be named: field path and code."""

    name: str
    request: Message
    expected: Expected

    def __str__(self) -> str:
        return self.name


def case(name: str, request: Message, *expected: tuple[str, str]) -> Case:
    """A case of the table."""
    return Case(name, request, frozenset(expected))


def query(**fields: object) -> query_pb2.Query:
    """A query that is well formed but for the fields given."""
    named = {"dataset": "flights", "measures": ["flights"], **fields}
    return query_pb2.Query(**named)  # type: ignore[arg-type] # a test names fields of the message


def board(*queries: query_pb2.Query) -> query_service_pb2.DashboardRequest:
    """A dashboard of the queries."""
    return query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=q) for q in queries])


def one(**fields: object) -> query_service_pb2.DashboardRequest:
    """A dashboard of one query."""
    return board(query(**fields))


def explore(**fields: object) -> query_service_pb2.ExploreRequest:
    """An exploration that is well formed but for the fields given."""
    named = {"query": query(), **fields}
    return query_service_pb2.ExploreRequest(**named)  # type: ignore[arg-type] # a test names fields of the message


def condition(operator: int, *values: query_pb2.Value, member: str = "carrier") -> query_pb2.Filter:
    """A filter of one condition."""
    return query_pb2.Filter(
        condition=query_pb2.Condition(member=member, operator=operator, values=values)  # type: ignore[arg-type] # any number
    )


def text(value: str) -> query_pb2.Value:
    """A string."""
    return query_pb2.Value(string_value=value)


def all_of(children: Iterable[query_pb2.Filter]) -> query_pb2.Filter:
    """A group."""
    return query_pb2.Filter(all_of=query_pb2.FilterGroup(filters=children))


def nested(depth: int) -> query_pb2.Filter:
    """A tree whose leaf lies ``depth`` levels deep."""
    tree = condition(query_pb2.FILTER_OPERATOR_IS_NULL)
    for _ in range(depth - 1):
        tree = query_pb2.Filter(not_filter=tree)
    return tree
