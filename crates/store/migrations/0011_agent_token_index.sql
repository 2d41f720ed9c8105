-- An agent's request is authenticated by its token before its body is read.

CREATE INDEX sessions_by_agent_token ON sessions (agent_token_hash);
