"""Parts a group of panels by the seats that they need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.terms import Consistency
from broker.pipeline.stage import Group, Handler, Outcome


def by_pool(handler: Handler, group: Group) -> Awaitable[Sequence[Outcome]]:
    """Answers a group, each panel in the seats of its own class where the panels need not agree with each other.

    Otherwise they share a snapshot, and with it the seats of the heaviest. A refusal of one part is the error of its
    panels.
    """
    if group.consistency is not Consistency.ANY or len(group.questions) == 1:
        return handler(group)
    pools = sorted({question.classified.classification.pool for question in group.questions})
    return handler(group) if len(pools) == 1 else _apart(handler, group, pools)


async def _apart(handler: Handler, group: Group, pools: Sequence[PoolName]) -> Sequence[Outcome]:
    async def part(pool: PoolName) -> dict[int, Outcome]:
        places = [i for i, q in enumerate(group.questions) if q.classified.classification.pool is pool]
        load_group = f"{group.load_group}/{pool.value}"  # one may be refused without the other
        own = replace(group, questions=tuple(group.questions[i] for i in places), load_group=load_group)
        try:
            return dict(zip(places, await handler(own), strict=True))
        except BrokerError as error:
            return dict.fromkeys(places, error)

    found: dict[int, Outcome] = {}
    async with asyncio.TaskGroup() as tasks:
        parts = [tasks.create_task(part(pool)) for pool in pools]
    for each in parts:
        found |= each.result()
    return [found[i] for i in range(len(group.questions))]
