"""Python client of the query broker.

    from querybroker import SyncClient, query

    with SyncClient("localhost:50051") as broker:
        result = broker.ask(query("flights", measures="flights", dimensions="carrier", order_by="-flights"))
        for row in result:
            print(row["carrier"], row["flights"])

Names are loaded when they are first used: importing this package, or its messages (``querybroker.v1.*_pb2``), does not
import gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querybroker.build import last, policy, query, sql, top
    from querybroker.client import Client, ExploreStream
    from querybroker.errors import ChecksumError, QueryBrokerError, ThrottledError, Violation
    from querybroker.filters import all_of, any_of, not_
    from querybroker.result import Batch, Dashboard, Result
    from querybroker.sync import SyncClient, SyncExploreStream
    from querybroker.throttle import Throttle, ThrottleSettings

_HOMES = {
    "build": ("last", "policy", "query", "sql", "top"),
    "client": ("Client", "ExploreStream"),
    "errors": ("ChecksumError", "QueryBrokerError", "ThrottledError", "Violation"),
    "filters": ("all_of", "any_of", "not_"),
    "result": ("Batch", "Dashboard", "Result"),
    "sync": ("SyncClient", "SyncExploreStream"),
    "throttle": ("Throttle", "ThrottleSettings"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "ChecksumError",
    "Client",
    "Dashboard",
    "ExploreStream",
    "QueryBrokerError",
    "Result",
    "SyncClient",
    "SyncExploreStream",
    "Throttle",
    "ThrottleSettings",
    "ThrottledError",
    "Violation",
    "all_of",
    "any_of",
    "last",
    "not_",
    "policy",
    "query",
    "sql",
    "top",
]


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
