-- How a terminal claims to keep its private keys, and what it told last of itself (JSON).
ALTER TABLE terminals ADD COLUMN protection TEXT NOT NULL DEFAULT 'none';
ALTER TABLE terminals ADD COLUMN report TEXT;

-- Leases that are out are counted from this alone.
CREATE INDEX leases_out ON leases (state, ends_at, terminal);
