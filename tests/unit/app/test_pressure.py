"""Who is told of what happens to a database."""

from __future__ import annotations

from broker.app.pressure import News
from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName
from broker.domain.state import Breaker
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit
from broker.policy.admission.values import Signal
from broker.policy.breaker import Change, Transition
from broker.runtime.admission import Admission
from broker.telemetry.instruments import Telemetry
from tests.support.seats import shell
from tests.support.virtual_time import run

LOST = Transition(Breaker.CLOSED, Breaker.OPEN, Change.FAILURES_IN_A_ROW, "connection_refused")
BACK = Transition(Breaker.HALF_OPEN, Breaker.CLOSED, Change.FAILURES_IN_A_ROW, "")


def admission() -> Admission:
    limits = BackendLimits(20, mode=LimitMode.ADAPTIVE)
    specs = [
        BackendSpec(name, (pool,), limits, StretchLimit(limits))
        for name, pool in (("primary", PoolName.DASHBOARD), ("copy", PoolName.EXPLORATION))
    ]
    pools = {pool: PoolLimits(100, 100, 1, 1) for pool in (PoolName.DASHBOARD, PoolName.EXPLORATION)}
    return shell(Scheduler(pools, 1, specs))


def seats(made: Admission) -> dict[str, int]:
    return {load.name: load.limit for load in made.backends()}


def test_a_replica_that_is_lost_lowers_its_own_seats_only() -> None:
    async def main() -> None:
        made = admission()
        news = News(made, Telemetry.off())
        news.changed("copy", LOST)
        assert seats(made) == {"primary": 20, "copy": 14}
        news.changed("copy", BACK)
        assert seats(made) == {"primary": 20, "copy": 20}
        made.close()

    run(main())


def test_a_primary_that_takes_over_makes_room() -> None:
    async def main() -> None:
        made = admission()
        news = News(made, Telemetry.off(), {"copy"})
        news.changed("copy", LOST)
        assert seats(made) == {"primary": 14, "copy": 14}
        news.changed("copy", BACK)
        assert seats(made) == {"primary": 20, "copy": 20}
        made.close()

    run(main())


def test_news_of_databases_that_nobody_reads_here_are_dropped() -> None:
    async def main() -> None:
        made = admission()
        news = News(made, Telemetry.off())
        news.tell("another", Signal.OUT_OF_MEMORY)
        assert seats(made) == {"primary": 20, "copy": 20}
        made.close()

    run(main())
