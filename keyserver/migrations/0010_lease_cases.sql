-- What leases lend, by label and owner group: what has to be decided again when the policy changes. Narrowed ones are in the
-- bulletin until the lease ends.
CREATE TABLE lease_cases (
    lease TEXT NOT NULL,
    label TEXT NOT NULL,
    owner_group TEXT NOT NULL,
    person TEXT NOT NULL,
    terminal TEXT NOT NULL,
    second_factor BIGINT NOT NULL,
    by_label BIGINT NOT NULL,
    rights BIGINT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    lease_ends_at BIGINT NOT NULL,
    narrowed BIGINT NOT NULL,
    PRIMARY KEY (lease, label, owner_group)
);

CREATE INDEX lease_cases_by_person ON lease_cases (person, lease_ends_at);
CREATE INDEX lease_cases_by_terminal ON lease_cases (terminal, lease_ends_at);
CREATE INDEX lease_cases_by_label ON lease_cases (label, lease_ends_at);

-- Counts leases as they are issued: a change of the policy that has not seen the newest writes nothing.
ALTER TABLE state ADD COLUMN leases BIGINT NOT NULL DEFAULT 0;

-- Whether a lease may be asked for all files of a label.
ALTER TABLE labels ADD COLUMN lease_by_label BIGINT NOT NULL DEFAULT 0;
