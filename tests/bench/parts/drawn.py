"""Random questions over the moving table, as its rollups may answer them."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from typing import Any

from querybroker import query, top
from querybroker.filters import Where
from querybroker.v1 import query_pb2
from tests.bench.parts.moving import DAYS, KINDS, REGIONS, START

MEASURES = ("events", "rated", "revenue", "smallest", "largest", "mean", "spread", "latest", "each")
DOUBLES = ("mean", "spread", "each")
"""Measures whose last digits depend on the order of additions, so that nothing is ordered by them."""
PLAIN = ("events", "revenue", "each")
ZONES = ("UTC", "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin")
GRAINS = ("", "", "fifteen_minutes", "hour", "day", "day", "week", "month")


def draw(random: Random) -> query_pb2.Query:
    """A question about some of the time, by some dimensions, with some filter, now and then in order and cut off."""
    families = random.random() < 0.15
    able = PLAIN if families else MEASURES
    measures = random.sample(able, random.randint(1, len(able)))
    dimensions = (
        ["family"] * random.randint(0, 1)
        if families
        else random.sample(["kind", "region"], random.randint(0, 2))
    )
    grain = random.choice(GRAINS)
    low, high = _range(random, grain)
    extra: dict[str, Any] = {}
    exact = [measure for measure in measures if measure not in DOUBLES]
    if exact and random.random() < 0.3:
        extra["order_by"] = f"-{exact[0]}"
        extra["limit"] = random.randint(1, 20)
    elif random.random() < 0.1 and dimensions:
        extra["top_n"] = top(2, dimensions[0], by=measures[0], other=random.random() < 0.5)
    if random.random() < 0.2 and "events" in measures:
        extra["having"] = ("events", ">", random.choice([1, 3, 50]))
    if random.random() < 0.1 and grain == "day":
        extra["rolling"] = {measures[0]: 3} if measures[0] in ("events", "revenue") else None
    where = None if families else _where(random)
    if random.random() < 0.05:
        return query("events", measures=measures, dimensions=dimensions, where=where)  # all of time
    zone = random.choice(ZONES) if grain else ""
    return query(
        "events",
        measures=measures,
        dimensions=dimensions,
        time=(low, high),
        grain=grain,
        zone=zone,
        where=where,
        **extra,
    )


def _range(random: Random, grain: str) -> tuple[datetime, datetime]:
    """Mostly whole days, now and then edges to the second; short for narrow buckets."""
    days = {"fifteen_minutes": 4, "hour": 15}.get(grain, DAYS)
    low = START + timedelta(days=random.randrange(-2, DAYS))
    high = low + timedelta(days=random.randint(1, days))
    if random.random() < 0.3:
        low += timedelta(seconds=random.randrange(86_400))
        high += timedelta(seconds=random.randrange(86_400))
    return low, high


def _where(random: Random) -> Where | None:
    match random.randrange(6):
        case 0:
            return {"region": random.choice(REGIONS)}
        case 1:
            return ("kind", "in", random.sample([kind for kind in KINDS if kind], 2))
        case 2:
            return [("kind", "!=", "alpha"), ("region", "<", "south")]
        case 3:
            return ("kind", "is null")
        case _:
            return None
