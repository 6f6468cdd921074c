"""Quotas: requests in flight and requests per second, of each tenant."""

from __future__ import annotations

import math

import pytest

from broker.domain.pool import TenantLimits
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.tenants import Excess, Tenants
from broker.policy.admission.values import Admitted, Outcome, Queued, RefusalReason, Refused, Stage, Tuning
from tests.support.scheduling import (
    DASHBOARD,
    EXPLORATION,
    ask,
    limits,
    offer_all,
    only,
    refused,
    shared,
    takes,
)

FAR = 1e6


def core_with(**bounds: float) -> Scheduler:
    return shared(2, {DASHBOARD: limits(), EXPLORATION: limits()}, tenants={"t": TenantLimits(**bounds)})


def test_requests_in_flight_count_those_that_wait_and_those_that_run_in_every_pool() -> None:
    core = core_with(in_flight=3)
    pools = (DASHBOARD, EXPLORATION, DASHBOARD)
    let_in = offer_all(core, [ask(str(n), "t", FAR, takes(1.0), pool) for n, pool in enumerate(pools)])
    assert [type(d) for d in let_in] == [Admitted, Admitted, Queued]
    decision = refused(core.offer(ask("3", "t", FAR), 0.0))
    assert (decision.reason, decision.stage) == (RefusalReason.TENANT_QUOTA, Stage.ARRIVAL)
    assert (decision.limiting_factor, decision.limit, decision.pushback) == ("tenant_in_flight", 3, None)
    assert isinstance(only(core.offer(ask("other", "u", FAR), 0.0)), Queued)


@pytest.mark.parametrize("way", ["finish", "cancel running", "cancel waiting", "timeout"])
def test_whatever_ends_a_request_gives_its_place_back(way: str) -> None:
    core = core_with(in_flight=3)
    offer_all(core, [ask(str(n), "t", 10.0, takes(1.0)) for n in range(3)])
    match way:
        case "finish":
            core.finish("0", Outcome.SUCCESS, 1.0, 1.0)
        case "cancel running":
            core.cancel("0", 1.0)
        case "cancel waiting":
            core.cancel("2", 1.0)
        case _:
            core.tick(9.0)
    assert core.refusal(DASHBOARD, "t", 9.0) is None
    core.offer(ask("3", "t", FAR), 9.0)
    assert core.refusal(DASHBOARD, "t", 9.0) is not None


def test_a_refused_request_takes_no_place_and_no_token() -> None:
    core = core_with(in_flight=2, rate=1.0, burst=2)
    for number in range(9):
        assert isinstance(only(core.offer(ask(str(number), "t", -1.0), 0.0)), Refused)
    let_in = offer_all(core, [ask(name, "t", FAR, takes(1.0)) for name in "abc"])
    assert [type(d) for d in let_in] == [Admitted, Admitted, Refused]


def test_a_rate_lets_a_burst_through_and_then_so_many_a_second() -> None:
    core = core_with(rate=2.0, burst=3)
    let_in = offer_all(core, [ask(str(n), "t", FAR, takes(1.0)) for n in range(4)])
    assert [type(d) for d in let_in] == [Admitted, Admitted, Queued, Refused]
    decision = refused(core.offer(ask("x", "t", FAR), 0.0))
    assert (decision.reason, decision.limiting_factor, decision.limit) == (
        RefusalReason.TENANT_QUOTA,
        "tenant_rate",
        2.0,
    )
    assert decision.pushback is not None
    assert 0.5 * 0.8 <= decision.pushback <= 0.5 * 1.2  # a token comes in half a second
    assert isinstance(only(core.offer(ask("early", "t", FAR), 0.49)), Refused)
    assert isinstance(only(core.offer(ask("in time", "t", FAR), 0.5)), Queued)
    assert isinstance(only(core.offer(ask("again", "t", FAR), 0.5)), Refused)


def test_tokens_gather_up_to_a_burst() -> None:
    tenants = Tenants({"t": TenantLimits(rate=2.0, burst=3)}, TenantLimits())
    for at in (0.0, 100.0):
        for _ in range(3):
            assert tenants.excess("t", at) is None
            tenants.enter("t", at)
        assert tenants.excess("t", at) == Excess("tenant_rate", 2.0, 0.5)


def test_requests_that_end_give_no_token_back() -> None:
    tenants = Tenants({}, TenantLimits(rate=1.0, burst=1))
    tenants.enter("t", 0.0)
    tenants.leave("t")
    assert tenants.excess("t", 0.25) == Excess("tenant_rate", 1.0, 0.75)


