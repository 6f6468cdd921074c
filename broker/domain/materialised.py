"""What stands behind a dataset that a job made: the files of its result, and what their rows are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.domain.answer import AnswerStatus
from broker.domain.job import ResultPart
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.values import Column


@dataclass(frozen=True, slots=True)
class Materialised:
    """Rows that a job wrote, as Arrow files in the result store, or ``inline`` where they are few.

    ``job`` is the job's resource name, and ``version`` names the attempt that wrote them: no two of a name's datasets
    share one. The rows have keys and values: ``columns`` with their roles. Where there is a time, it is kept by
    ``grain`` in ``zone`` over ``bounds``, in the column ``bucket``. Measures that are ``mergeable`` can be computed
    from the rows at any coarser key, the others are shown where each row stands for itself. ``status`` is what the rows
    are worth.
    """

    job: str
    version: str
    columns: tuple[Column, ...]
    parts: tuple[ResultPart, ...]
    inline: bytes
    row_count: int
    byte_count: int
    status: AnswerStatus
    expire_time: datetime
    mergeable: frozenset[str] = frozenset()
    bucket: str = ""
    bounds: AbsoluteRange | None = None
    grain: Grain | None = None
    zone: str = "UTC"
