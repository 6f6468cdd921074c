-- Datasets that jobs made are looked up by their owner and name, for every question that names one.
CREATE INDEX job_dataset ON broker.job (tenant, owner, (result ->> 'dataset'), end_time DESC)
    WHERE kind = 'materialize' AND state IN ('succeeded', 'expired');
