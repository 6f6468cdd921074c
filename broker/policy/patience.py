"""How long a caller waits for a seat while an older answer is at hand that would do.

Waiting buys the time by which the answer is newer. Of an answer of a few seconds ago it buys next to nothing, and who
waits out the whole budget and goes down the ladder then has bought nothing at all. An answer of an hour ago is another
matter. So the wait is a small part of the age: one that somebody who takes an answer of that age would hardly notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from broker.policy.admission.values import AdmissionRequest, Queued, RefusalReason, Refused, Stage

WORTH = 1 / 500
"""Seconds of waiting that a second of age is worth: 0.12 s for an answer of a minute ago, 1.2 s for one of ten."""
IMPATIENT = "patience"
"""The factor of a refusal for a wait that was not worth it."""
SOONEST = 0.1
"""Least seconds after which a newer answer may be asked for."""

Patience = Callable[[], float]
"""Until which instant of the monotonic clock a seat is waited for; asked once, and only where there is none free."""


def unlimited() -> float:
    """As long as anybody may wait."""
    return math.inf


def worth_waiting(least: float, age: float) -> float:
    """Seconds to wait for a seat, and ``least`` at the least, where an answer of this age in seconds is at hand."""
    return max(least, WORTH * age)


def impatient(request: AdmissionRequest, queued: Queued, wait: float, allowed: float) -> Refused:
    """The refusal for a request that was queued, has waited, and was allowed to wait, for so many seconds."""
    return Refused(
        request.id,
        request.pool,
        RefusalReason.QUEUE_TIMEOUT,
        Stage.QUEUE,
        IMPATIENT,
        queued.limit,
        wait,
        queued.expected_wait,
        max(0.0, allowed),
        max(SOONEST, queued.expected_wait),
    )
