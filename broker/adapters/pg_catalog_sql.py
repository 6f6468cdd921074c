"""The statements of :mod:`broker.adapters.pg_catalog`."""

from __future__ import annotations

SERVER = """
SELECT current_setting('server_version') AS version,
       current_database()::text AS database,
       current_user::text AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       pg_is_in_recovery() AS replica,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved_connections
"""

# Partitions stand behind their parent, whose own estimate is missing until it is analysed by name. A table that was
# never analysed has -1 rows; about a hundred bytes a row is then a better guess than none. What an extension brings
# along is left out.
RELATIONS = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       CASE WHEN c.relkind = 'p' THEN
              (SELECT coalesce(sum(CASE WHEN l.reltuples < 0 THEN pg_relation_size(l.oid) / 100.0
                                        ELSE l.reltuples END), 0)
                 FROM pg_partition_tree(c.oid) AS t JOIN pg_class AS l ON l.oid = t.relid WHERE t.isleaf)
            WHEN c.relkind IN ('r', 'm') AND c.reltuples < 0 THEN pg_relation_size(c.oid) / 100.0
            ELSE greatest(c.reltuples, 0)
       END::float8 AS rows,
       (SELECT a.attname FROM pg_partitioned_table AS p JOIN pg_attribute AS a
            ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] AND a.attnum > 0
         WHERE p.partrelid = c.oid AND p.partstrat = 'r') AS ranged_by,
       has_table_privilege(c.oid, 'SELECT') AS readable,
       row_security_active(c.oid) AS secured,
       coalesce(obj_description(c.oid, 'pg_class'), '') AS comment
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'broker')
   AND NOT EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname
"""

# The base type of a domain is what its values are; of a chain of domains, the end. Inherited statistics cover the
# partitions of a table.
COLUMNS = """
WITH RECURSIVE base(oid, type, modifier) AS (
  SELECT t.oid, t.oid, -1 FROM pg_type AS t WHERE t.typtype <> 'd'
  UNION ALL
  SELECT t.oid, b.type, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.modifier END
    FROM pg_type AS t JOIN base AS b ON b.oid = t.typbasetype WHERE t.typtype = 'd'
)
SELECT a.attrelid AS relation, a.attname AS name, NOT a.attnotnull AS nullable,
       format_type(a.atttypid, a.atttypmod) AS type_name, y.typname AS base, y.typtype = 'e' AS enum,
       CASE WHEN a.atttypmod >= 0 THEN a.atttypmod ELSE b.modifier END AS modifier,
       s.n_distinct::float8 AS n_distinct,
       coalesce(col_description(a.attrelid, a.attnum), '') AS comment,
       EXISTS (SELECT FROM pg_collation AS l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic) AS folding
  FROM pg_attribute AS a
  JOIN pg_class AS c ON c.oid = a.attrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN base AS b ON b.oid = a.atttypid
  JOIN pg_type AS y ON y.oid = b.type
  LEFT JOIN LATERAL (SELECT p.n_distinct FROM pg_stats AS p
                      WHERE p.schemaname = n.nspname AND p.tablename = c.relname AND p.attname = a.attname
                      ORDER BY p.inherited DESC LIMIT 1) AS s ON true
 WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""

# A unique index counts as a key when it covers every row, now: no predicate, no expressions, valid, not deferred.
INDEXES = """
SELECT i.indrelid AS relation, i.indisprimary AS primary,
       i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS unique,
       (SELECT a.attname FROM pg_attribute AS a
         WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND i.indkey[0] > 0 AND i.indpred IS NULL) AS first,
       ARRAY(SELECT a.attname FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, position)
               JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
              WHERE k.position <= i.indnkeyatts ORDER BY k.position)::text[] AS columns
  FROM pg_index AS i
 WHERE i.indrelid = ANY($1::oid[]) AND i.indisvalid
 ORDER BY i.indrelid, i.indexrelid
"""

FOREIGN_KEYS = """
SELECT k.conrelid AS relation, n.nspname AS schema, c.relname AS name,
       ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u(number, position)
               JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number
              ORDER BY u.position)::text[] AS columns,
       ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS u(number, position)
               JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number
              ORDER BY u.position)::text[] AS referenced
  FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.confrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.conrelid = ANY($1::oid[]) AND k.conparentid = 0
 ORDER BY k.conrelid, k.conname
"""

FUNCTIONS = """
SELECT proname::text AS name, bool_or(provolatile = 'v') AS volatile,
       bool_or(prokind IN ('a', 'w')) AS aggregate, bool_or(proretset) AS returns_set
  FROM pg_proc
 WHERE proname = ANY($1::text[])
 GROUP BY proname
 ORDER BY proname
"""

TYPES = """
SELECT t.oid, format_type(t.oid, NULL) AS type_name, t.typname AS base, t.typtype = 'e' AS enum
  FROM pg_type AS t
 WHERE t.oid = ANY($1::oid[])
"""
