-- How an attempt went that succeeded is in the row of its job, which no later attempt replaces: it has no line of its
-- own in job_attempt any more. Lines that workers of an older version still write are left out.
CREATE VIEW broker.job_history AS
SELECT job_id, fence, attempt, worker_id, start_time, end_time, outcome, failure, progress
FROM broker.job_attempt WHERE outcome <> 'succeeded'
UNION ALL
SELECT id, fence, attempt, worker_id, start_time, end_time, 'succeeded', NULL, progress
FROM broker.job WHERE state IN ('succeeded', 'expired');
