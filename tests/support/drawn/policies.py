"""Random row policies of drawn datasets, and what they compare with of the caller whom they concern."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from broker.adapters.auth_keys import make_key
from tests.support.drawn.members import Member

CALLER_KEY = make_key(b"whom row policies concern")
"""The API key of a caller whom all row policies concern."""
UNSEEN = ("", "a ", "A", "nothing")
"""Values that few rows have, or only nearly."""


def policies(
    random: Random, name: str, dimensions: Mapping[str, Member]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Row policies for a dataset, and the attributes that the caller has for them."""
    texts = sorted(each for each, member in dimensions.items() if member.type == "STRING")
    found, attributes = {}, {}
    for policy in range(random.choice((0, 1, 1, 2))):
        terms = []
        for dimension in random.sample(texts, min(len(texts), random.choice((1, 1, 2)))):
            attribute = f"{name}_{policy}_{dimension}"
            pool = UNSEEN if random.random() < 0.1 else dimensions[dimension].pool
            attributes[attribute] = str(random.choice(pool))
            sides = [_expression(name, dimension, dimensions[dimension]), f"{{attributes.{attribute}}}"]
            terms.append(" = ".join(random.sample(sides, 2)))
        if terms:
            found[f"own{policy}"] = {
                "sql": random.choice((" AND ", " AND ", " AND ", " OR ")).join(terms),
                "unless": ["see_all"],
            }
    return found, attributes


def _expression(name: str, dimension: str, member: Member) -> str:
    """What a dimension is made of, as policies and rollups write it."""
    column = member.given.get("column", f"{name}.{dimension}")
    return f"({member.given['sql']})" if "sql" in member.given else str(column)
