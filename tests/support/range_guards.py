"""Every fence, guard and lease check in the statements about ranges, each with a way to remove it and what needs it."""

from __future__ import annotations

from functools import partial

from broker.adapters import pg_jobs_sql as store
from broker.adapters import pg_ranges_sql as sql
from tests.support.job_guards import Guard
from tests.support.range_attempts import (
    Write,
    begin,
    cancelled_when_all_have_stopped,
    claims_of_an_attempt,
    claims_of_kinds_that_are_known,
    claims_of_nothing_that_failed,
    claims_of_nothing_that_is_taken,
    claims_of_nothing_withdrawn,
    claims_of_nothing_written,
    claims_without_a_lease,
    finish,
    finished_for_an_attempt_that_is_over,
    holds_its_own,
    old_ranges_forgotten,
    opened_after_the_end,
    opened_by_a_stale_attempt,
    other_worker,
    own_after_the_withdrawal,
    own_is_not_waited_for,
    own_of_a_stale_attempt,
    own_spares_those_who_read,
    own_spares_what_is_written,
    release,
    report,
    stale_range,
    told_to_stop,
    waited_for,
    withdrawn,
    written_already,
)
from tests.support.range_legacies import inherits, kept_for_the_next, left_by_others

NOBODY = "\n       OR NOT EXISTS (SELECT FROM broker.job_range"
TAKEN = "NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = r.worker_id AND NOT w.lost)"
WRITES: dict[str, Write] = {"BEGIN": begin, "FINISH": finish, "RELEASE": release, "REPORT": report}
ANY_FENCE, ANY_WORKER = "$4::bigint IS NOT NULL", "$5::text IS NOT NULL"


def _writes() -> list[Guard]:
    found = []
    for name, write in WRITES.items():
        many = name == "REPORT"
        fence, worker = (
            ("r.fence = u.fence", "r.worker_id = $1") if many else ("r.fence = $4", "r.worker_id = $5")
        )
        any_fence, any_worker = ("true", "$1::text IS NOT NULL") if many else (ANY_FENCE, ANY_WORKER)
        found += [
            Guard(sql, name, fence, any_fence, partial(stale_range, write)),
            Guard(sql, name, worker, any_worker, partial(other_worker, write)),
        ]
        if name != "FINISH":
            found.append(Guard(sql, name, "AND r.parts IS NULL", "", partial(written_already, write)))
        if name in ("BEGIN", "FINISH"):
            found.append(Guard(sql, name, "AND NOT r.withdrawn", "", partial(withdrawn, write)))
    return found


def _claims() -> list[Guard]:
    over = {
        "AND j.state = 'running'": "released",
        "AND j.fence = r.job_fence": "again",
        "AND j.cancellation IS NULL": "cancelled",
        "AND j.attempt_deadline > now()": "late",
        "AND EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost)": "lost",
    }
    return [
        *(Guard(sql, "CLAIM", piece, "", partial(claims_of_an_attempt, ended=ended)) for piece, ended in over.items()),
        Guard(sql, "CLAIM", "j.kind = ANY($2::text[])", "$2::text[] IS NOT NULL", claims_of_kinds_that_are_known),
        Guard(sql, "CLAIM", "r.parts IS NULL", "true", claims_of_nothing_written),
        Guard(sql, "CLAIM", "AND NOT r.withdrawn", "", claims_of_nothing_withdrawn),
        Guard(sql, "CLAIM", "AND NOT r.failed", "", claims_of_nothing_that_failed),
        Guard(sql, "CLAIM", f"(r.worker_id IS NULL OR {TAKEN})", "true", claims_of_nothing_that_is_taken),
        Guard(sql, "CLAIM", "AND w.lease_expire_time > clock_timestamp()", "", claims_without_a_lease),
        Guard(sql, "CLAIM", "w.id = $1 AND NOT w.lost", "w.id = $1", claims_without_a_lease),
    ]  # fmt: skip


def _held() -> list[Guard]:
    stops = {
        "r.withdrawn OR": "withdrawn",
        "OR j.state <> 'running'": "released",
        "j.fence <> r.job_fence OR": "again",
        "OR j.cancellation IS NOT NULL": "cancelled",
        "OR NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost)": "lost",
    }
    return [Guard(sql, "HELD", piece, "", partial(told_to_stop, why=why)) for piece, why in stops.items()]


