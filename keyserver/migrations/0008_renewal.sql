-- The certificate that a terminal was given and has not shown yet; with its first use the one before ends.
ALTER TABLE terminals ADD COLUMN next_fingerprint TEXT;
ALTER TABLE terminals ADD COLUMN next_expires_at BIGINT;
