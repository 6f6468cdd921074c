"""How long streams that go on by themselves wait, and when they give up."""

from __future__ import annotations

import pytest

from querybroker.errors import QueryBrokerError
from querybroker.resume import ATTEMPTS, Patience


def broken(retry_after: float | None = None, *, forbidden: bool = False) -> QueryBrokerError:
    return QueryBrokerError("UNAVAILABLE", "broken", retry_after=retry_after, forbidden=forbidden)


@pytest.mark.parametrize(("die", "wait"), [(0.0, 10.0), (0.5, 11.0), (1.0, 12.0)])
def test_a_hint_is_never_shortened_and_is_spread(die: float, wait: float) -> None:
    assert Patience(lambda: 0.0, None, lambda: die).delay(broken(10.0)) == pytest.approx(wait)


def test_without_a_hint_the_pause_is_drawn_below_a_ceiling_that_doubles() -> None:
    patience = Patience(lambda: 0.0, None, lambda: 0.5)
    waits = [patience.delay(broken()) for _ in range(ATTEMPTS)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    with pytest.raises(QueryBrokerError):
        patience.delay(broken())


def test_progress_forgives() -> None:
    patience = Patience(lambda: 0.0, None, lambda: 0.5)
    for _ in range(3 * ATTEMPTS):
        assert patience.delay(broken()) == pytest.approx(0.1)
        patience.progressed()


@pytest.mark.parametrize(
    "error",
    [
        broken(1.0, forbidden=True),
        broken(61.0),
        broken(6.0),
        QueryBrokerError("NOT_FOUND", "no such job"),
        QueryBrokerError("RESOURCE_EXHAUSTED", "over quota", retry_after=1.0),
    ],
    ids=["forbidden", "a hint beyond reason", "a hint beyond the time", "not found", "quota"],
)
def test_who_is_told_not_to_does_not(error: QueryBrokerError) -> None:
    with pytest.raises(QueryBrokerError) as caught:
        Patience(lambda: 0.0, 5.0, lambda: 0.0).delay(error)
    assert caught.value is error
