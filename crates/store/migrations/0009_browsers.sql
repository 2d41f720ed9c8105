-- Browsers that are signed in. Cookies of earlier versions have no row here and are not accepted any more.

CREATE TABLE browsers (
    caller_id       TEXT PRIMARY KEY NOT NULL REFERENCES callers (id) ON DELETE CASCADE,
    -- The hash of the key that only the pages of this browser have.
    key_hash        TEXT NOT NULL,
    description     TEXT NOT NULL,
    address         TEXT NOT NULL,
    -- The person who signed in with an OpenID provider; null after a login link.
    issuer          TEXT,
    subject         TEXT,
    -- When the person last proved to be present.
    confirmed_at_ms BIGINT NOT NULL,
    last_used_at_ms BIGINT NOT NULL,
    CHECK ((issuer IS NULL) = (subject IS NULL))
);
CREATE INDEX browsers_by_person ON browsers (issuer, subject);
