"""The statements about ranges of exports.

What the attempt does is guarded by its job's fence, what its helpers do by the fence of the range. A range counts as
somebody's while the lease of that worker has not been declared lost.
"""

_ALIVE = "EXISTS (SELECT FROM broker.worker w WHERE w.id = {} AND NOT w.lost)"
_TAKEN = _ALIVE.format("r.worker_id")

# What the last attempt left that opened ranges.
LEFT = """
SELECT r.job_fence, r.low, r.high, r.nulls, r.proofs, r.parts FROM broker.job_range r
WHERE r.job_id = $1 AND r.fingerprint = $3 AND r.job_fence = (
    SELECT max(o.job_fence) FROM broker.job_range o WHERE o.job_id = $1 AND o.job_fence < $2)
ORDER BY r.range_index
"""

# The row lock keeps a claim of the job from coming in between. What earlier attempts left is forgotten, but for the
# finished ranges that are taken over: the same range of the same plan, whose rows are proven to be the same.
OPEN = """
WITH attempt AS (
    SELECT id FROM broker.job WHERE id = $1 AND fence = $2 AND worker_id = $3 AND state = 'running' FOR SHARE
), old AS (
    DELETE FROM broker.job_range r USING attempt WHERE r.job_id = attempt.id AND r.job_fence < $2 RETURNING r.*
), wanted AS (
    SELECT u.position - 1 AS range_index, u.low, u.high, u.nulls, u.proofs::jsonb AS proofs, u.parts::jsonb AS parts
    FROM unnest($4::bigint[], $5::bigint[], $6::boolean[], $7::text[], $8::text[])
         WITH ORDINALITY AS u (low, high, nulls, proofs, parts, position)
), made AS (
    INSERT INTO broker.job_range (job_id, job_fence, range_index, low, high, nulls, snapshot, fingerprint, proofs,
                                  read_time, inherited, parts, row_count, byte_count)
    SELECT attempt.id, $2, w.range_index, w.low, w.high, w.nulls, $9, $10, w.proofs, coalesce(o.read_time, $11),
           o.job_id IS NOT NULL, CASE WHEN o.job_id IS NOT NULL THEN w.parts END, coalesce(o.row_count, 0),
           coalesce(o.byte_count, 0)
    FROM attempt CROSS JOIN wanted w LEFT JOIN old o
        ON o.job_fence = $12 AND o.fingerprint = $10
       AND (o.low, o.high, o.nulls) IS NOT DISTINCT FROM (w.low, w.high, w.nulls)
       AND o.parts IS NOT NULL AND w.parts IS NOT NULL
       AND o.proofs ?| ARRAY(SELECT jsonb_array_elements_text(w.proofs))
    ON CONFLICT DO NOTHING
)
SELECT id, now() AS open_time FROM attempt
"""

# The attempt takes what nobody has; when there is no such range, one whose worker still waits for its seat. A range
# that the attempt has already is one of whose claim it did not learn.
CLAIM_OWN = f"""
WITH picked AS (
    SELECT r.range_index FROM broker.job_range r
    WHERE r.job_id = $1 AND r.job_fence = $2 AND r.parts IS NULL AND NOT r.withdrawn
      AND (r.own OR NOT r.begun OR r.worker_id IS NULL OR NOT {_TAKEN})
      AND EXISTS (SELECT FROM broker.job j
                  WHERE j.id = $1 AND j.fence = $2 AND j.worker_id = $3 AND j.state = 'running')
    ORDER BY r.worker_id IS NOT NULL AND NOT r.own, r.range_index LIMIT 1 FOR UPDATE OF r SKIP LOCKED
)
UPDATE broker.job_range r SET
    fence = r.fence + 1, worker_id = $3, own = true, begun = true, row_count = 0, byte_count = 0
FROM picked WHERE r.job_id = $1 AND r.job_fence = $2 AND r.range_index = picked.range_index
RETURNING r.range_index, r.fence, r.low, r.high, r.nulls
"""  # noqa: S608 - pieces of this file

# Once more is the same: the outcome of the first try may be unknown.
FINISH = """
UPDATE broker.job_range r SET parts = $6::jsonb, row_count = $7, byte_count = $8
WHERE r.job_id = $1 AND r.job_fence = $2 AND r.range_index = $3 AND r.fence = $4 AND r.worker_id = $5
  AND NOT r.withdrawn
  AND EXISTS (SELECT FROM broker.job j WHERE j.id = r.job_id AND j.fence = r.job_fence AND j.state = 'running')
RETURNING r.range_index
"""

