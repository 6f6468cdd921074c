"""The statements of workers about their jobs: claims, and what is written under the fence of a claim.

See :mod:`broker.adapters.pg_jobs_sql` for what all statements share.
"""

# The lower bound on queue_rank lets the scan begin behind the dead versions of jobs that were claimed before; the
# adapter drops it every few seconds, so that no job stays below it.
_DUE = """state = 'queued' AND run_at <= now() AND kind = ANY($2::text[])
      AND queue_rank >= coalesce($4::timestamptz, '-infinity')
      AND (start_by_time IS NULL OR start_by_time > now() OR fence > 0)
      AND EXISTS (SELECT FROM broker.worker w
                  WHERE w.id = $1 AND NOT w.lost AND w.lease_expire_time > clock_timestamp())"""

# Found again by its place, which stays while its row is locked. A row that was changed between the look and the lock is
# not found by the place of its new version, which this statement does not see; the next claim finds it.
_TAKE = """UPDATE broker.job j SET
    state = 'running', fence = j.fence + 1, attempt = j.attempt + 1, revision = j.revision + 1, worker_id = $1,
    start_time = now(), update_time = now(), attempt_deadline = now() + make_interval(secs => j.attempt_timeout),
    progress = '{}'
FROM picked WHERE j.ctid = picked.ctid
RETURNING j.id, j.tenant, j.owner, j.kind, j.spec, j.request_id, j.principal, j.labels, j.trace, j.priority, j.revision,
          j.fence, j.attempt, j.max_attempts, j.crash_count, j.attempt_timeout, j.queue_rank, j.start_by_time,
          j.create_time, j.start_time, j.failure"""

CLAIM = f"""
WITH picked AS MATERIALIZED (
    SELECT ctid FROM broker.job
    WHERE {_DUE}
    ORDER BY queue_rank, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
{_TAKE}
"""  # noqa: S608 - pieces of this file

# Claims within limits come one after the other: in one transaction with the claim, and before it, so that its snapshot
# is taken when no other claim is under way. Ends of attempts only make room, so they need not wait.
LIMIT_LOCK = "SELECT pg_advisory_xact_lock(x'6a6f6273'::integer)"  # "jobs"

# $5 is the limit of each tenant, $6 and $7 are the limits by kind. What is at its limit is left out before the first
# jobs are picked; what would be beyond it with those picked before is dropped after that, and found again by the next
# claim.
CLAIM_WITHIN = f"""
WITH busy AS MATERIALIZED (
    SELECT tenant, kind, count(*) AS jobs FROM broker.job WHERE state = 'running' GROUP BY tenant, kind
), limits AS MATERIALIZED (
    SELECT * FROM unnest($6::text[], $7::integer[]) AS l (kind, most)
), full_tenant AS MATERIALIZED (
    SELECT tenant FROM busy GROUP BY tenant HAVING sum(jobs) >= $5
), full_kind AS MATERIALIZED (
    SELECT kind FROM limits WHERE most <= (SELECT coalesce(sum(b.jobs), 0) FROM busy b WHERE b.kind = limits.kind)
), found AS MATERIALIZED (
    SELECT ctid, id, tenant, kind, queue_rank FROM broker.job
    WHERE {_DUE}
      AND tenant NOT IN (SELECT tenant FROM full_tenant) AND kind NOT IN (SELECT kind FROM full_kind)
    ORDER BY queue_rank, id LIMIT $3 FOR UPDATE SKIP LOCKED
), placed AS (
    SELECT ctid, kind,
           row_number() OVER (PARTITION BY tenant ORDER BY queue_rank, id)
           + (SELECT coalesce(sum(jobs), 0) FROM busy b WHERE b.tenant = found.tenant) AS of_tenant,
           row_number() OVER (PARTITION BY kind ORDER BY queue_rank, id)
           + (SELECT coalesce(sum(jobs), 0) FROM busy b WHERE b.kind = found.kind) AS of_kind
    FROM found
), picked AS MATERIALIZED (
    SELECT p.ctid FROM placed p LEFT JOIN limits l ON l.kind = p.kind
    WHERE p.of_tenant <= coalesce($5::integer, p.of_tenant) AND p.of_kind <= coalesce(l.most, p.of_kind)
)
{_TAKE}
"""  # noqa: S608 - pieces of this file

REPORT = """
UPDATE broker.job j SET progress = u.progress::jsonb, revision = j.revision + 1, update_time = now()
FROM unnest($2::text[], $3::bigint[], $4::text[]) AS u (id, fence, progress)
WHERE j.id = u.id AND j.fence = u.fence AND j.worker_id IS NOT DISTINCT FROM $1 AND j.state = 'running'
RETURNING j.id
"""