def test_a_bound_on_requests_in_flight_alone_knows_no_rate() -> None:
    tenants = Tenants({}, TenantLimits(in_flight=50))
    for _ in range(50):
        assert tenants.excess("t", 0.0) is None
        tenants.enter("t", 0.0)
    assert tenants.excess("t", 0.0) == Excess("tenant_in_flight", 50, None)


def test_the_default_holds_for_tenants_without_limits_of_their_own() -> None:
    own = TenantLimits(in_flight=1)
    tenants = Tenants({"t": own}, TenantLimits(in_flight=2))
    assert tenants.limits("t") is own
    for tenant in ("t", "u"):
        tenants.enter(tenant, 0.0)
    assert tenants.excess("t", 0.0) == Excess("tenant_in_flight", 1, None)
    assert tenants.excess("u", 0.0) is None


def test_without_limits_nothing_is_counted() -> None:
    tenants = Tenants({}, TenantLimits())
    for _ in range(9):
        tenants.enter("t", 0.0)
    assert tenants.excess("t", 0.0) is None
    tenants.leave("t")
    assert not tenants._usage


def test_those_whose_bucket_is_full_are_forgotten_when_there_are_many() -> None:
    tenants = Tenants({}, TenantLimits(rate=1.0, burst=2, in_flight=5))
    for number in range(4096):
        tenants.enter(f"t{number}", 0.0)
        tenants.leave(f"t{number}")
    tenants.enter("runs", 0.0)
    usage = tenants._usage
    assert len(usage) == 4097
    tenants.excess("early", 0.5)
    assert len(usage) == 4098
    tenants.excess("later", 1.0)
    assert set(usage) == {"runs", "later"} | {"early"} & set(usage)
    assert tenants.excess("runs", 1.0) is None


def test_a_request_is_refused_before_it_is_decoded_where_it_would_be_refused_whatever_it_asks() -> None:
    core = core_with(in_flight=1)
    assert core.refusal(DASHBOARD, "t", 0.0) is None
    core.offer(ask("1", "t", FAR), 0.0)
    early = core.refusal(EXPLORATION, "t", 0.0)
    assert early is not None
    assert (early.id, early.pool, early.reason) == ("", EXPLORATION, RefusalReason.TENANT_QUOTA)
    assert core.refusal(DASHBOARD, "u", 0.0) is None
    core.drain(0.0)
    early = core.refusal(DASHBOARD, "u", 0.0)
    assert early is not None
    assert (early.reason, early.stage, early.pushback) == (RefusalReason.DRAINING, Stage.ARRIVAL, 0.0)


def test_a_long_way_to_the_next_token_is_told_within_bounds() -> None:
    core = core_with(rate=0.001, burst=1)
    core.offer(ask("1", "t", FAR), 0.0)
    decision = refused(core.offer(ask("2", "t", FAR), 0.0))
    assert decision.pushback is not None
    assert Tuning().max_pushback * 0.8 <= decision.pushback <= Tuning().max_pushback * 1.2


def test_exempt_requests_are_not_counted() -> None:
    core = core_with(in_flight=1)
    core.offer(ask("1", "t", FAR), 0.0)
    assert isinstance(only(core.offer(ask("2", "t", FAR, exempt=True), 0.0)), Admitted)
    assert core.finish("2", Outcome.SUCCESS, 1.0, 1.0) == ()
    assert core.refusal(DASHBOARD, "t", 1.0) is not None


def test_a_weight_is_a_share_of_the_work() -> None:
    core = shared(1, {DASHBOARD: limits()}, tenants={"t": TenantLimits(weight=3.0)})
    running = "0"
    core.offer(ask("0", "z", FAR, takes(1.0)), 0.0)
    offer_all(core, [ask(f"t{n}", "t", FAR, takes(1.0)) for n in range(40)])
    offer_all(core, [ask(f"u{n}", "u", FAR, takes(1.0)) for n in range(40)])
    order = ""
    for second in range(40):
        running = core.finish(running, Outcome.SUCCESS, 1.0, second + 1.0)[0].id
        order += running[0]
    assert order.count("t") == pytest.approx(30, abs=1)


def test_infinity_is_no_bound() -> None:
    assert math.isinf(TenantLimits().in_flight)
    assert math.isinf(TenantLimits().rate)
