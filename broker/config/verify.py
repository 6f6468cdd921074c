"""Compares a configuration with the database it is for: what it names exists, fits and may be read.

Every expression is described by PostgreSQL itself, without running it, so that columns, types, operators and functions
are judged by whoever will execute them.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.config.findings import Finding, Severity
from broker.config.loader import Configuration
from broker.config.settings import Settings
from broker.config.verify_dataset import DatasetCheck
from broker.config.verify_types import Remark
from broker.domain.relations import ServerFacts
from broker.ports.introspection import Introspector


async def verify(configuration: Configuration, database: Introspector) -> tuple[Finding, ...]:
    """What does not fit the database (errors), may go wrong (warnings), or could be better (hints), in file order.

    Raises:
        BrokerError: STORE_UNAVAILABLE.
    """
    catalog = await database.catalog()
    remarks = list(_server(configuration.settings, catalog.server))
    remarks += await _functions(configuration.settings, database)
    for dataset in configuration.model.datasets.values():
        remarks += await DatasetCheck(dataset, catalog, database).run()
    found = [configuration.finding(*remark) for remark in remarks]
    file = configuration.layers.document.source
    return tuple(sorted(found, key=lambda finding: (finding.source != file, finding.line, finding.column)))


async def _functions(settings: Settings, database: Introspector) -> list[Remark]:
    """Functions that are allowed in SQL of callers must exist and have no effects."""
    known = {
        function.name: function
        for function in await database.functions(sorted(settings.server.sql_functions))
    }
    remarks: list[Remark] = []
    for name in sorted(settings.server.sql_functions):
        at = ("server", "sql", "functions")
        if name not in known:
            remarks.append((at, f"the database has no function {name}()", Severity.ERROR))
        elif known[name].volatile:
            text = f"{name}() is volatile: it may change data, or wait; callers must not reach it"
            remarks.append((at, text, Severity.ERROR))
    return remarks


def _server(settings: Settings, server: ServerFacts) -> Iterator[Remark]:
    if server.superuser:
        text = f"the role {server.role!r} is a superuser; give the broker one that may only SELECT"
        yield ("database", "dsn"), text, Severity.HINT
    wanted = sum(pool.connections for pool in settings.pools.values() if not pool.replica_dsn)
    left = server.max_connections - server.reserved_connections
    if wanted > left:
        text = (
            f"the pools may open {wanted} connections, and the server has {left} for ordinary roles (max_connections "
            f"{server.max_connections}, {server.reserved_connections} reserved); lower `connections` of the pools"
        )
        yield ("pools",), text, Severity.ERROR
