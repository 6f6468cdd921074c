"""The clocks of the machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """A :class:`~broker.ports.clock.Clock` that reads the operating system."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)
    """Seconds since some fixed instant; never goes back. It is asked for so often that a frame would show."""
