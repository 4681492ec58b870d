-- What no change of the policy may ever bring.
CREATE TABLE invariants (
    id TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Changes that wait for a second person.
CREATE TABLE change_requests (
    id TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Who changed the policy, when and why; and the policy after it, where it is another than before.
CREATE TABLE policy_versions (
    version BIGINT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    policy TEXT
);

-- When a session last showed a fresh second factor.
CREATE TABLE step_ups (
    session TEXT NOT NULL PRIMARY KEY,
    made_at BIGINT NOT NULL
);
