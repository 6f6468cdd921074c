-- What the next attempt has to know of a range to take it over from one that died: what proves that its rows are the same.
ALTER TABLE broker.job_range
    ADD COLUMN proofs    jsonb NOT NULL DEFAULT '[]',     -- texts; a snapshot that gives one of them has the same rows
    ADD COLUMN read_time timestamptz,                     -- of the snapshot from which its files were read
    ADD COLUMN inherited boolean NOT NULL DEFAULT false;  -- an attempt that died wrote its files
