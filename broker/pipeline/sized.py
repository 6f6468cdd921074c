"""Keeps answers that are held in memory whole within the server's limits, each panel for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.domain.answer import Answer
from broker.domain.errors import BrokerError, ErrorReason
from broker.pipeline.stage import Group, Handler, Outcome, Stage

Fits = Callable[[Outcome], Outcome]
"""The outcome, or an error in its place."""


def anything(outcome: Outcome) -> Outcome:
    """Every outcome fits."""
    return outcome


def fitting(max_rows: int, max_bytes: int) -> Fits:
    """Replaces an answer of more rows, or more encoded bytes, by RESULT_TOO_LARGE."""

    def bounded(outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Answer):
            return outcome
        rows, size = outcome.table.row_count, len(outcome.table.encoded)
        if rows > max_rows:
            return _too_large("max_rows", rows, max_rows)
        return _too_large("max_bytes", size, max_bytes) if size > max_bytes else outcome

    return bounded


def sized(fits: Fits) -> Stage:
    """Replaces the answers that do not fit."""

    def stage(inner: Handler) -> Handler:
        async def handle(group: Group) -> Sequence[Outcome]:
            return [fits(outcome) for outcome in await inner(group)]

        return handle

    return stage


def _too_large(name: str, value: int, limit: int) -> BrokerError:
    text = (
        f"The answer has {value} {name.removeprefix('max_')}; a panel may have {limit}. Select fewer groups or set a "
        "limit; for all of it use Explore, which streams, or submit an export job."
    )
    metadata = {"limit": name, "value": str(limit), "found": str(value)}
    return BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=metadata)
