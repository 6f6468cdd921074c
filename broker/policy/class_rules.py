"""From a predicted cost to a class: the call proposes, the prediction decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.answer import CostClass
from broker.domain.estimate import Estimate
from broker.domain.pool import PoolName
from broker.domain.request import Factor, RequestKind
from broker.policy.admission.values import Quantiles

SURE = 0.5
"""With less confidence than this, work is moved out of its class only if even its tenth percentile is beyond it."""
PROPOSED: Mapping[RequestKind, tuple[CostClass, PoolName]] = {
    RequestKind.DASHBOARD: (CostClass.DASHBOARD, PoolName.DASHBOARD),
    RequestKind.EXPLORE: (CostClass.EXPLORATION, PoolName.EXPLORATION),
    RequestKind.JOB: (CostClass.JOB, PoolName.JOB),
}


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """The longest expected time of a panel that counts as a dashboard's, and of an exploration, in seconds.

    ``offer_job`` says whether an exploration beyond its class is refused with the offer to submit it as a job; else it
    runs, as long as its deadline lets it.
    """

    dashboard: float = 10.0
    exploration: float = 30.0
    offer_job: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class and its pool; ``job`` says why the work should be a job, empty when it may run where it is."""

    cost_class: CostClass
    pool: PoolName
    factor: Factor | None = None
    job: str = ""


def decide(
    kind: RequestKind, predicted: Quantiles, confidence: float, time_left: float, limits: ClassLimits
) -> Verdict:
    """The class of a request by the call that carries it and what it is predicted to take.

    A panel beyond a dashboard's class is an exploration. An exploration beyond its class, or of which even a fast run
    takes longer than the ``time_left``, is offered as a job. A job stays a job: whoever submits one can wait.
    """
    cost_class, pool = PROPOSED[kind]
    judged, name = (predicted.p50, "median") if confidence >= SURE else (predicted.p10, "fast run")
    if kind is RequestKind.DASHBOARD and judged > limits.dashboard:
        text = f"a {name} beyond a dashboard's class: runs as an exploration"
        return Verdict(
            CostClass.EXPLORATION,
            PoolName.EXPLORATION,
            Factor("dashboard_limit_seconds", limits.dashboard, text),
        )
    if kind is not RequestKind.EXPLORE:
        return Verdict(cost_class, pool)
    if judged > limits.exploration:
        factor = Factor("exploration_limit_seconds", limits.exploration, f"a {name} beyond it: a job")
        job = f"It is predicted to take {judged:.3g} s, and an exploration may take {limits.exploration:g} s"
    elif predicted.p10 > time_left:
        factor = Factor("deadline_seconds", time_left, "even a fast run takes longer: a job")
        job = f"Even a fast run is predicted to take {predicted.p10:.3g} s, and {time_left:.3g} s are left"
    else:
        return Verdict(cost_class, pool)
    if limits.offer_job:
        return Verdict(CostClass.JOB, PoolName.JOB, factor, job)
    return Verdict(cost_class, pool, Factor(factor.name, factor.value, "beyond it, but jobs are not offered"))


def seats_of(estimate: Estimate | None) -> int:
    """Seats that the work takes: the process that serves it and those that help it."""
    return 1 + estimate.workers if estimate is not None else 1


def ends_of(kind: RequestKind, limits: ClassLimits) -> tuple[float, ...]:
    """The times at which a call would move to another class."""
    match kind:
        case RequestKind.DASHBOARD:
            return (limits.dashboard,)
        case RequestKind.EXPLORE:
            return (limits.exploration,)
        case _:
            return ()
