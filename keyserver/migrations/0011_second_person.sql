-- When the private half of a label's key was taken away; sealed_private is empty from then on.
ALTER TABLE label_keys ADD COLUMN retired_at BIGINT;

-- Files that needed an earlier generation of their label's key when they were last seen.
CREATE TABLE file_keys (
    file TEXT NOT NULL PRIMARY KEY,
    label TEXT NOT NULL,
    generation BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE INDEX file_keys_by_generation ON file_keys (label, generation);

-- Who unsealed which file last when, for a day: how many one person may unseal without a second one is bounded.
CREATE TABLE unseals (
    person TEXT NOT NULL,
    file TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (person, file)
);

-- Who may unseal more than that for a while, because a second person agreed.
CREATE TABLE unseal_windows (
    person TEXT NOT NULL PRIMARY KEY,
    files BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);

-- Within how many hours the bulletin has to be confirmed for files of the label to open without the key server.
ALTER TABLE labels ADD COLUMN max_bulletin_age_hours BIGINT;
