"""The statements of the job queue. Each is a transaction of its own unless it says otherwise.

``now()`` is the database's clock at the start of the statement; lease rows use ``clock_timestamp()``, because a wait
for a row lock must not make a lease look younger. Every statement that ends an attempt without success also writes its
line of history, in the same transaction.
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

# What JobChange holds: few and narrow columns, since watchers ask for thousands of rows in a second.
CHANGES = """
SELECT id, revision, state, fence, progress, update_time, cancellation IS NOT NULL AS cancel_requested
FROM broker.job WHERE id = ANY($1::text[])
"""

VERSIONS = "SELECT id, revision FROM broker.job WHERE id = ANY($1::text[])"

# Without the bytes of small results: a page of them would be large, and nobody shows them.
LIST = """
SELECT j.state, j.run_at, j.create_time, j.id, j.tenant, j.owner, j.kind, j.spec, j.request_id, j.priority, j.revision,
       j.attempt, j.max_attempts, j.update_time, j.fence, j.crash_count, j.worker_id, j.principal,
       j.attempt_timeout, j.labels, j.progress, j.failure, j.cancellation, j.dead_lettered, j.start_time,
       j.end_time, j.start_by_time, j.trace, j.result, j.result_expire_time,
       NULL::bytea AS result_inline, CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
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

# The job that succeeded last for each name.
DATASETS = """
SELECT j.*, CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
FROM unnest($3::text[]) AS asked (name) CROSS JOIN LATERAL (
    SELECT * FROM broker.job j
    WHERE j.tenant = $1 AND j.owner = $2 AND j.kind = 'materialize' AND j.state IN ('succeeded', 'expired')
      AND j.result ->> 'dataset' = asked.name
    ORDER BY j.end_time DESC LIMIT 1
) AS j
"""

ALL_DATASETS = """
SELECT DISTINCT ON (j.result ->> 'dataset') j.*,
       CASE WHEN j.state = 'succeeded' THEN broker.job_parts(j.id) END AS parts
FROM broker.job j
WHERE j.tenant = $1 AND j.owner = $2 AND j.kind = 'materialize' AND j.state IN ('succeeded', 'expired')
ORDER BY j.result ->> 'dataset', j.end_time DESC
LIMIT 1000
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

# How full the queue is; counts stop at the bounds $3 and $4, which say all that is asked. $2 is the priority of a job
# to come, and "before" counts the jobs that would go before it. The times are those of the last jobs that succeeded.
BACKLOG = """
SELECT (SELECT count(*) FROM (SELECT FROM broker.job WHERE tenant = $1 AND state = 'queued' LIMIT $3) AS own) AS tenant,
       (SELECT extract(epoch FROM now() - min(run_at)) FROM broker.job WHERE tenant = $1 AND state = 'queued')
           ::float8 AS age,
       (SELECT count(*) FROM (SELECT FROM broker.job WHERE state = 'queued' LIMIT $4) AS every) AS queued,
       (SELECT count(*) FROM (SELECT FROM broker.job
                              WHERE state = 'queued' AND queue_rank <= now() + $2::smallint * interval '1 minute'
                              ORDER BY queue_rank LIMIT $4) AS first) AS before,
       (SELECT count(*) FROM broker.job WHERE state = 'running') AS running,
       (SELECT coalesce(sum(slot_count), 0) FROM broker.worker WHERE NOT lost AND lease_expire_time > now()) AS slots,
       (SELECT avg(extract(epoch FROM end_time - start_time))
        FROM (SELECT start_time, end_time FROM broker.job WHERE state = 'succeeded'
              ORDER BY result_expire_time DESC LIMIT 50) AS last)::float8 AS seconds
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

# In one transaction with END. A cancelled export is not over while a living worker still has a range of it.
FIND_ORPHANS = """
SELECT j.*, NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost) AS orphaned
FROM broker.job j
WHERE j.state = 'running'
  AND (j.attempt_deadline < now() - make_interval(secs => $1)
       OR NOT EXISTS (SELECT FROM broker.worker w WHERE w.id = j.worker_id AND NOT w.lost))
  AND (j.cancellation IS NULL
       OR NOT EXISTS (SELECT FROM broker.job_range r JOIN broker.worker w ON w.id = r.worker_id
                      WHERE r.job_id = j.id AND r.job_fence = j.fence AND r.parts IS NULL AND NOT r.own AND NOT w.lost))
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

DEPLOYMENT = "SELECT id FROM broker.deployment"

# Files belong to somebody while their attempt runs and after it has been published, under the same fence. What the next
# attempt may take over is kept for it.
UNWANTED = """
SELECT u.prefix FROM unnest($1::text[], $2::text[], $3::bigint[]) AS u (prefix, id, fence)
WHERE NOT EXISTS (SELECT FROM broker.job j
                  WHERE j.id = u.id AND j.fence = u.fence AND j.state IN ('running', 'succeeded'))
  AND NOT EXISTS (SELECT FROM broker.job_range r JOIN broker.job k ON k.id = r.job_id
                  WHERE r.job_id = u.id AND r.job_fence = u.fence AND r.parts IS NOT NULL
                    AND r.proofs <> '[]' AND k.state IN ('queued', 'running'))
"""
