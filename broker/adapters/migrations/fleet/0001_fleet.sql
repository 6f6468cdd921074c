-- Processes that share the seats of a backend, and the leases that they hold. Nothing here outlives a crash, nor needs
-- to: members say all of it anew every second. policy/fleet_ledger.py is the model of the function.

CREATE UNLOGGED TABLE broker.fleet_backend (
    fleet     text NOT NULL,
    backend   text NOT NULL,
    seat_limit double precision NOT NULL,             -- of all members together
    revision  bigint NOT NULL DEFAULT 1,              -- grows when the limit moves
    move_time timestamptz NOT NULL,
    holder    text NOT NULL DEFAULT '',               -- of the token to try more seats
    probe_end_time timestamptz NOT NULL DEFAULT '-infinity',
    extra     integer NOT NULL DEFAULT 0,             -- seats that the holder tries
    PRIMARY KEY (fleet, backend)
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE broker.fleet_member (
    fleet       text NOT NULL,
    backend     text NOT NULL,
    member      text NOT NULL,
    report      jsonb NOT NULL,
    seats       integer NOT NULL,                     -- leased
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (fleet, backend, member)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- One member at one backend: takes its report, grants its lease. The row of the backend is locked first, and every
-- statement of a volatile function sees what was committed before it, so nothing is granted on the word of old rows.
CREATE FUNCTION broker.fleet_beat(
    of_fleet text, of_backend text, of_member text, told jsonb, target integer,
    proposed double precision, seen bigint, probe boolean, more integer,
    ttl interval, pause interval, turn_seconds double precision
) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    state   broker.fleet_backend;
    moment  timestamptz;
    others  integer;
    held    bigint;
    granted integer;
    rows    jsonb;
BEGIN
    INSERT INTO broker.fleet_backend (fleet, backend, seat_limit, move_time)
    VALUES (of_fleet, of_backend, proposed, clock_timestamp()) ON CONFLICT DO NOTHING;
    SELECT * INTO state FROM broker.fleet_backend
    WHERE fleet = of_fleet AND backend = of_backend FOR NO KEY UPDATE;
    moment := clock_timestamp();  -- after the lock, which may have been waited for
    IF proposed <> state.seat_limit AND seen = state.revision AND moment >= state.move_time + pause THEN
        UPDATE broker.fleet_backend SET seat_limit = proposed, revision = revision + 1, move_time = moment
        WHERE fleet = of_fleet AND backend = of_backend RETURNING * INTO state;
    END IF;
    IF probe AND state.probe_end_time <= moment THEN
        UPDATE broker.fleet_backend SET holder = of_member, probe_end_time = moment + ttl, extra = more
        WHERE fleet = of_fleet AND backend = of_backend RETURNING * INTO state;
    END IF;
    DELETE FROM broker.fleet_member
    WHERE fleet = of_fleet AND backend = of_backend AND expire_time <= moment AND member <> of_member;
    SELECT count(*), coalesce(sum(seats), 0), coalesce(jsonb_agg(jsonb_build_array(seats, report)), '[]')
    INTO others, held, rows FROM broker.fleet_member
    WHERE fleet = of_fleet AND backend = of_backend AND member <> of_member;
    granted := greatest(0, least(
        target,
        greatest(floor(state.seat_limit)::bigint, others + 1)
            + CASE WHEN state.probe_end_time > moment THEN state.extra ELSE 0 END - held
    ));
    INSERT INTO broker.fleet_member (fleet, backend, member, report, seats, expire_time)
    VALUES (of_fleet, of_backend, of_member, told, granted, moment + ttl)
    ON CONFLICT (fleet, backend, member) DO UPDATE
    SET report = excluded.report, seats = excluded.seats, expire_time = excluded.expire_time;
    RETURN jsonb_build_object(
        'seats', granted, 'limit', state.seat_limit, 'revision', state.revision,
        'turn', floor(extract(epoch FROM moment) / turn_seconds),
        'probing', state.probe_end_time > moment AND state.holder = of_member, 'members', rows
    );
END
$$;
