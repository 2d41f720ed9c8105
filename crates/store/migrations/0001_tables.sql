-- The first schema. One text for SQLite and PostgreSQL: columns are TEXT, BIGINT and BYTEA only, times are milliseconds since
-- 1970, a truth value is 0 or 1. The lists of words in CHECK are compared with the Rust tables by a test; to change one, write a
-- new migration. `meta` exists already.

CREATE TABLE callers (
    id            TEXT PRIMARY KEY NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('operator', 'backend', 'viewer')),
    name          TEXT NOT NULL,
    token_hash    TEXT NOT NULL UNIQUE,
    session_id    TEXT,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT,
    -- A viewer sees one session; nobody else is bound to one.
    CHECK ((role = 'viewer') = (session_id IS NOT NULL))
);

CREATE TABLE sessions (
    id                 TEXT PRIMARY KEY NOT NULL,
    caller_id          TEXT NOT NULL REFERENCES callers (id),
    user_id            TEXT,
    provider           TEXT NOT NULL,
    return_url         TEXT,
    idempotency_key    TEXT,
    request_hash       TEXT,
    state              TEXT NOT NULL CHECK (state IN ('active', 'completed', 'failed', 'cancelled', 'expired')),
    reason_code        TEXT,
    reason_detail      TEXT,
    epoch              BIGINT NOT NULL CHECK (epoch >= 0),
    generation         BIGINT NOT NULL CHECK (generation >= 1),
    machine_id         TEXT,
    agent_token_hash   TEXT,
    claimed_generation BIGINT,
    cli_started        BIGINT NOT NULL CHECK (cli_started IN (0, 1)),
    created_at_ms      BIGINT NOT NULL,
    last_used_at_ms    BIGINT NOT NULL,
    idle_deadline_ms   BIGINT,
    deadline_ms        BIGINT NOT NULL,
    ended_at_ms        BIGINT,
    credential_id      TEXT,
    UNIQUE (caller_id, idempotency_key),
    CHECK ((idempotency_key IS NULL) = (request_hash IS NULL)),
    CHECK (reason_detail IS NULL OR reason_code IS NOT NULL),
    -- What has ended says when and why, and only what has ended.
    CHECK ((state = 'active') = (ended_at_ms IS NULL)),
    CHECK (state = 'active' OR reason_code IS NOT NULL),
    -- Completed means that a credential is stored.
    CHECK ((state = 'completed') = (credential_id IS NOT NULL))
);
CREATE INDEX sessions_by_state ON sessions (state, deadline_ms);
CREATE INDEX sessions_by_owner ON sessions (caller_id, id);

CREATE TABLE timeline (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    number     BIGINT NOT NULL CHECK (number >= 1),
    at_ms      BIGINT NOT NULL,
    kind       TEXT NOT NULL,
    sentence   TEXT NOT NULL,
    data       TEXT NOT NULL,
    PRIMARY KEY (session_id, number)
);

CREATE TABLE credentials (
    id            TEXT PRIMARY KEY NOT NULL,
    owner         TEXT NOT NULL REFERENCES callers (id),
    user_id       TEXT,
    provider      TEXT NOT NULL,
    session_id    TEXT NOT NULL UNIQUE REFERENCES sessions (id),
    sealed        BYTEA,
    key_id        BIGINT NOT NULL,
    files         TEXT NOT NULL,
    stored_at_ms  BIGINT NOT NULL,
    deleted_at_ms BIGINT,
    -- A deleted credential has no bytes, and only a deleted one.
    CHECK ((sealed IS NULL) = (deleted_at_ms IS NOT NULL))
);
CREATE INDEX credentials_by_owner ON credentials (owner, id);

CREATE TABLE leases (
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    number        BIGINT NOT NULL CHECK (number >= 1),
    caller_id     TEXT NOT NULL REFERENCES callers (id),
    at_ms         BIGINT NOT NULL,
    PRIMARY KEY (credential_id, number)
);

CREATE TABLE passes (
    hash          TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('enter', 'viewer')),
    name          TEXT,
    session_id    TEXT REFERENCES sessions (id),
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    -- `enter` lets an operator of this name in; `viewer` opens one session.
    CHECK ((kind = 'enter') = (name IS NOT NULL)),
    CHECK ((kind = 'viewer') = (session_id IS NOT NULL))
);

CREATE TABLE tickets (
    hash          TEXT PRIMARY KEY NOT NULL,
    session_id    TEXT NOT NULL REFERENCES sessions (id),
    caller_id     TEXT NOT NULL REFERENCES callers (id),
    purpose       TEXT NOT NULL CHECK (purpose IN ('desktop', 'terminal')),
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT
);
