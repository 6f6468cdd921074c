-- What never changes after submission and is searched for, apart from the row that changes with every claim and every
-- end: each change of that row would have to write these indexes again.

-- A job that is submitted meanwhile would be in neither of the two.
LOCK TABLE broker.job IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE broker.job_request (
    tenant      text NOT NULL,
    request_id  text NOT NULL,
    job_id      text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, request_id)
);

INSERT INTO broker.job_request (tenant, request_id, job_id, create_time)
SELECT tenant, request_id, id, create_time FROM broker.job;

CREATE INDEX job_request_listed ON broker.job_request (tenant, create_time DESC, job_id DESC);

ALTER TABLE broker.job DROP CONSTRAINT job_tenant_request_id_key;
DROP INDEX broker.job_listed;
