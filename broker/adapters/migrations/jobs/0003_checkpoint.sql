-- How far the last attempt of a job was, for the one after it. Apart from the row of the job, which is read and written
-- far more often.
CREATE TABLE broker.job_checkpoint (
    job_id      text PRIMARY KEY REFERENCES broker.job (id) ON DELETE CASCADE,
    fence       bigint NOT NULL,                          -- of the attempt that wrote it
    data        bytea NOT NULL CHECK (length(data) <= 1048576),
    update_time timestamptz NOT NULL DEFAULT now()
);
