-- Leases: the columns by which they are looked for; the rest is JSON. The document is the signed lease.
CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    person TEXT NOT NULL,
    terminal TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    file_count BIGINT NOT NULL,
    opened BIGINT NOT NULL,
    fetched_at BIGINT,
    body TEXT NOT NULL,
    files TEXT NOT NULL,
    document BLOB
);

CREATE INDEX leases_by_terminal ON leases (terminal, ends_at);
CREATE INDEX leases_by_person ON leases (person, ends_at);

-- Leases that were revoked before their end: the bulletin names them until then.
CREATE TABLE lease_revocations (
    lease TEXT NOT NULL PRIMARY KEY,
    ends_at BIGINT NOT NULL
);

-- How far each terminal has reported what was done under its leases.
CREATE TABLE lease_terminals (
    terminal TEXT NOT NULL PRIMARY KEY,
    counter BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    hash BLOB NOT NULL,
    blocked BIGINT NOT NULL
);

-- hash = SHA-256(hash of the terminal's record before ‖ payload); 32 zero bytes stand before its first.
CREATE TABLE lease_records (
    terminal TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    lease TEXT NOT NULL,
    payload BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (terminal, sequence)
);

CREATE INDEX lease_records_by_lease ON lease_records (lease, sequence);
