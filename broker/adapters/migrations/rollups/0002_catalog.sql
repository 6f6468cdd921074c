-- What an answer reads of its rollups in one round trip. Functions, because their statements are planned once per session.

-- Everything in the catalog that decides whether marks tell of every change, as lines: a change that was made and undone
-- again is seen by the xmin of the rows. Tables are given by name, columns by the table's position (null: all of them).
--   t name oid                 what the name stands for
--   r oid kind ...             a table, view or partition, and how it hangs below its parent
--   c table.column ...         a column that is read: number, type, collation
--   g table.trigger ...        a trigger of ours          f oid xmin      its function
--   w view xmin                how a view is defined      s oid           a subscription writes it, past triggers
--   stale                      what is read now is not what this snapshot says: dropped, emptied or attached since
--
-- Found from the tables by the indexes of the catalogs, whatever the number of partitions, triggers and tables. OFFSET 0
-- keeps the planner from beginning with a catalog, and from comparing everything with everything.
CREATE FUNCTION broker.rollup_catalog(tables text[], owners integer[], columns text[], tag text) RETURNS text
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN (
        WITH RECURSIVE named AS (
            SELECT n.position, n.name, to_regclass(n.name)::oid AS relation
            FROM unnest(tables) WITH ORDINALITY AS n (name, position)
        ), tree (root, relation, attached) AS (
            SELECT n.relation, n.relation, '' FROM named AS n WHERE n.relation IS NOT NULL
            UNION
            SELECT t.root, i.inhrelid, concat_ws(' ', i.inhparent, i.inhdetachpending, i.xmin)
            FROM tree AS t, LATERAL (
                SELECT h.inhrelid, h.inhparent, h.inhdetachpending, h.xmin FROM pg_catalog.pg_inherits AS h
                WHERE h.inhparent = t.relation OFFSET 0) AS i
        ), sizes (root, relations, total) AS (
            SELECT t.root, count(*), sum(hashoid(t.relation)::bigint) FROM tree AS t GROUP BY t.root
        ), known AS MATERIALIZED (
            SELECT t.root, t.relation, t.attached, c.relkind, c.relpersistence, c.relrowsecurity, c.stale
            FROM tree AS t, LATERAL (
                SELECT k.relkind, k.relpersistence, k.relrowsecurity,
                       k.relkind IN ('r', 'm') AND k.relfilenode IS DISTINCT FROM pg_relation_filenode(k.oid) AS stale
                FROM pg_catalog.pg_class AS k WHERE k.oid = t.relation OFFSET 0) AS c
        ), ours AS MATERIALIZED (
            SELECT o.* FROM (SELECT DISTINCT t.relation FROM tree AS t) AS t, LATERAL (
                SELECT g.oid, g.tgrelid, g.tgname, g.tgenabled, g.tgfoid, g.xmin FROM pg_catalog.pg_trigger AS g
                WHERE g.tgrelid = t.relation AND starts_with(g.tgname::text, tag) AND NOT g.tgisinternal OFFSET 0) AS o
        ), lines (line) AS (
            SELECT concat_ws(' ', 't', n.name, n.relation) FROM named AS n
            UNION ALL
            SELECT concat_ws(' ', 'r', k.relation, k.relkind, k.relpersistence, k.relrowsecurity, k.attached)
            FROM known AS k
            UNION ALL
            SELECT concat_ws(' ', 'c', a.attrelid || '.' || a.attname, a.attnum, a.atttypid, a.atttypmod,
                             a.attcollation, a.xmin)
            FROM unnest(owners, columns) AS u (position, name) JOIN named AS n ON n.position = u.position, LATERAL (
                SELECT c.attrelid, c.attname, c.attnum, c.atttypid, c.atttypmod, c.attcollation, c.xmin
                FROM pg_catalog.pg_attribute AS c
                WHERE c.attrelid = n.relation AND c.attnum > 0 AND NOT c.attisdropped
                  AND (u.name IS NULL OR c.attname = u.name) OFFSET 0) AS a
            UNION ALL
            SELECT concat_ws(' ', 'g', o.tgrelid || '.' || o.tgname, o.oid, o.tgenabled, o.tgfoid, o.xmin) FROM ours AS o
            UNION ALL
            SELECT concat_ws(' ', 'f', p.oid, p.xmin)
            FROM (SELECT DISTINCT o.tgfoid FROM ours AS o) AS o, LATERAL (
                SELECT f.oid, f.xmin FROM pg_catalog.pg_proc AS f WHERE f.oid = o.tgfoid OFFSET 0) AS p
            UNION ALL
            SELECT concat_ws(' ', 'w', w.ev_class, w.xmin)
            FROM (SELECT k.relation FROM known AS k WHERE k.relkind IN ('v', 'm') OFFSET 0) AS k, LATERAL (
                SELECT r.ev_class, r.xmin FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = k.relation OFFSET 0) AS w
            UNION ALL
            SELECT concat_ws(' ', 's', w.srrelid)
            FROM tree AS t, LATERAL (
                SELECT s.srrelid FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = t.relation OFFSET 0) AS w
            UNION ALL
            SELECT 'stale' FROM known AS k WHERE k.stale
            UNION ALL
            SELECT 'stale' FROM known AS k JOIN sizes AS z ON z.root = k.relation
            WHERE k.relkind = 'p' AND k.root = k.relation AND (z.relations, z.total) IS DISTINCT FROM (
                SELECT (count(*), sum(hashoid(p.relid)::bigint)) FROM pg_partition_tree(k.root) AS p)
        )
        SELECT coalesce(string_agg(DISTINCT line COLLATE "C", E'\n' ORDER BY line COLLATE "C"), '') FROM lines);
