-- The hosts of a cluster, and which of them holds a session. A server without a cluster leaves all of this empty.

CREATE TABLE hosts (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    -- Counts the times that it joined after it was fenced.
    incarnation BIGINT NOT NULL CHECK (incarnation >= 1),
    -- The last incarnation that was fenced; 0: none.
    fenced BIGINT NOT NULL DEFAULT 0,
    fenced_at_ms BIGINT,
    fenced_by TEXT,
    draining BIGINT NOT NULL DEFAULT 0 CHECK (draining IN (0, 1)),
    zone TEXT,
    -- A JSON object of texts.
    labels TEXT NOT NULL,
    certificate TEXT,
    joined_at_ms BIGINT NOT NULL,
    left_at_ms BIGINT,
    -- The last heartbeat by the database's clock, their number, and what the host reported with it.
    heartbeat_at_ms BIGINT,
    heartbeats BIGINT NOT NULL DEFAULT 0,
    report TEXT,
    mac TEXT
);
CREATE UNIQUE INDEX hosts_by_name ON hosts (name) WHERE left_at_ms IS NULL;

-- NULL in a cluster, and active: the session waits for a host.
ALTER TABLE sessions ADD COLUMN host_id TEXT;
ALTER TABLE sessions ADD COLUMN host_incarnation BIGINT;
-- What a host needs to take the session, as JSON.
ALTER TABLE sessions ADD COLUMN placement TEXT;
-- Since when it waits, and its place: sessions that had a host before the others, then by rank.
ALTER TABLE sessions ADD COLUMN queued_at_ms BIGINT;
ALTER TABLE sessions ADD COLUMN fair_class BIGINT;
ALTER TABLE sessions ADD COLUMN fair_rank BIGINT;
CREATE INDEX sessions_waiting ON sessions (fair_class, fair_rank, queued_at_ms) WHERE state = 'active' AND host_id IS NULL;
CREATE INDEX sessions_of_host ON sessions (host_id) WHERE state = 'active';
