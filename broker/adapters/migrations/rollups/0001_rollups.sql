-- Rollups: what is stored, as of which snapshot, and what has changed since. In the analytical database itself, so that
-- an answer reads all of it in one snapshot with the rows.
--
-- A mark says that rows of an interval of a source were changed by a transaction. Marks are only ever added by writers. A
-- segment knows the snapshot that it was built from; a mark concerns it when its transaction is not visible there. So a
-- refresh takes no mark away from anybody, and marks go when no segment can need them any more.

CREATE TABLE broker.rollup_source (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset      text NOT NULL,
    time         text NOT NULL,                     -- time dimension whose instants the marks hold
    definition   text NOT NULL,                     -- hash of what the triggers were made for
    fingerprint  text NOT NULL,                     -- of the catalog: tables, partitions, columns, triggers
    -- What the fingerprint was made of when it was accepted: a model that asks for more unsettles nothing installed.
    tables       text[] NOT NULL DEFAULT '{}',
    owners       integer[] NOT NULL DEFAULT '{}',   -- position of the table of each column
    columns      text[] NOT NULL DEFAULT '{}',      -- null: all columns of the table
    tag          text NOT NULL DEFAULT '',          -- what our triggers' names begin with
    collected    xid8 NOT NULL DEFAULT '0',         -- marks of older transactions may be gone
    install_time timestamptz NOT NULL DEFAULT now(),
    UNIQUE (dataset, time)
);

CREATE TABLE broker.rollup_mark (                   -- instants are microseconds since 1970 in UTC
    source integer NOT NULL,                        -- no foreign key: writers would lock the row
    lo     bigint NOT NULL,
    hi     bigint NOT NULL,                         -- [lo, hi)
    xid    xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX rollup_mark_source_xid ON broker.rollup_mark (source, xid);

CREATE TABLE broker.rollup (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        integer NOT NULL REFERENCES broker.rollup_source ON DELETE CASCADE,
    name          text NOT NULL,
    definition    text NOT NULL,                    -- hash of the dataset's and the rollup's definition
    generation    bigint NOT NULL DEFAULT 0,        -- changes with every change of its segments or its state
    quarantine    text,                             -- why it does not answer
    verify_time   timestamptz,
    UNIQUE (source, name)
);

CREATE TABLE broker.rollup_partition (              -- one refresher at a time; a fence is never given again
    rollup      integer NOT NULL REFERENCES broker.rollup ON DELETE CASCADE,
    lo          bigint NOT NULL,
    hi          bigint NOT NULL,
    holder      text,
    fence       bigint NOT NULL DEFAULT 0,
    expire_time timestamptz NOT NULL DEFAULT '-infinity',
    horizon     xid8 NOT NULL DEFAULT '0',          -- oldest transaction in progress when the lease began
    PRIMARY KEY (rollup, lo)
);

CREATE TABLE broker.rollup_segment (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollup      integer NOT NULL REFERENCES broker.rollup ON DELETE CASCADE,
    lo          bigint NOT NULL,
    hi          bigint NOT NULL,
    version     bigint NOT NULL,                    -- the fence under which it was built
    snapshot    pg_snapshot NOT NULL,               -- what it was built from
    token       text NOT NULL DEFAULT '',           -- the source's change token in that snapshot
    as_of       timestamptz NOT NULL,
    row_count   bigint NOT NULL,
    byte_count  bigint NOT NULL,
    files       jsonb NOT NULL DEFAULT '[]',        -- grain, row_count, byte_count, sha256
    sealed      boolean NOT NULL DEFAULT false,     -- its rows no longer exist: never built again
    retire_time timestamptz                         -- replaced since then
);
CREATE UNIQUE INDEX rollup_segment_current ON broker.rollup_segment (rollup, lo) WHERE retire_time IS NULL;
CREATE INDEX rollup_segment_retired ON broker.rollup_segment (retire_time) WHERE retire_time IS NOT NULL;

CREATE TABLE broker.rollup_chunk (
    segment bigint NOT NULL REFERENCES broker.rollup_segment ON DELETE CASCADE,
    grain   text NOT NULL,
    part    integer NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (segment, grain, part)
);
ALTER TABLE broker.rollup_chunk ALTER COLUMN data SET STORAGE EXTERNAL; -- read whole, and quickly
