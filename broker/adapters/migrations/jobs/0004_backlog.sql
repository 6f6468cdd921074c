-- How many jobs of a tenant wait, and for how long, is looked up at every submission.
CREATE INDEX job_queued_of_tenant ON broker.job (tenant, run_at) WHERE state = 'queued';
