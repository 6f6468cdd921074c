"""Records questions for `broker rollup advise`, where the configuration says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.app.behind import behind
from broker.app.process import Process
from broker.config.settings import Settings
from broker.pipeline.execute import Observer
from broker.pipeline.stage import Question
from broker.policy.classify import Run
from broker.rollups.query_log import QueryLog, log_path


@asynccontextmanager
async def questions(settings: Settings, own: Process, index: int | None) -> AsyncIterator[Observer]:
    """What is to be told of every question that was read; ``index`` is the place among equal processes."""
    folder = settings.rollups.query_log
    if folder is None:
        yield _unrecorded
        return
    log = await asyncio.to_thread(QueryLog, log_path(folder, index), own.clock)
    async with behind({"query log": log.run()}):
        yield log.observe


def _unrecorded(_question: Question, _run: Run) -> None:
    """Nobody wants to know."""
