-- When a segment was sealed: what was built after that may lack rows that were deleted since. Null for earlier ones.
ALTER TABLE broker.rollup_segment ADD COLUMN seal_time timestamptz;
