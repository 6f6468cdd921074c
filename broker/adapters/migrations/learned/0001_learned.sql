-- What brokers have learned of what questions cost: one row for each process, so that nobody waits for anybody. A new
-- process adds up what it finds; rows of processes that are gone are dropped by one that has read them.

CREATE TABLE broker.learned (
    scope     text NOT NULL,                          -- the analytical database, without its password
    writer    text NOT NULL,                          -- the process
    version   integer NOT NULL,                       -- of the state's form
    save_time timestamptz NOT NULL DEFAULT now(),
    state     bytea NOT NULL,
    PRIMARY KEY (scope, writer)
);
