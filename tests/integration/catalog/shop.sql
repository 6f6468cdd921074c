-- A small shop with everything that the catalog must tell apart.
CREATE SCHEMA sales;
CREATE TYPE sales.channel AS ENUM ('web', 'store');
CREATE DOMAIN sales.money AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE DOMAIN sales.price AS sales.money;

CREATE TABLE sales.customer (
    customer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    country char(2) NOT NULL,
    born date,
    note json
);
COMMENT ON COLUMN sales.customer.country IS 'ISO 3166, two letters';

CREATE TABLE sales.product (
    sku text PRIMARY KEY,
    name text NOT NULL,
    category text NOT NULL,
    weight real
);

CREATE TABLE sales."Order" (
    id uuid PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES sales.customer,
    sku text NOT NULL REFERENCES sales.product,
    placed_at timestamptz NOT NULL,
    shipped_at timestamp,
    channel sales.channel NOT NULL,
    quantity integer NOT NULL,
    total sales.price NOT NULL,
    discount numeric,
    paid boolean NOT NULL DEFAULT false,
    "Gift Note" text,
    origin inet
);
COMMENT ON TABLE sales."Order" IS 'One row per order line.';
CREATE INDEX ON sales."Order" (placed_at);
CREATE UNIQUE INDEX ON sales."Order" (sku) WHERE paid;
CREATE UNIQUE INDEX ON sales."Order" (lower(sku), id);

CREATE TABLE sales.visit (
    id bigint NOT NULL,
    at timestamptz NOT NULL,
    page text,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE sales.visit_2024 PARTITION OF sales.visit FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE sales.visit_2025 PARTITION OF sales.visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');

CREATE VIEW sales.paid_orders AS SELECT * FROM sales."Order" WHERE paid;
CREATE MATERIALIZED VIEW sales.daily AS
    SELECT placed_at::date AS day, count(*) AS orders FROM sales."Order" GROUP BY 1;

CREATE FUNCTION sales.chance(n int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT n + (random() * 10)::int';
CREATE FUNCTION sales.twice(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * n';
CREATE FUNCTION sales.parts(n int) RETURNS SETOF int IMMUTABLE LANGUAGE sql AS 'SELECT generate_series(1, n)';

INSERT INTO sales.customer (email, country, born)
SELECT format('c%s@example.org', n), (ARRAY['DE', 'FR', 'US'])[1 + n % 3], date '1980-01-01' + n
  FROM generate_series(1, 200) AS n;
INSERT INTO sales.product
SELECT 'sku-' || n, 'Product ' || n, 'category ' || n % 5, CASE WHEN n % 2 = 0 THEN n / 10.0 END
  FROM generate_series(1, 40) AS n;
INSERT INTO sales."Order"
SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 1 + n % 200, 'sku-' || 1 + n % 40,
       timestamptz '2024-01-01 00:00 UTC' + n * interval '7 minutes', timestamp '2024-01-01' + n * interval '9 minutes',
       (ARRAY['web', 'store'])[1 + n % 2]::sales.channel, 1 + n % 9, n % 100 + 0.99, n % 7, false,
       CASE WHEN n % 10 = 0 THEN 'note ' || n END, '10.0.0.1'
  FROM generate_series(1, 3000) AS n;
INSERT INTO sales.visit
SELECT n, timestamptz '2024-06-01 00:00 UTC' + n * interval '1 hour', 'page ' || n % 20 FROM generate_series(1, 9000) AS n;
REFRESH MATERIALIZED VIEW sales.daily;
ANALYZE;
