-- Whose the files of a result store are: what it is swept by must be the database that knows their jobs.
CREATE TABLE broker.deployment (
    id   uuid    NOT NULL DEFAULT gen_random_uuid(),
    sole boolean PRIMARY KEY DEFAULT true CHECK (sole)  -- one row
);
INSERT INTO broker.deployment DEFAULT VALUES;
