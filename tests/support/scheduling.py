"""Short words for asking the admission core and reading its decisions."""

from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, Admitted, Decision, Quantiles, Refused

DASHBOARD = PoolName.DASHBOARD
UNKNOWN = Quantiles()


def scheduler(in_flight: int = 1, queue: int = 10, tenant_queue: int = 10, wait: float = 0.25) -> Scheduler:
    limits = PoolLimits(in_flight, queue, 1, 1, wait_fraction=wait, tenant_queue=tenant_queue)
    other = PoolLimits(1, 10, 1, 1)
    return Scheduler({DASHBOARD: limits, PoolName.ADMIN: other}, seed=7)


def ask(
    id: str,
    tenant: str = "a",
    deadline: float = 10.0,
    predicted: Quantiles = UNKNOWN,
    pool: PoolName = DASHBOARD,
    *,
    exempt: bool = False,
) -> AdmissionRequest:
    return AdmissionRequest(id, tenant, pool, deadline, predicted=predicted, exempt=exempt)


def only(decisions: tuple[Decision, ...]) -> Decision:
    assert len(decisions) == 1
    return decisions[0]


def refused(decisions: tuple[Decision, ...]) -> Refused:
    decision = decisions[-1]
    assert isinstance(decision, Refused)
    return decision


def admitted_ids(decisions: tuple[Decision, ...]) -> list[str]:
    return [d.id for d in decisions if isinstance(d, Admitted)]