END
$$;

-- The state of a source and of its rollups in the caller's snapshot, in one row. Of the marks: for every interval that
-- was marked by a transaction not before `since` the last one, and all marks of the transactions in `pending`.
CREATE FUNCTION broker.rollup_state(of_dataset text, of_time text, since xid8, pending xid8[])
RETURNS TABLE (
    snapshot text, source integer, intact boolean,
    ids integer[], names text[], definitions text[], versions text[], quarantines text[],
    lows bigint[], highs bigint[], xids xid8[],
    pending_lows bigint[], pending_highs bigint[], pending_xids xid8[]
) LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    s broker.rollup_source;
BEGIN
    -- A standby lists the transactions in progress elsewhere, so all that are not over for certain count as such.
    snapshot := CASE WHEN pg_is_in_recovery()
        THEN concat(pg_snapshot_xmin(pg_current_snapshot()), ':', pg_snapshot_xmin(pg_current_snapshot()), ':')
        ELSE pg_current_snapshot()::text END;
    SELECT r.* INTO s FROM broker.rollup_source AS r WHERE r.dataset = of_dataset AND r.time = of_time;
    IF s.id IS NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    source := s.id;
    intact := s.fingerprint = broker.rollup_catalog(s.tables, s.owners, s.columns, s.tag);
    SELECT array_agg(r.id), array_agg(r.name), array_agg(r.definition), array_agg(concat(r.generation, ' ', r.xmin)),
           array_agg(r.quarantine)
    INTO ids, names, definitions, versions, quarantines
    FROM broker.rollup AS r WHERE r.source = s.id;
    SELECT array_agg(g.lo), array_agg(g.hi), array_agg(g.xid) INTO lows, highs, xids
    FROM (SELECT m.lo, m.hi, max(m.xid) AS xid FROM broker.rollup_mark AS m
          WHERE m.source = s.id AND m.xid >= since GROUP BY m.lo, m.hi) AS g;
    IF cardinality(pending) > 0 THEN
        SELECT array_agg(m.lo), array_agg(m.hi), array_agg(m.xid) INTO pending_lows, pending_highs, pending_xids
        FROM broker.rollup_mark AS m WHERE m.source = s.id AND m.xid = ANY (pending);
    END IF;
    RETURN NEXT;
END
$$;
