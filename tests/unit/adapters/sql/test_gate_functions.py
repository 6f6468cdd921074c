"""Functions that the operator allows in SQL pass the gate, under the names that are written out, and no others."""

import pytest

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.gate import check
from broker.adapters.sql.gate_rules import GateLimits
from broker.domain.errors import BrokerError
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from tests.support.datasets import flights

PRINCIPAL = Principal("ada", "acme")
ALLOWED = GateLimits(functions=frozenset({"twice", "md5", "string_agg", "regexp_replace"}))
CALLS = [
    "twice(month)",
    "TWICE(month)",
    "md5(carrier)",
    "string_agg(carrier, ',')",
    "regexp_replace(dest, 'a', '', 'g')",
]


def gated(call: str, limits: GateLimits) -> str:
    query = SqlQuery(f"SELECT {call} FROM flights")
    return check(query, {"flights": DatasetSql(flights())}, PRINCIPAL, limits).text()


@pytest.mark.parametrize("call", CALLS)
def test_what_the_operator_allows_passes(call: str) -> None:
    assert call.partition("(")[0].lower() in gated(call, ALLOWED).lower()


@pytest.mark.parametrize("call", CALLS)
def test_without_that_it_does_not(call: str) -> None:
    with pytest.raises(BrokerError) as caught:
        gated(call, GateLimits())
    assert [v.code for v in caught.value.violations] == ["SQL_FUNCTION"]


@pytest.mark.parametrize(
    "call",
    [
        "public.twice(month)",
        "twice(pg_sleep(1))",
        "pg_sleep(twice(1))",
        "string_agg(carrier, ',' ORDER BY pg_sleep(1))",
        "sha256(carrier)",
        "twice(secret)",
    ],
)
def test_nothing_else_passes_with_it(call: str) -> None:
    with pytest.raises(BrokerError):
        gated(call, ALLOWED)
