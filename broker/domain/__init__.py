"""Values of the broker: query, answer, deadline, measures, time grid, job, errors; no clock, no input or output."""
