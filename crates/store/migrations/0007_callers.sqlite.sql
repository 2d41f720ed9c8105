-- Callers of one kind cannot stand in for another, have scopes and more roles, and belong to the caller that made them.
-- SQLite cannot change a CHECK, so the table is made again; rows that refer to it are checked when the migration is committed.
-- PostgreSQL needs none of this: no earlier version wrote such a database.

PRAGMA defer_foreign_keys = ON;

CREATE TABLE earlier_callers AS SELECT * FROM callers;
DROP TABLE callers;

CREATE TABLE callers (
    id              TEXT PRIMARY KEY NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('api_token', 'browser_cookie', 'viewer_cookie', 'local_socket')),
    role            TEXT NOT NULL CHECK (role IN ('operator', 'auditor', 'backend', 'user', 'viewer', 'helper')),
    name            TEXT NOT NULL,
    token_hash      TEXT NOT NULL UNIQUE,
    session_id      TEXT,
    -- Names of scopes, separated by spaces.
    scopes          TEXT NOT NULL,
    -- Sessions and credentials are stored under this id: the caller's own, or for a rotated token that of the first token.
    account_id      TEXT NOT NULL REFERENCES callers (id),
    -- The caller that made this one; both are revoked with it.
    parent_id       TEXT REFERENCES callers (id),
    created_at_ms   BIGINT NOT NULL,
    expires_at_ms   BIGINT,
    last_used_at_ms BIGINT,
    revoked_at_ms   BIGINT,
    -- A viewer and a helper see one session; no other caller is bound to one.
    CHECK ((role IN ('viewer', 'helper')) = (session_id IS NOT NULL)),
    CHECK ((kind = 'viewer_cookie') = (session_id IS NOT NULL))
);
-- Only cookies had an end.
INSERT INTO callers (id, kind, role, name, token_hash, session_id, scopes, account_id, created_at_ms, expires_at_ms, revoked_at_ms)
    SELECT id,
        CASE WHEN id = 'cal_00000000000000000000000000' THEN 'local_socket' WHEN role = 'viewer' THEN 'viewer_cookie'
            WHEN expires_at_ms IS NOT NULL THEN 'browser_cookie' ELSE 'api_token' END,
        role, name, token_hash, session_id,
        CASE role WHEN 'backend' THEN 'start read lease' WHEN 'viewer' THEN 'start read' ELSE 'start read lease operate metrics audit' END,
        id, created_at_ms, expires_at_ms, revoked_at_ms
    FROM earlier_callers;
DROP TABLE earlier_callers;
CREATE INDEX callers_by_parent ON callers (parent_id);
CREATE INDEX callers_by_account ON callers (account_id);

ALTER TABLE login_tokens RENAME TO earlier_login_tokens;
CREATE TABLE login_tokens (
    hash          TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('operator', 'viewer', 'helper')),
    name          TEXT,
    session_id    TEXT REFERENCES sessions (id),
    -- The caller that made the link. An operator's link of an earlier version has none.
    caller_id     TEXT REFERENCES callers (id),
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    -- `operator` signs in an operator, `helper` admits a view-only helper of this name; `viewer` gives access to one session.
    CHECK ((kind IN ('operator', 'helper')) = (name IS NOT NULL)),
    CHECK ((kind IN ('viewer', 'helper')) = (session_id IS NOT NULL))
);
INSERT INTO login_tokens (hash, kind, name, session_id, expires_at_ms, used_at_ms)
    SELECT hash, kind, name, session_id, expires_at_ms, used_at_ms FROM earlier_login_tokens;
DROP TABLE earlier_login_tokens;
CREATE INDEX login_tokens_by_caller ON login_tokens (caller_id);
