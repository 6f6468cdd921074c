"""What backends, other processes and callers that are not decoded yet tell the admission."""

from __future__ import annotations

import asyncio

import pytest

from broker.domain.errors import BrokerError
from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, TenantLimits
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.stretch import StretchLimit
from broker.policy.admission.values import RefusalReason, Signal
from broker.runtime.admission import Admission
from tests.support.seats import POOL, ask, hold, shell
from tests.support.virtual_time import run


def shared(seats: int, **tenants: TenantLimits) -> Admission:
    limits = BackendLimits(seats, mode=LimitMode.STATIC)
    spec = BackendSpec("primary", (POOL,), limits, StaticLimit(seats))
    return shell(Scheduler({POOL: PoolLimits(100, 100, 1, 1)}, 1, [spec], tenants))


def test_a_larger_lease_lets_waiters_in_at_once() -> None:
    async def main() -> None:
        admission = shared(2)
        admission.lease("primary", 1)
        tasks = [asyncio.create_task(hold(admission, ask(name), 10.0)) for name in ("1", "2")]
        await asyncio.sleep(1.0)
        assert admission.backends()[0].seats_used == 1
        admission.lease("primary", None)
        assert await asyncio.gather(*tasks) == [0.0, 1.0]
        assert [load.limit for load in admission.backends()] == [2]

    run(main())


def test_a_signal_lowers_the_seats() -> None:
    async def main() -> None:
        limits = BackendLimits(10, mode=LimitMode.ADAPTIVE)
        spec = BackendSpec("primary", (POOL,), limits, StretchLimit(limits))
        admission = shell(Scheduler({POOL: PoolLimits(100, 100, 1, 1)}, 1, [spec]))
        await hold(admission, ask("1"), 1.0)
        admission.signal("primary", Signal.OUT_OF_MEMORY)
        assert admission.backends()[0].limit < 10
        admission.close()

    run(main())


def test_unknown_backends_are_errors() -> None:
    async def main() -> None:
        admission = shared(1)
        with pytest.raises(KeyError):
            admission.signal("elsewhere", Signal.RECOVERED)
        with pytest.raises(KeyError):
            admission.lease("elsewhere", 1)

    run(main())


def test_work_done_elsewhere_puts_a_tenant_behind() -> None:
    async def main() -> None:
        admission = shared(1)
        order: list[str] = []

        async def served(tenant: str) -> None:
            async with admission.permit(ask(tenant, tenant=tenant)):
                order.append(tenant)
                await asyncio.sleep(1.0)

        holder = asyncio.create_task(hold(admission, ask("first", tenant="other"), 1.0))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(served(tenant)) for tenant in ("busy", "quiet")]
        await asyncio.sleep(0)
        admission.charge(POOL, "busy", 20.0)
        await asyncio.gather(holder, *tasks)
        assert order == ["quiet", "busy"]

    run(main())


def test_a_tenant_over_its_quota_is_known_before_it_asks() -> None:
    async def main() -> None:
        admission = shared(5, a=TenantLimits(in_flight=1))
        assert admission.refusal(POOL, "a") is None
        async with admission.permit(ask("1")):
            refused = admission.refusal(POOL, "a")
            assert refused is not None
            assert refused.reason is RefusalReason.TENANT_QUOTA
            assert admission.refusal(POOL, "b") is None
            with pytest.raises(BrokerError):
                await hold(admission, ask("2"), 1.0)
        assert admission.refusal(POOL, "a") is None
        admission.drain()
        drained = admission.refusal(POOL, "b")
        assert drained is not None
        assert drained.reason is RefusalReason.DRAINING

    run(main())
