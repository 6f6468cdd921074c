"""The statements of the job queue. Each is a transaction of its own unless it says otherwise.

``now()`` is the database's clock at the start of the statement; lease rows use ``clock_timestamp()``, because a wait
for a row lock must not make a lease look younger. Every statement that ends an attempt also writes its line of history,
in the same transaction.
"""

# The request id is taken and the job stored, or neither.
SUBMIT = """
WITH taken AS (
    INSERT INTO broker.job_request (tenant, request_id, job_id) VALUES ($2, $7, $1)
    ON CONFLICT (tenant, request_id) DO NOTHING RETURNING job_id
)
INSERT INTO broker.job (id, tenant, owner, kind, spec, spec_hash, request_id, principal, priority, max_attempts,
                        attempt_timeout, labels, trace, start_by_time, queue_rank)
SELECT job_id, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::smallint, $10, $11, $12::jsonb, $13::jsonb, $14,
       now() + $9::smallint * interval '1 minute'
FROM taken
RETURNING *
"""

FIND_REQUEST = """
SELECT j.*, CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
FROM broker.job_request r JOIN broker.job j ON j.id = r.job_id
WHERE r.tenant = $1 AND r.request_id = $2
"""

GET_MANY = """
SELECT j.*, CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
FROM broker.job j WHERE id = ANY($1::text[])
"""

VERSIONS = "SELECT id, revision FROM broker.job WHERE id = ANY($1::text[])"

LIST = """
SELECT j.*, CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
FROM broker.job_request r JOIN broker.job j ON j.id = r.job_id
WHERE r.tenant = $1
  AND ($2::text IS NULL OR j.owner = $2)
  AND ($3::text[] IS NULL OR j.state = ANY($3))
  AND ($4::text IS NULL OR j.kind = $4)
  AND (NOT $5::boolean OR j.dead_lettered)
  AND ($6::timestamptz IS NULL OR (r.create_time, r.job_id) < ($6, $7::text))
ORDER BY r.create_time DESC, r.job_id DESC
LIMIT $8
"""

# A queued job ends at once; a running one is flagged for its worker. Asking again changes nothing.
CANCEL = """
UPDATE broker.job SET
    state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
    failure = CASE state WHEN 'queued' THEN $3::jsonb ELSE failure END,
    end_time = CASE state WHEN 'queued' THEN now() END,
    cancellation = $3::jsonb, revision = revision + 1, update_time = now()
WHERE tenant = $1 AND id = $2 AND state IN ('queued', 'running') AND cancellation IS NULL
RETURNING *
"""

REQUEUE = """
UPDATE broker.job SET
    state = 'queued', dead_lettered = false, max_attempts = attempt + $3, crash_count = 0, cancellation = NULL,
    run_at = now(), queue_rank = now() + priority * interval '1 minute', start_by_time = NULL, end_time = NULL,
    progress = '{}', revision = revision + 1, update_time = now()
WHERE tenant = $1 AND id = $2 AND dead_lettered
RETURNING *
"""

DELETE = """
WITH gone AS (
    DELETE FROM broker.job WHERE tenant = $1 AND id = $2 AND state NOT IN ('queued', 'running') RETURNING *
), parts AS (
    DELETE FROM broker.job_part p USING gone WHERE p.job_id = gone.id
), history AS (
    DELETE FROM broker.job_attempt a USING gone WHERE a.job_id = gone.id
), request AS (
    DELETE FROM broker.job_request r USING gone WHERE r.tenant = gone.tenant AND r.request_id = gone.request_id
)
SELECT * FROM gone
"""

QUEUE_STATE = """
SELECT (SELECT count(*) FROM broker.job WHERE state = 'queued') AS queued,
       (SELECT count(*) FROM broker.job WHERE state = 'running') AS running,
       (SELECT count(*) FROM broker.job WHERE dead_lettered) AS dead_lettered,
       (SELECT extract(epoch FROM now() - min(run_at)) FROM broker.job WHERE state = 'queued' AND run_at <= now())
           ::float8 AS oldest
"""

WORKERS = """
SELECT w.*, (SELECT count(*) FROM broker.job j WHERE j.worker_id = w.id AND j.state = 'running') AS running
FROM broker.worker w WHERE NOT lost AND lease_expire_time > now() ORDER BY w.host, w.id
"""

# The lower bound on queue_rank lets the scan begin behind the dead versions of jobs that were claimed before; the
# adapter drops it every few seconds, so that no job stays below it.
CLAIM = """
WITH picked AS MATERIALIZED (
    SELECT id FROM broker.job
    WHERE state = 'queued' AND run_at <= now() AND kind = ANY($2::text[])
      AND queue_rank >= coalesce($4::timestamptz, '-infinity')
      AND (start_by_time IS NULL OR start_by_time > now() OR fence > 0)
      AND EXISTS (SELECT FROM broker.worker w
                  WHERE w.id = $1 AND NOT w.lost AND w.lease_expire_time > clock_timestamp())
    ORDER BY queue_rank, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE broker.job j SET
    state = 'running', fence = j.fence + 1, attempt = j.attempt + 1, revision = j.revision + 1, worker_id = $1,
    start_time = now(), update_time = now(), attempt_deadline = now() + make_interval(secs => j.attempt_timeout),
    progress = '{}'
FROM picked WHERE j.id = picked.id
RETURNING j.id, j.tenant, j.owner, j.kind, j.spec, j.request_id, j.principal, j.labels, j.trace, j.priority, j.revision,
          j.fence, j.attempt, j.max_attempts, j.crash_count, j.attempt_timeout, j.queue_rank, j.start_by_time,
          j.create_time, j.start_time, j.failure
"""

