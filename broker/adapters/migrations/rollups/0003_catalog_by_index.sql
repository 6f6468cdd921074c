-- The same lines, found the same way for any number of partitions, triggers and tables: from the tables by the indexes of
-- the catalogs. OFFSET 0 keeps the planner from beginning with a catalog, and from comparing everything with everything.
CREATE OR REPLACE FUNCTION broker.rollup_catalog(tables text[], owners integer[], columns text[], tag text) RETURNS text
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
