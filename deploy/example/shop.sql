-- A small shop, so that there is something to ask: 2,000 customers and 200,000 orders of the last two years.

CREATE TABLE customers (
    id      bigint PRIMARY KEY,
    country text NOT NULL
);
CREATE TABLE orders (
    id          bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    ordered_at  timestamptz NOT NULL,
    status      text NOT NULL,
    amount      numeric(10, 2) NOT NULL
);

INSERT INTO customers
SELECT n, (ARRAY['AT', 'BR', 'DE', 'FR', 'IN', 'JP', 'US'])[1 + n % 7]
FROM generate_series(1, 2000) AS n;

INSERT INTO orders
SELECT n,
       1 + n * 7919 % 2000,
       date_trunc('minute', now()) - n * interval '5 minutes 15 seconds',
       CASE WHEN n % 10 = 0 THEN 'cancelled' WHEN n < 500 THEN 'open' ELSE 'paid' END,
       (5 + n * 7577 % 20000 / 100.0)::numeric(10, 2)
FROM generate_series(1, 200000) AS n;

CREATE INDEX ON orders (ordered_at);
ANALYZE;