REPORT = """
UPDATE broker.job j SET progress = u.progress::jsonb, revision = j.revision + 1, update_time = now()
FROM unnest($2::text[], $3::bigint[], $4::text[]) AS u (id, fence, progress)
WHERE j.id = u.id AND j.fence = u.fence AND j.worker_id IS NOT DISTINCT FROM $1 AND j.state = 'running'
RETURNING j.id
"""

# Several attempts of one worker at once; each with its manifest, its parts and its line of history, or not at all. IS
# NOT DISTINCT FROM, because no index answers it: rows are to be found by their ids, not by walking over all that the
# worker has run lately.
SUCCEED = """
WITH done AS (
    UPDATE broker.job j SET
        state = 'succeeded', result = e.result::jsonb, result_inline = e.inline, progress = e.progress::jsonb,
        failure = NULL, result_expire_time = now() + make_interval(secs => $2), end_time = now(), update_time = now(),
        revision = j.revision + 1
    FROM unnest($3::text[], $4::bigint[], $5::text[], $6::bytea[], $7::text[])
        AS e (id, fence, result, inline, progress)
    WHERE j.id = e.id AND j.fence = e.fence AND j.worker_id IS NOT DISTINCT FROM $1 AND j.state = 'running'
    RETURNING j.id, j.fence, j.attempt, j.worker_id, j.start_time, j.progress
), parts AS (
    INSERT INTO broker.job_part (job_id, part_index, key, file_name, content_type, row_count, byte_count, sha256)
    SELECT p.* FROM unnest($8::text[], $9::integer[], $10::text[], $11::text[], $12::text[], $13::bigint[],
                           $14::bigint[], $15::bytea[]) AS p (job_id) JOIN done ON done.id = p.job_id
), history AS (
    INSERT INTO broker.job_attempt (job_id, fence, attempt, worker_id, start_time, outcome, progress)
    SELECT id, fence, attempt, worker_id, start_time, 'succeeded', progress FROM done
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

REGISTER = """
INSERT INTO broker.worker (id, host, process_id, build, slot_count, lease_expire_time)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
"""

RENEW = """
UPDATE broker.worker SET lease_expire_time = clock_timestamp() + make_interval(secs => $2)
WHERE id = $1 AND NOT lost RETURNING id
"""

END_LEASE = "DELETE FROM broker.worker WHERE id = $1"

# The row lock decides between a renewal and this: whoever comes first. After it, no renewal succeeds.
DECLARE_LOST = """
UPDATE broker.worker SET lost = true
WHERE id IN (SELECT id FROM broker.worker WHERE NOT lost AND lease_expire_time < clock_timestamp()
             ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)
"""

# In one transaction with END.
FIND_ORPHANS = """
SELECT j.*, NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost) AS orphaned
FROM broker.job j
WHERE j.state = 'running'
  AND (j.attempt_deadline < now() - make_interval(secs => $1)
       OR NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost))
ORDER BY j.id LIMIT 100 FOR UPDATE OF j SKIP LOCKED
"""

# In one transaction with FAIL_UNSTARTED.
FIND_UNSTARTED = """
SELECT * FROM broker.job WHERE state = 'queued' AND start_by_time < now() AND fence = 0
ORDER BY start_by_time LIMIT 100 FOR UPDATE SKIP LOCKED
"""

FAIL_UNSTARTED = """
UPDATE broker.job j SET
    state = 'failed', failure = u.failure::jsonb, end_time = now(), update_time = now(), revision = revision + 1
FROM unnest($1::text[], $2::text[]) AS u (id, failure) WHERE j.id = u.id
"""

EXPIRE = """
WITH over AS (
    SELECT id FROM broker.job WHERE state = 'succeeded' AND result_expire_time < now()
    ORDER BY result_expire_time LIMIT 100 FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE broker.job j SET state = 'expired', result_inline = NULL, revision = revision + 1, update_time = now()
    FROM over WHERE j.id = over.id
    RETURNING j.*
), parts AS (
    DELETE FROM broker.job_part p USING done WHERE p.job_id = done.id
)
SELECT * FROM done
"""

PURGE = """
WITH over AS (
    SELECT id FROM broker.job
    WHERE state IN ('failed', 'cancelled', 'expired')
      AND coalesce(result_expire_time, end_time) < now() - make_interval(secs => $1)
    ORDER BY coalesce(result_expire_time, end_time) LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM broker.job j USING over WHERE j.id = over.id RETURNING j.id, j.tenant, j.request_id
), history AS (
    DELETE FROM broker.job_attempt a USING gone WHERE a.job_id = gone.id
), request AS (
    DELETE FROM broker.job_request r USING gone WHERE r.tenant = gone.tenant AND r.request_id = gone.request_id
)
SELECT count(*) FROM gone
"""

PURGE_WORKERS = """
DELETE FROM broker.worker w
WHERE lost AND lease_expire_time < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM broker.job j WHERE j.worker_id = w.id AND j.state = 'running')
"""

# Files belong to somebody while their attempt runs and after it has been published, under the same fence.
UNWANTED = """
SELECT u.prefix FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (prefix, id, fence)
WHERE NOT EXISTS (SELECT FROM broker.job j
                  WHERE j.id = u.id AND j.fence = u.fence AND j.state IN ('running', 'succeeded'))
"""