STATE = f"""
SELECT r.range_index, r.fence, r.low, r.high, r.nulls, r.row_count, r.byte_count, r.parts,
       CASE WHEN r.inherited THEN r.read_time END AS inherited,
       r.worker_id IS NOT NULL AND {_TAKEN} AS busy
FROM broker.job_range r WHERE r.job_id = $1 AND r.job_fence = $2 ORDER BY r.range_index
"""  # noqa: S608 - pieces of this file

# A claim under way is waited for by its row lock, and then seen.
WITHDRAW = f"""
UPDATE broker.job_range r SET withdrawn = true WHERE r.job_id = $1 AND r.job_fence = $2
RETURNING r.range_index, r.parts IS NULL AND NOT r.own AND r.worker_id IS NOT NULL AND {_TAKEN} AS held
"""  # noqa: S608 - pieces of this file

FORGET = "DELETE FROM broker.job_range WHERE job_id = $1 AND job_fence <= $2"

CLAIM = f"""
WITH picked AS MATERIALIZED (
    SELECT r.job_id, r.job_fence, r.range_index
    FROM broker.job_range r JOIN broker.job j ON j.id = r.job_id AND j.fence = r.job_fence
    WHERE r.parts IS NULL AND NOT r.withdrawn AND NOT r.own AND NOT r.failed
      AND (r.worker_id IS NULL OR NOT {_TAKEN})
      AND j.state = 'running' AND j.kind = ANY($2::text[]) AND j.cancellation IS NULL AND j.attempt_deadline > now()
      AND {_ALIVE.format("j.worker_id")}
      AND EXISTS (SELECT FROM broker.worker w
                  WHERE w.id = $1 AND NOT w.lost AND w.lease_expire_time > clock_timestamp())
    ORDER BY r.job_id, r.job_fence, r.range_index LIMIT $3 FOR UPDATE OF r SKIP LOCKED
)
UPDATE broker.job_range r SET fence = r.fence + 1, worker_id = $1, begun = false, row_count = 0, byte_count = 0
FROM picked JOIN broker.job j ON j.id = picked.job_id
WHERE r.job_id = picked.job_id AND r.job_fence = picked.job_fence AND r.range_index = picked.range_index
RETURNING r.job_fence, r.range_index, r.low, r.high, r.nulls, r.snapshot, r.fingerprint, r.fence AS range_fence,
          j.id, j.tenant, j.owner, j.spec, j.request_id, j.principal, j.labels, j.trace, j.priority, j.revision,
          j.attempt, j.create_time, j.start_time, r.worker_id, false AS stop,
          greatest(0.001, extract(epoch FROM j.attempt_deadline - now()))::float8 AS seconds
"""  # noqa: S608 - pieces of this file

HELD = f"""
SELECT r.job_fence, r.range_index, r.low, r.high, r.nulls, r.snapshot, r.fingerprint, r.fence AS range_fence,
       j.id, j.tenant, j.owner, j.spec, j.request_id, j.principal, j.labels, j.trace, j.priority, j.revision,
       j.attempt, j.create_time, j.start_time, r.worker_id,
       greatest(0.001, extract(epoch FROM j.attempt_deadline - now()))::float8 AS seconds,
       r.withdrawn OR j.fence <> r.job_fence OR j.state <> 'running' OR j.cancellation IS NOT NULL
       OR NOT {_ALIVE.format("j.worker_id")} AS stop
FROM broker.job_range r JOIN broker.job j ON j.id = r.job_id
WHERE r.worker_id = $1 AND NOT r.own AND r.parts IS NULL
"""  # noqa: S608 - pieces of this file

_MINE = """r.job_id = $1 AND r.job_fence = $2 AND r.range_index = $3 AND r.fence = $4 AND r.worker_id = $5
  AND r.parts IS NULL"""

BEGIN = f"UPDATE broker.job_range r SET begun = true WHERE {_MINE} AND NOT r.withdrawn RETURNING r.fence"  # noqa: S608 - pieces of this file

RELEASE = f"""
UPDATE broker.job_range r SET worker_id = NULL, begun = false, failed = r.failed OR $6 WHERE {_MINE} RETURNING r.fence
"""  # noqa: S608 - pieces of this file

REPORT = """
UPDATE broker.job_range r SET row_count = u.row_count, byte_count = u.byte_count
FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS u (job_id, job_fence, range_index, fence, row_count, byte_count)
WHERE r.job_id = u.job_id AND r.job_fence = u.job_fence AND r.range_index = u.range_index AND r.fence = u.fence
  AND r.worker_id = $1 AND r.parts IS NULL
RETURNING r.job_id, r.job_fence, r.range_index
"""
