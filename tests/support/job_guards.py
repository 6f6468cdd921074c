"""Every fence, guard and lease check in the statements about jobs, each with a way to remove it and what needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import ModuleType

from broker.adapters import pg_adoption as adoption
from broker.adapters import pg_checkpoints as checkpoints
from broker.adapters import pg_jobs_sql as store
from broker.adapters import pg_jobs_sql_work as work
from tests.support.job_attempts import (
    Scenario,
    attempt_counts,
    claimed_twice,
    confirm_cancel,
    deadline_is_set,
    ended_attempt,
    fail,
    fence_grows,
    hasty_reaper,
    kind_at_its_limit,
    kind_unknown,
    late_worker,
    lost_worker_with_time,
    not_asked_to_stop,
    not_due,
    other_worker,
    published_by_another,
    release,
    report,
    stale_attempt,
    stopped_while_it_failed,
    stopped_while_it_was_released,
    succeed,
    tenant_at_its_limit,
    tenant_in_front,
    too_late_to_begin,
    two_claims_of_one_job,
    two_claims_within_a_limit,
    unknown_worker,
)
from tests.support.job_keeping import (
    adopted_without_a_lease,
    begun_in_time,
    cancel_after_the_end,
    cancel_again,
    cancelled_before_it_began,
    checkpoint,
    checkpoint_of_a_later_attempt,
    delete_of_the_living,
    expired_once,
    files_of,
    in_time_to_begin,
    living_worker,
    only_the_ended_purged,
    records_kept,
    renewal_of_the_lost,
    repeated_submission,
    requeue_of_the_living,
    results_kept,
    stranger,
)

ANY_TENANT, ANY_WORKER = "$1::text IS NOT NULL AND", "$3::text IS NOT NULL AND"


@dataclass(frozen=True, slots=True)
class Guard:
    """A piece of a statement, what takes its place when it is removed, and the scenario that needs it."""

    module: ModuleType
    statement: str
    piece: str
    without: str
    scenario: Scenario

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.statement}: {self.piece}"

    @property
    def removed(self) -> str:
        """The statement without it."""
        text = str(getattr(self.module, self.statement))
        assert text.count(self.piece) == 1, f"{self.name} occurs {text.count(self.piece)} times"
        return text.replace(self.piece, self.without)


def _writes() -> list[Guard]:
    """The three guards of every write of a worker."""
    found = []
    for statement, write in {"REPORT": report, "SUCCEED": succeed}.items():
        entry = "u" if statement == "REPORT" else "e"
        worker = "j.worker_id IS NOT DISTINCT FROM $1"
        found += [
            Guard(work, statement, f"AND j.fence = {entry}.fence", "", partial(stale_attempt, write)),
            Guard(work, statement, worker, "$1::text IS NOT NULL", partial(other_worker, write)),
            Guard(work, statement, "AND j.state = 'running'", "", partial(ended_attempt, write)),
        ]
    for statement, write in {"RELEASE": release, "CANCELLED": confirm_cancel}.items():
        fence, worker = "fence = $2 AND", "worker_id = $3 AND"
        found += [
            Guard(work, statement, fence, "$2::bigint IS NOT NULL AND", partial(stale_attempt, write)),
            Guard(work, statement, worker, ANY_WORKER, partial(other_worker, write)),
            Guard(work, statement, "AND state = 'running'", "", partial(ended_attempt, write)),
        ]
    return [
        *found,
        Guard(work, "END", "AND j.fence = e.fence", "", partial(stale_attempt, fail)),
        Guard(work, "END", "j.worker_id = $1", "true", partial(other_worker, fail)),
        Guard(work, "END", "AND j.state = 'running'", "", partial(ended_attempt, fail)),
    ]


ALIVE = "NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost)"

GUARDS = (
    *_writes(),
    Guard(work, "CANCELLED", "AND cancellation IS NOT NULL", "", not_asked_to_stop),
    Guard(work, "PUBLISHED", "AND j.fence = e.fence", "", published_by_another),
    Guard(work, "PUBLISHED", "WHERE j.state IN ('succeeded', 'expired')", "", partial(ended_attempt, succeed)),
    Guard(work, "END", "CASE WHEN e.state = 'queued' AND j.cancellation IS NOT NULL THEN 'cancelled' ELSE e.state END",
          "e.state", stopped_while_it_failed),
    Guard(work, "RELEASE", "CASE WHEN cancellation IS NULL THEN 'queued' ELSE 'cancelled' END", "'queued'",
          stopped_while_it_was_released),
    Guard(work, "END", f"e.overdue OR {ALIVE}", "true", hasty_reaper),
    Guard(work, "CLAIM", "state = 'queued' AND", "", claimed_twice),
    Guard(work, "CLAIM", "run_at <= now() AND", "", not_due),
    Guard(work, "CLAIM", "kind = ANY($2::text[])", "$2::text[] IS NOT NULL", kind_unknown),
    Guard(work, "CLAIM", "AND (start_by_time IS NULL OR start_by_time > now() OR fence > 0)", "", too_late_to_begin),
    Guard(work, "CLAIM", "w.id = $1 AND", "", unknown_worker),
    Guard(work, "CLAIM", "AND w.lease_expire_time > clock_timestamp()", "", late_worker),
    Guard(work, "CLAIM", "AND NOT w.lost", "", lost_worker_with_time),
    Guard(work, "CLAIM", "FOR UPDATE SKIP LOCKED", "", two_claims_of_one_job),
    Guard(work, "CLAIM", "fence = j.fence + 1,", "", fence_grows),
    Guard(work, "CLAIM", "attempt = j.attempt + 1,", "", attempt_counts),
    Guard(work, "CLAIM", "make_interval(secs => j.attempt_timeout)", "interval '1 year'", deadline_is_set),
    Guard(work, "LIMIT_LOCK", "pg_advisory_xact_lock(x'6a6f6273'::integer)", "1", two_claims_within_a_limit),
    Guard(work, "CLAIM_WITHIN", "p.of_tenant <= coalesce($5::integer, p.of_tenant) AND", "", tenant_at_its_limit),
    Guard(work, "CLAIM_WITHIN", "AND p.of_kind <= coalesce(l.most, p.of_kind)", "", kind_at_its_limit),
    Guard(work, "CLAIM_WITHIN", "AND tenant NOT IN (SELECT tenant FROM full_tenant)", "", tenant_in_front),
    Guard(store, "SUBMIT", "ON CONFLICT (tenant, request_id) DO NOTHING", "", repeated_submission),
    Guard(store, "CANCEL", "tenant = $1 AND", ANY_TENANT, partial(stranger, "cancel")),
    Guard(store, "REQUEUE", "tenant = $1 AND", ANY_TENANT, partial(stranger, "requeue")),
    Guard(store, "DELETE", "tenant = $1 AND", ANY_TENANT, partial(stranger, "delete")),
    Guard(store, "CANCEL", "AND state IN ('queued', 'running')", "", cancel_after_the_end),
    Guard(store, "CANCEL", "AND cancellation IS NULL", "", cancel_again),
    Guard(store, "REQUEUE", "AND dead_lettered", "", requeue_of_the_living),
    Guard(store, "DELETE", "AND state NOT IN ('queued', 'running')", "", delete_of_the_living),
    Guard(store, "RENEW", "AND NOT lost", "", renewal_of_the_lost),
    Guard(store, "DECLARE_LOST", "AND lease_expire_time < clock_timestamp()", "", living_worker),
    Guard(store, "FIND_ORPHANS", "j.attempt_deadline < now() - make_interval(secs => $1)",
          "make_interval(secs => $1) IS NOT NULL", living_worker),
    Guard(store, "FIND_ORPHANS", f"\n       OR {ALIVE})", "\n       OR true)", living_worker),
    Guard(store, "FIND_UNSTARTED", "AND start_by_time < now()", "", in_time_to_begin),
    Guard(store, "FIND_UNSTARTED", "state = 'queued' AND", "", cancelled_before_it_began),
    Guard(store, "FIND_UNSTARTED", "AND fence = 0", "", begun_in_time),
    Guard(store, "EXPIRE", "AND result_expire_time < now()", "", results_kept),
    Guard(store, "EXPIRE", "state = 'succeeded' AND", "", expired_once),
    Guard(store, "PURGE", "AND coalesce(result_expire_time, end_time) < now() - make_interval(secs => $1)",
          "AND $1::float8 IS NOT NULL", records_kept),
    Guard(store, "PURGE", "state IN ('failed', 'cancelled', 'expired')", "true", only_the_ended_purged),
    Guard(store, "UNWANTED", "AND j.fence = u.fence", "", partial(files_of, "running")),
    Guard(store, "UNWANTED", "AND j.state IN ('running', 'succeeded')", "", partial(files_of, "failed")),
    Guard(checkpoints, "SAVE", "fence = $2 AND", "$2::bigint IS NOT NULL AND", partial(checkpoint, stale_attempt)),
    Guard(checkpoints, "SAVE", "worker_id = $3 AND", ANY_WORKER, partial(checkpoint, other_worker)),
    Guard(checkpoints, "SAVE", "AND state = 'running'", "", partial(checkpoint, ended_attempt)),
    Guard(checkpoints, "SAVE", "WHERE job_checkpoint.fence <= excluded.fence", "", checkpoint_of_a_later_attempt),
    Guard(adoption, "ADOPT", "AND NOT lost", "", partial(adopted_without_a_lease, "lost = true")),
    Guard(adoption, "ADOPT", "AND lease_expire_time > clock_timestamp()", "",
          partial(adopted_without_a_lease, "lease_expire_time = now() - interval '1 second'")),
)  # fmt: skip
