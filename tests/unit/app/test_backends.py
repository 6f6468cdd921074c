"""What a breaker's change means to the limit of its database."""

from __future__ import annotations

import pytest

from broker.app.backends import news_of
from broker.domain.state import Breaker
from broker.policy.admission.values import Signal
from broker.policy.breaker import Change, Transition

CLOSED, OPEN, HALF_OPEN = Breaker.CLOSED, Breaker.OPEN, Breaker.HALF_OPEN


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        (CLOSED, OPEN, Signal.CONNECTION_REFUSED),
        (OPEN, HALF_OPEN, None),
        (HALF_OPEN, OPEN, None),  # still the same outage
        (HALF_OPEN, CLOSED, Signal.RECOVERED),
    ],
)
def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over(
    before: Breaker, after: Breaker, news: Signal | None
) -> None:
    assert news_of(Transition(before, after, Change.FAILURES_IN_A_ROW, "connection_refused")) is news
