"""Turns wrong answers into one failure that can be repeated and read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from querybroker.v1 import query_service_pb2 as s
from tests.oracle.check import Checker, Question

FORMATS = (s.RESULT_FORMAT_COLUMNS, s.RESULT_FORMAT_ARROW)
REPORTS = 3
"""So many of the failures are made small and shown."""


async def assert_right(
    checker: Checker, questions: Sequence[Question], wrongs: Sequence[str | None], seed: int
) -> None:
    """Fails with the seed and the smallest queries that go wrong, if any did; and when estimates are too bad."""
    failed = [(q, w) for q, w in zip(questions, wrongs, strict=True) if w is not None]
    if failed:
        reports = [await checker.report(q, w) for q, w in failed[:REPORTS]]
        heading = f"seed {seed}: {len(failed)} of {len(questions)} are wrong"
        pytest.fail("\n\n".join([heading, *reports]), pytrace=False)
    tally = checker.tally
    # The documented bounds hold for 95 % (HLL) and 99 % (KLL) of the values; many groups share their values.
    assert tally.outside <= tally.compared * 0.1, f"seed {seed}: sketches are worse than documented: {tally}"
