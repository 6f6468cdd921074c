"""The broker's own protection: measures its loop and its memory, and turns calls away before anybody reads them.

What is done when is decided by :class:`broker.policy.guard.SelfDefence`; here it is fed and carried out. A call that is
turned away at the door was neither decoded nor planned: that is what makes refusing cheaper than being overrun.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Criticality, Principal
from broker.policy.guard import Factor, Posture, SelfDefence
from broker.ports.clock import Clock
from broker.runtime.admission import Admission
from broker.runtime.loop import LagMonitor
from broker.telemetry import catalog
from broker.telemetry.instruments import Telemetry

MEMORY_EVERY = 1.0
"""Seconds between two readings of the memory."""
HINT = 1.0
"""Seconds after which another try makes sense: no step is taken back sooner."""
_LOG = logging.getLogger(__name__)

Cut = Callable[[BrokerError], int]
"""Ends the largest stream with an error; returns the bytes that it has sent, 0 when there was none to end."""


class Guard:
    """Watches the process. ``memory`` reads the share of memory in use."""

    def __init__(
        self,
        clock: Clock,
        telemetry: Telemetry,
        memory: Callable[[], float],
        cut: Cut,
        defence: SelfDefence | None = None,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._cut = cut
        self._defence = defence or SelfDefence()
        self._read_at = -MEMORY_EVERY
        self._share = 0.0
        self.posture = Posture()
        self._forget = [
            telemetry.observe(catalog.GUARD_STEP, lambda: [(self._step(), {})]),
            telemetry.observe(catalog.MEMORY_SHARE, lambda: [(self._share, {})]),
        ]

    def watch(self, lag: LagMonitor) -> None:
        """Begins to watch, now that there are calls to turn away."""
        lag.restart()
        self._forget.append(lag.listen(self.observe))

    def observe(self, lag: float) -> None:
        """A sample of the loop's lag in seconds, as a :class:`LagMonitor` takes them."""
        now = self._clock.monotonic()
        memory = None
        if now - self._read_at >= MEMORY_EVERY:
            self._read_at = now
            memory = self._share = self._memory()
        before, self.posture = self.posture, self._defence.observe(lag, memory, now)
        if before.admits is not self.posture.admits or before.factor is not self.posture.factor:
            self._tell()
        if self.posture.cut and memory is not None:
            sent = self._cut(self._cutting())
            _LOG.warning("memory is short, the largest stream was ended", extra={"sent_bytes": sent})

    def refusal(self, pool: PoolName, criticality: Criticality) -> BrokerError | None:
        """Why a call of this criticality is turned away now, None when it may come in."""
        posture = self.posture
        if posture.admits is None or criticality >= posture.admits:
            return None
        if posture.factor is Factor.LOOP_LAG:
            text = (
                f"This server is too busy to take more calls: its timers are {posture.measured * 1000:.0f} ms late, "
                f"where {posture.bound * 1000:.0f} ms are allowed. Retry after {HINT:.0f} s; another server may answer."
            )
        else:
            text = (
                f"This server is short of memory: {posture.measured:.0%} is in use, where {posture.bound:.0%} is "
                f"allowed. Retry after {HINT:.0f} s; another server may answer."
            )
        return self._overloaded(text, pool.value)

    async def check(self) -> None:
        """Passes while the process can serve, for health checks.

        Raises:
            BrokerError: OVERLOADED, while the loop is stuck.
        """
        if not self.posture.healthy:
            raise self._overloaded(f"the event loop is {self.posture.measured * 1000:.0f} ms late", "")

    def close(self) -> None:
        """Ends the watch and the gauges."""
        for forget in self._forget:
            forget()

    def _cutting(self) -> BrokerError:
        return self._overloaded(
            f"This server is short of memory: {self.posture.measured:.0%} is in use. The stream was ended because it "
            "is the largest. Ask for fewer rows, or submit an export job.",
            "",
        )

    def _overloaded(self, text: str, pool: str) -> BrokerError:
        posture = self.posture
        known = {
            "pool": pool,
            "stage": "door",
            "limiting_factor": posture.factor.value,
            "measured": f"{posture.measured:.3f}",
            "limit": f"{posture.bound:g}",
        }
        metadata = {key: value for key, value in known.items() if value}
        return BrokerError(ErrorReason.OVERLOADED, text, retry_after=HINT, metadata=metadata)

    def _tell(self) -> None:
        posture = self.posture
        if posture.admits is None:
            _LOG.warning("calls are taken again")
            return
        _LOG.warning(
            "only calls that are %s are taken: %s is %.3f, where %g is allowed",
            posture.admits.name.lower(), posture.factor.value, posture.measured, posture.bound,
        )  # fmt: skip

    def _step(self) -> int:
        posture = self.posture
        if posture.cut:
            return 3
        return 0 if posture.admits is None else 1 if posture.admits is Criticality.CRITICAL else 2


def nowhere_else(_pool: PoolName) -> bool:
    """Nothing is answered without a seat."""
    return False


class Door:
    """Decides whether a call is worth reading at all, from who asks, for which pool and how long they wait."""

    def __init__(
        self, guard: Guard | None, admission: Admission, limits: Mapping[PoolName, PoolLimits]
    ) -> None:
        self._guard, self._admission = guard, admission
        self._fractions = {name: pool.wait_fraction for name, pool in limits.items()}
        self._beside: Callable[[PoolName], bool] = nowhere_else

    def open_to(self, beside: Callable[[PoolName], bool]) -> None:
        """Lets calls in for which there is no seat while ``beside`` says that others than its pool may answer them.

        Only reading such a call tells. Who is over its rate is refused all the same, and while the server itself is in
        trouble nobody comes in.
        """
        self._beside = beside

    def refusal(self, pool: PoolName, principal: Principal, left: float) -> BrokerError | None:
        """The error for a call that would be refused whatever it asks, None when it is to be read.

        ``left`` is the time in seconds until its deadline.
        """
        if self._guard is not None:
            error = self._guard.refusal(pool, principal.criticality)
            if error is not None:
                factor = error.metadata["limiting_factor"]
                self._admission.turned_away(pool, principal, error.reason.value, factor)
                return error
        return self._admission.turn_away(
            pool, principal, self._fractions[pool] * left, seatless=self._beside(pool)
        )
