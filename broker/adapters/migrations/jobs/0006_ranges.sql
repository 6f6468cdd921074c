-- Ranges of exports under way, which several workers may write. Rows exist while their attempt runs. `fence` guards the
-- writes of one claim of the range, `job_fence` ties it to the attempt whose snapshot it is read from.
CREATE TABLE broker.job_range (
    job_id      text NOT NULL REFERENCES broker.job (id) ON DELETE CASCADE,
    job_fence   bigint NOT NULL,
    range_index integer NOT NULL,                         -- in the order of the answer
    low         bigint,                                   -- of the leading key; null is no end
    high        bigint,
    nulls       boolean NOT NULL,                         -- whether rows without a key belong here
    snapshot    text NOT NULL,
    fingerprint text NOT NULL,                            -- of the plan: another model must not take part
    fence       bigint NOT NULL DEFAULT 0,                -- grows with every claim, never shrinks
    worker_id   text,                                     -- null while nobody has it
    own         boolean NOT NULL DEFAULT false,           -- the attempt itself has it
    begun       boolean NOT NULL DEFAULT false,           -- the worker has a seat and reads
    failed      boolean NOT NULL DEFAULT false,           -- a worker could not do it: left to the attempt itself
    withdrawn   boolean NOT NULL DEFAULT false,           -- the attempt has ended
    row_count   bigint NOT NULL DEFAULT 0,
    byte_count  bigint NOT NULL DEFAULT 0,
    parts       jsonb,                                    -- its files, once it is done
    PRIMARY KEY (job_id, job_fence, range_index)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 100);

CREATE INDEX job_range_open ON broker.job_range (job_id, job_fence, range_index) WHERE parts IS NULL;
CREATE INDEX job_range_held ON broker.job_range (worker_id) WHERE parts IS NULL;
