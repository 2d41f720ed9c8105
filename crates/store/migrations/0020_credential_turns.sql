-- In a cluster: which sessions and leases use a credential now, and which wait for it. A row counts while its host is in this incarnation.

CREATE TABLE credential_turns (
    -- A session's id, or a random text of a lease.
    id               TEXT   PRIMARY KEY NOT NULL,
    credential_id    TEXT   NOT NULL,
    -- NULL: it is read for a lease.
    session_id       TEXT,
    host_id          TEXT   NOT NULL,
    host_incarnation BIGINT NOT NULL,
    -- The server process of the host: after a restart it is another one.
    process          BIGINT NOT NULL,
    -- The order in which they came.
    number           BIGINT NOT NULL,
    held             BIGINT NOT NULL CHECK (held IN (0, 1))
);
CREATE INDEX credential_turns_by_credential ON credential_turns (credential_id, number);
