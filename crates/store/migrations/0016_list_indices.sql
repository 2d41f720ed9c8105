-- The lists of sessions and credentials: each filter with a value of its own, in the order of the list.

CREATE INDEX IF NOT EXISTS sessions_by_state_in_order ON sessions (state, id);
CREATE INDEX IF NOT EXISTS sessions_by_provider ON sessions (provider, id);
CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS credentials_by_provider ON credentials (provider, id);
CREATE INDEX IF NOT EXISTS credentials_by_user ON credentials (user_id, id) WHERE user_id IS NOT NULL;
