"""Asks what was answered before rows of sealed partitions were deleted: no answer may be short in silence."""

from __future__ import annotations

from collections.abc import Sequence

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.model import OracleModel
from tests.support.drawn.asking import TOGETHER, UNSATISFIABLE, Tally, difference

Answers = Sequence[Result | QueryBrokerError]


async def ask(client: Client, queries: Sequence[q.Query], *, rollup: str = "", partial: str = "") -> Answers:
    """The answers under a policy."""
    found: list[Result | QueryBrokerError] = []
    for at in range(0, len(queries), TOGETHER):
        panels = {
            str(i): s.Panel(query=query, policy=policy(rollup=rollup, partial=partial))
            for i, query in enumerate(queries[at : at + TOGETHER])
        }
        try:
            answered = await client.dashboard(panels, timeout=60)
        except QueryBrokerError as error:  # of all panels
            found += [error] * len(panels)
            continue
        found += [answered.errors.get(name) or answered[name] for name in panels]
    return found


def judge(
    model: OracleModel,
    queries: Sequence[q.Query],
    before: Answers,
    after: Answers,
    tally: Tally,
    *,
    partial: bool,
) -> None:
    """Compares answers with those from before; what is refused, or said to be short, is right."""
    for query, was, now in zip(queries, before, after, strict=True):
        if isinstance(now, QueryBrokerError):
            if isinstance(was, QueryBrokerError) and was.reason == now.reason:
                continue
            if partial or now.reason != UNSATISFIABLE or now.metadata.get("rule") != "SEAL":
                tally.wrong.append((query, f"sealed: {now!r} {now.metadata}, was {was!r}"))
            tally.codes["sealed, refused"] += 1
            continue
        if now.status.sealed_intervals:
            if not partial:
                tally.wrong.append((query, f"sealed: {now.status}"))
            tally.codes["sealed, partial"] += 1
            continue
        if isinstance(was, QueryBrokerError):
            tally.wrong.append((query, f"sealed: answered, was {was!r}"))
            continue
        tally.codes[f"sealed, kind {now.status.kind}"] += 1
        if found := difference(model, now, was, together=False):
            tally.wrong.append((query, f"sealed, partial {partial}: {found}\n{now.status}"))
