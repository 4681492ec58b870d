-- The Merkle tree over the audit log: one row with the roots of the whole subtrees (64 hexadecimal digits each, the largest
-- first), from which appending goes on, and the nodes over 256, 65,536 … records, from which proofs are made.
CREATE TABLE audit_tree (
    id BIGINT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    frontier TEXT NOT NULL
);

CREATE TABLE audit_nodes (
    level BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, ordinal)
);
