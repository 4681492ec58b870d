-- Identifiers are 32 hexadecimal digits, times are microseconds since 1970 (UTC), lists and nested values are JSON.
CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE labels (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    level BIGINT NOT NULL,
    key_kind TEXT NOT NULL,
    allow_legacy_zip BIGINT NOT NULL
);

CREATE TABLE label_keys (
    label TEXT NOT NULL REFERENCES labels (id),
    generation BIGINT NOT NULL,
    key_id TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    sealed_private BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (label, generation)
);

CREATE TABLE groups (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    parent TEXT
);

CREATE TABLE posts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    post_rank BIGINT NOT NULL
);

CREATE TABLE rules (
    id TEXT NOT NULL PRIMARY KEY,
    label TEXT NOT NULL REFERENCES labels (id),
    body TEXT NOT NULL
);

CREATE TABLE people (
    id TEXT NOT NULL PRIMARY KEY,
    login TEXT NOT NULL,
    login_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    sealed_totp BLOB,
    memberships TEXT NOT NULL,
    roles TEXT NOT NULL,
    disabled BIGINT NOT NULL
);

-- People who were deleted: the bulletin goes on revoking them.
CREATE TABLE departed (
    person TEXT NOT NULL PRIMARY KEY
);

-- The last time step of each person's code: a code is good once.
CREATE TABLE totp_steps (
    person TEXT NOT NULL PRIMARY KEY,
    step BIGINT NOT NULL
);

CREATE TABLE terminals (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    zone TEXT,
    tags TEXT NOT NULL,
    revoked BIGINT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    certificate_expires_at BIGINT NOT NULL,
    grant_key BLOB NOT NULL,
    enrolled_at BIGINT NOT NULL,
    last_seen_at BIGINT
);

CREATE TABLE folders (
    id TEXT NOT NULL PRIMARY KEY,
    terminal TEXT NOT NULL REFERENCES terminals (id),
    path TEXT NOT NULL,
    label TEXT NOT NULL REFERENCES labels (id),
    owner_group TEXT,
    exclude TEXT NOT NULL
);

CREATE TABLE enrolment_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    zone TEXT,
    tags TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL,
    terminal TEXT NOT NULL,
    second_factor BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL
);

CREATE TABLE login_failures (
    login_key TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_failed_at BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);

-- hash = SHA-256(hash of the record before ‖ payload); 32 zero bytes stand before the first.
CREATE TABLE audit (
    sequence BIGINT NOT NULL PRIMARY KEY,
    payload BLOB NOT NULL,
    hash BLOB NOT NULL
);
