"""Turns wrong answers into one failure that can be repeated and read."""

from __future__ import annotations

import pytest

from tests.oracle.check import Checker, Drawing, Question, checked

REPORTS = 3
"""So many of the failures are made small and shown."""


async def assert_right(checker: Checker, drawing: Drawing, count: int) -> None:
    """Asks so many questions. Fails with the seed and the smallest queries that go wrong; also on bad estimates."""
    failed: list[tuple[Question, str]] = []
    async for questions, wrongs in checked(checker, drawing, count):
        failed += [(q, w) for q, w in zip(questions, wrongs, strict=True) if w is not None]
    if failed:
        reports = [await checker.report(q, w) for q, w in failed[:REPORTS]]
        heading = f"seed {drawing.seed}: {len(failed)} of {count} answers are wrong"
        pytest.fail("\n\n".join([heading, *reports]), pytrace=False)
    tally = checker.tally
    # The documented bounds hold for 95 % (HLL) and 99 % (KLL) of the values; many groups share their values.
    assert tally.outside <= tally.compared * 0.1, (
        f"seed {drawing.seed}: sketches are worse than documented: {tally}"
    )
