"""Whatever is put into a configuration, it loads or is explained; nothing else is ever raised."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.config.findings import ConfigError
from broker.config.loader import load_text
from broker.config.machine import Machine

SOUND: dict[str, Any] = {
    "database": {"dsn": "postgresql://db/x", "replicas": {"copy": "postgresql://copy/x"}},
    "server": {"port": 1, "deadlines": {"dashboard": {"cap": "1m"}}, "sql": {"functions": ["soundex"]}},
    "auth": {"api_keys": {"web": {"hashes": ["sha256:" + "0" * 64], "grants": ["all"]}}},
    "tenants": {"default": {"attributes": {"region": "north"}}},
    "pools": {"job": {"replica": "copy", "worker_memory": "1GiB"}},
    "datasets": {
        "orders": {
            "table": "sales.orders",
            "default_time": "placed",
            "primary_key": {"id": "int64"},
            "joins": {
                "items": {"table": "items", "on": "items.order_id = orders.id", "kind": "one_to_many"},
                "product": {"table": "product", "parent": "items", "on": "product.sku = items.sku"},
            },
            "dimensions": {
                "placed": "timestamp",
                "product": {"column": "product.name", "type": "string"},
                "price": {"sql": "price + 1", "type": "decimal", "scale": 2},
            },
            "measures": {
                "orders": "count",
                "revenue": {"kind": "sum", "sql": "items.price", "type": "int64", "filter": "items.paid"},
                "last": {"kind": "last", "column": "state", "type": "string"},
                "share": {"kind": "ratio", "numerator": "revenue", "denominator": "items"},
                "items": {"kind": "count", "column": "items.id"},
            },
            "row_policies": {"own": {"sql": "tenant = {tenant}", "unless": ["all"]}},
        }
    },
}
Place = tuple[Any, ...]


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from _places(child, (*place, key))


PLACES = list(_places(SOUND))
SQL = st.text("ab.,()'\"{}*;:$- =+0x\n", max_size=20)
WORDS = st.sampled_from(
    ["orders", "items", "product", "revenue", "share", "timestamp", "count", "ratio", "on", "{tenant}"]
)
ATOMS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), WORDS, SQL)
JUNK = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=3)
    ),
)


def _loads_or_explains(text: str) -> None:
    try:
        load_text(text, {}, machine=Machine(1))
    except ConfigError as error:
        findings = error.findings
    else:
        return
    assert findings
    assert all(finding.message for finding in findings)


@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_configuration_with_anything_anywhere(changes: list[tuple[Place, object]]) -> None:
    data = copy.deepcopy(SOUND)
    for place, junk in changes:
        holder: Any = data
        try:
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = junk
        except (TypeError, KeyError, IndexError):
            continue  # another change has put something else there
    _loads_or_explains(yaml.safe_dump(data, allow_unicode=True))


@given(st.text("abcdefgh:-#{}[]&*!|>'\"%@`,?\n \t$0123456789", max_size=60))
@settings(max_examples=150, deadline=None)
@example("&a [*a]")
@example("? {}\n")
@example("a: !!float x")
@example("a: !!null x\nb: !!seq {}")
@example("a: 0x\nb: +\nc: .\nd: 0o8")
@example("<<: {a: 1}")
def test_any_text(text: str) -> None:
    _loads_or_explains(text)


def test_the_configuration_that_is_spoilt_is_sound() -> None:
    assert load_text(yaml.safe_dump(SOUND), {}, machine=Machine(1)).findings == ()
