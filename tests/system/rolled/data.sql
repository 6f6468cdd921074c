CREATE TABLE kinds (kind text PRIMARY KEY, family text NOT NULL);
INSERT INTO kinds VALUES ('alpha', 'greek'), ('beta', 'greek'), ('gamma', 'late'), ('Ünder_%', 'late');
CREATE TABLE sales AS
  SELECT i::bigint AS id,
    CASE WHEN i % 400 <> 0 THEN timestamptz '2024-01-01Z' + (i * 7919 % 7862400) * interval '1 second' END AS at,
    CASE WHEN i % 90 <> 0 THEN date '2024-01-01' + (i * 31 % 80)::int END AS due,
    (ARRAY['alpha', 'beta', 'gamma', 'Ünder_%', NULL])[1 + i * 13 % 5] AS kind,
    (ARRAY['north', 'south', 'east', 'west'])[1 + i * 17 / 5 % 4] AS region,
    CASE WHEN i % 3 = 0 THEN 'globex' ELSE 'acme' END AS tenant,
    (ARRAY[true, false, NULL])[1 + i / 11 % 3] AS paid,
    CASE WHEN i % 7 <> 0 THEN (i / 3 % 4)::bigint END AS level,
    (ARRAY[0.05, 0.10, NULL, 12.50])[1 + i / 7 % 4]::numeric(6, 2) AS rate,
    (i * 104729 % 3001)::bigint AS buyer,
    CASE WHEN i % 19 <> 0 THEN ((i * 48611 % 200003) / 100.0 - 300)::numeric(12, 2) END AS amount,
    CASE WHEN i % 11 <> 0 THEN sin(i) * 1000 + i % 13 END AS score
  FROM generate_series(1::bigint, 9000) AS i;
INSERT INTO sales (id, at, due, kind, region, tenant, amount) VALUES
  (9001, 'infinity', '2024-02-01', 'alpha', 'north', 'acme', 1.50),
  (9002, '-infinity', '2024-02-02', 'beta', 'south', 'globex', 2.50);
ALTER TABLE sales ADD PRIMARY KEY (id);
CREATE INDEX ON sales (at);
CREATE INDEX ON sales (due);
CREATE TABLE tags AS SELECT id AS sale, 'tag-' || n AS tag FROM sales, generate_series(1, 2) AS n WHERE id % 5 = 0;
CREATE TABLE names (kind text PRIMARY KEY, name text NOT NULL);
INSERT INTO names VALUES ('a', 'Anna'), ('b', 'Bert');
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['broken', 'churned', 'unbuilt', 'kept', 'doubted', 'added', 'alike'] LOOP
    EXECUTE format($f$CREATE TABLE %I AS
      SELECT i::bigint AS id, timestamptz '2024-01-01Z' + i * interval '1 hour' AS at,
        (ARRAY['a', 'b'])[1 + i %% 2] AS kind FROM generate_series(0, 1439) AS i$f$, name);
    EXECUTE format('CREATE INDEX ON %I (at)', name);
  END LOOP;
END $$;
INSERT INTO added VALUES (5000, NULL, 'a'), (5001, NULL, 'b');
CREATE TABLE foreign_hours AS
  SELECT date_trunc('hour', at) AS bucket, kind, count(*) AS n FROM added GROUP BY 1, 2;
ANALYZE;
