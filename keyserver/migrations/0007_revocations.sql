-- Labels and files of which nothing is granted until an administrator lifts it.
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    reason TEXT NOT NULL,
    revoked_by TEXT NOT NULL,
    revoked_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- Terminals that are shut out until they are let in again.
ALTER TABLE terminals ADD COLUMN frozen BIGINT NOT NULL DEFAULT 0;