# Several attempts of one worker at once; each with its manifest and its parts, or not at all. IS NOT DISTINCT FROM,
# because no index answers it: rows are to be found by their ids, not by walking over all that the worker has run.
SUCCEED = """
WITH done AS (
    UPDATE broker.job j SET
        state = 'succeeded', result = e.result::jsonb, result_inline = e.inline, progress = e.progress::jsonb,
        failure = NULL, result_expire_time = now() + make_interval(secs => $2), end_time = now(), update_time = now(),
        revision = j.revision + 1
    FROM unnest($3::text[], $4::bigint[], $5::text[], $6::bytea[], $7::text[])
        AS e (id, fence, result, inline, progress)
    WHERE j.id = e.id AND j.fence = e.fence AND j.worker_id IS NOT DISTINCT FROM $1 AND j.state = 'running'
    RETURNING j.id, j.fence
), parts AS (
    INSERT INTO broker.job_part (job_id, part_index, key, file_name, content_type, row_count, byte_count, sha256)
    SELECT p.* FROM unnest($8::text[], $9::integer[], $10::text[], $11::text[], $12::text[], $13::bigint[],
                           $14::bigint[], $15::bytea[]) AS p (job_id) JOIN done ON done.id = p.job_id
)
SELECT id, fence FROM done
"""

PUBLISHED = """
SELECT j.id, j.fence
FROM unnest($1::text[], $2::bigint[]) AS e (id, fence) JOIN broker.job j ON j.id = e.id AND j.fence = e.fence
WHERE j.state IN ('succeeded', 'expired')
"""

# For the worker itself ($1, its id) and for the reaper ($1 null), which has found the worker lost or the time over and
# looks once more here: the job may have got another, living worker since.
END = """
WITH ends AS (
    SELECT * FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::boolean[],
                         $9::boolean[], $10::boolean[])
        AS e (id, fence, state, failure, outcome, delay, dead_lettered, crashed, overdue)
), done AS (
    UPDATE broker.job j SET
        state = CASE WHEN e.state = 'queued' AND j.cancellation IS NOT NULL THEN 'cancelled' ELSE e.state END,
        failure = CASE WHEN e.state = 'queued' AND j.cancellation IS NOT NULL THEN j.cancellation
                       ELSE e.failure::jsonb END,
        end_time = CASE WHEN e.state = 'queued' AND j.cancellation IS NULL THEN NULL ELSE now() END,
        run_at = now() + make_interval(secs => e.delay),
        queue_rank = now() + make_interval(secs => e.delay) + j.priority * interval '1 minute',
        dead_lettered = e.dead_lettered, crash_count = j.crash_count + e.crashed::integer,
        revision = j.revision + 1, update_time = now()
    FROM ends e
    WHERE j.id = e.id AND j.fence = e.fence AND j.state = 'running'
      AND CASE WHEN $1::text IS NOT NULL THEN j.worker_id = $1
               ELSE e.overdue OR NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost) END
    RETURNING j.*, e.outcome, e.failure AS cause
), history AS (
    INSERT INTO broker.job_attempt (job_id, fence, attempt, worker_id, start_time, outcome, failure, progress)
    SELECT id, fence, attempt, worker_id, start_time, outcome, cause::jsonb, progress FROM done
)
SELECT id, state, queue_rank FROM done
"""

RELEASE = """
WITH done AS (
    UPDATE broker.job SET
        state = CASE WHEN cancellation IS NULL THEN 'queued' ELSE 'cancelled' END,
        failure = coalesce(cancellation, failure), end_time = CASE WHEN cancellation IS NOT NULL THEN now() END,
        attempt = attempt - 1, revision = revision + 1, update_time = now()
    WHERE id = $1 AND fence = $2 AND worker_id = $3 AND state = 'running'
    RETURNING *
), history AS (
    INSERT INTO broker.job_attempt (job_id, fence, attempt, worker_id, start_time, outcome, progress)
    SELECT id, fence, attempt + 1, worker_id, start_time, 'released', progress FROM done
)
SELECT id, state, queue_rank FROM done
"""

CANCELLED = """
WITH done AS (
    UPDATE broker.job SET
        state = 'cancelled', failure = cancellation, end_time = now(), revision = revision + 1, update_time = now()
    WHERE id = $1 AND fence = $2 AND worker_id = $3 AND state = 'running' AND cancellation IS NOT NULL
    RETURNING *
), history AS (
    INSERT INTO broker.job_attempt (job_id, fence, attempt, worker_id, start_time, outcome, progress)
    SELECT id, fence, attempt, worker_id, start_time, 'cancelled', progress FROM done
)
SELECT id FROM done
"""

HELD = "SELECT * FROM broker.job WHERE worker_id = $1 AND state = 'running'"
