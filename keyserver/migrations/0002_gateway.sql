-- Terminals that may speak for the people whom their share authenticated, and the sessions that this gives.
ALTER TABLE terminals ADD COLUMN gateway BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN asserted BIGINT NOT NULL DEFAULT 0;
