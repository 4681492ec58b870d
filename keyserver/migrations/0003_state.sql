-- One row. The version grows with each change of the tables that servers keep in memory: what a server decided on an
-- older version is not written, but decided again.
CREATE TABLE state (
    id BIGINT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);

INSERT INTO state (id, version) VALUES (1, 1);
