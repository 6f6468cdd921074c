-- The job queue, its history, its results and its workers. docs/jobs.md explains states and guards.

CREATE TABLE broker.worker (
    id                text PRIMARY KEY,               -- new whenever a lease begins
    host              text NOT NULL,
    process_id        integer NOT NULL,
    build             text NOT NULL,
    slot_count        integer NOT NULL,
    start_time        timestamptz NOT NULL DEFAULT now(),
    lease_expire_time timestamptz NOT NULL,
    lost              boolean NOT NULL DEFAULT false  -- final: a worker that was declared lost never renews again
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 100);

-- fillfactor leaves room for progress to be written on the same page. update_time and progress are in no index, so
-- such writes touch no index either.
CREATE TABLE broker.job (
    id                 text PRIMARY KEY,
    tenant             text NOT NULL,
    owner              text NOT NULL,
    kind               text NOT NULL,
    spec               bytea NOT NULL,                -- the request, as the transport serialized it
    spec_hash          text NOT NULL,                 -- tells a repeated request from another one with the same id
    request_id         text NOT NULL,
    principal          jsonb NOT NULL,                -- the submitter as they were, for row policies
    labels             jsonb NOT NULL DEFAULT '{}',
    trace              jsonb NOT NULL DEFAULT '{}',   -- W3C headers of the submission
    priority           smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    state              text NOT NULL DEFAULT 'queued'
                       CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')),
    revision           bigint NOT NULL DEFAULT 1,     -- grows with every change
    fence              bigint NOT NULL DEFAULT 0,     -- grows with every claim, never shrinks, guards every write
    attempt            integer NOT NULL DEFAULT 0,    -- counts, and is given back on a graceful stop
    max_attempts       integer NOT NULL CHECK (max_attempts > 0),
    crash_count        integer NOT NULL DEFAULT 0,
    attempt_timeout    double precision NOT NULL CHECK (attempt_timeout > 0),  -- seconds
    attempt_deadline   timestamptz,
    worker_id          text,                          -- of the running or the last attempt
    run_at             timestamptz NOT NULL DEFAULT now(),
    queue_rank         timestamptz NOT NULL,          -- run_at plus a minute for each step of priority: see docs/jobs.md
    start_by_time      timestamptz,
    create_time        timestamptz NOT NULL DEFAULT now(),
    update_time        timestamptz NOT NULL DEFAULT now(),
    start_time         timestamptz,
    end_time           timestamptz,
    cancellation       jsonb,                         -- who asked to stop; null until somebody does
    dead_lettered      boolean NOT NULL DEFAULT false,
    progress           jsonb NOT NULL DEFAULT '{}',
    failure            jsonb,                         -- of the last attempt, or why the job ended
    result             jsonb,                         -- the manifest without its parts
    result_inline      bytea,
    result_expire_time timestamptz,
    UNIQUE (tenant, request_id),
    CHECK ((state = 'running') <= (worker_id IS NOT NULL AND attempt_deadline IS NOT NULL)),
    CHECK ((result IS NOT NULL) = (state IN ('succeeded', 'expired'))),
    CHECK (NOT dead_lettered OR state = 'failed')
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

CREATE INDEX job_queued ON broker.job (queue_rank, id) WHERE state = 'queued';
CREATE INDEX job_start_by ON broker.job (start_by_time) WHERE state = 'queued' AND start_by_time IS NOT NULL;
CREATE INDEX job_running ON broker.job (worker_id) WHERE state = 'running';
CREATE INDEX job_listed ON broker.job (tenant, create_time DESC, id DESC);
CREATE INDEX job_dead_lettered ON broker.job (tenant, create_time DESC, id DESC) WHERE dead_lettered;
CREATE INDEX job_expiring ON broker.job (result_expire_time) WHERE state = 'succeeded';
CREATE INDEX job_ended ON broker.job ((coalesce(result_expire_time, end_time)))
    WHERE state IN ('failed', 'cancelled', 'expired');

-- History, written once when an attempt ends. No foreign keys here and below: they would lock the hot row once more
-- for every attempt; jobs are deleted only together with their history.
CREATE TABLE broker.job_attempt (
    job_id     text NOT NULL,
    fence      bigint NOT NULL,
    attempt    integer NOT NULL,
    worker_id  text NOT NULL,
    start_time timestamptz NOT NULL,
    end_time   timestamptz NOT NULL DEFAULT now(),
    outcome    text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'released', 'lost')),
    failure    jsonb,
    progress   jsonb NOT NULL,
    PRIMARY KEY (job_id, fence)                       -- one claim ends once
);

-- The files of published results. Rows exist exactly while the job is SUCCEEDED.
CREATE TABLE broker.job_part (
    job_id       text NOT NULL,
    part_index   integer NOT NULL,
    key          text NOT NULL,
    file_name    text NOT NULL,
    content_type text NOT NULL,
    row_count    bigint NOT NULL,
    byte_count   bigint NOT NULL,
    sha256       bytea NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (job_id, part_index)
);

CREATE FUNCTION broker.job_parts(of_job text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'index', part_index, 'key', key, 'file_name', file_name, 'content_type', content_type,
               'row_count', row_count, 'byte_count', byte_count,
               'sha256', replace(encode(sha256, 'base64'), E'\n', '')) ORDER BY part_index), '[]')
    FROM broker.job_part WHERE job_id = of_job
$$;