def _inherited() -> list[Guard]:
    same = "AND (o.low, o.high, o.nulls) IS NOT DISTINCT FROM (w.low, w.high, w.nulls)"
    proven = "AND o.proofs ?| ARRAY(SELECT jsonb_array_elements_text(w.proofs))"
    taken = "AND NOT EXISTS (SELECT FROM broker.job_range"
    return [
        Guard(sql, "OPEN", "o.job_fence = $12", "-o.job_fence = $12", partial(inherits, expected=True)),
        Guard(sql, "OPEN", "o.job_fence = $12", "$12::bigint IS NOT NULL", partial(inherits, legacy=0)),
        Guard(sql, "OPEN", "AND o.fingerprint = $10", "", partial(inherits, plan="other")),
        Guard(sql, "OPEN", same, "", partial(inherits, low=1)),
        Guard(sql, "OPEN", "AND o.parts IS NOT NULL", "", partial(inherits, done=False)),
        Guard(sql, "OPEN", "AND w.parts IS NOT NULL", "", partial(inherits, files=False)),
        Guard(sql, "OPEN", proven, "", partial(inherits, given="other")),
        Guard(sql, "LEFT", "AND r.fingerprint = $3", "AND $3::text IS NOT NULL", left_by_others),
        Guard(sql, "LEFT", "AND o.job_fence < $2", "AND $2::bigint IS NOT NULL", left_by_others),
        Guard(store, "UNWANTED", taken, taken.replace("NOT ", ""), kept_for_the_next),
        Guard(
            store,
            "UNWANTED",
            "AND r.parts IS NOT NULL",
            "",
            partial(kept_for_the_next, proofs=("unfinished",)),
        ),
        Guard(store, "UNWANTED", "AND r.proofs <> '[]'", "", partial(kept_for_the_next, proofs=())),
        Guard(
            store,
            "UNWANTED",
            "AND k.state IN ('queued', 'running')",
            "",
            partial(kept_for_the_next, over=True),
        ),
    ]


RANGE_GUARDS = (
    *_inherited(),
    *_writes(),
    *_claims(),
    *_held(),
    Guard(sql, "FINISH", "AND j.state = 'running'", "",
          partial(finished_for_an_attempt_that_is_over, requeued=False)),
    Guard(sql, "FINISH", "AND j.fence = r.job_fence", "",
          partial(finished_for_an_attempt_that_is_over, requeued=True)),
    Guard(sql, "OPEN", "AND fence = $2", "", partial(opened_by_a_stale_attempt, fence=0)),
    Guard(sql, "OPEN", "AND worker_id = $3", "AND $3::text IS NOT NULL",
          partial(opened_by_a_stale_attempt, worker_id="other")),
    Guard(sql, "OPEN", "AND state = 'running'", "", opened_after_the_end),
    Guard(sql, "OPEN", "AND r.job_fence < $2", "AND r.job_fence < 0", old_ranges_forgotten),
    Guard(sql, "CLAIM_OWN", "AND j.worker_id = $3", "", own_of_a_stale_attempt),
    Guard(sql, "CLAIM_OWN", "AND j.state = 'running'", "", own_of_a_stale_attempt),
    Guard(sql, "CLAIM_OWN", f"AND (r.own OR NOT r.begun OR r.worker_id IS NULL OR {TAKEN})", "",
          own_spares_those_who_read),
    Guard(sql, "CLAIM_OWN", "AND r.parts IS NULL", "", own_spares_what_is_written),
    Guard(sql, "CLAIM_OWN", "AND NOT r.withdrawn", "", own_after_the_withdrawal),
    Guard(sql, "WITHDRAW", "r.parts IS NULL AND", "", waited_for),
    Guard(sql, "WITHDRAW", "AND NOT r.own", "", own_is_not_waited_for),
    Guard(sql, "WITHDRAW", "AND NOT w.lost", "", waited_for),
    Guard(sql, "HELD", "AND NOT r.own", "", holds_its_own),
    Guard(store, "FIND_ORPHANS", f"j.cancellation IS NULL{NOBODY}", f"true{NOBODY}", cancelled_when_all_have_stopped),
)  # fmt: skip
