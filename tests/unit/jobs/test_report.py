"""What an archive of several answers is worth."""

from __future__ import annotations

from broker.domain.answer import Exactness
from broker.jobs.report import BEST_FIRST


def test_every_exactness_has_its_place() -> None:
    assert sorted(BEST_FIRST) == sorted(Exactness)
