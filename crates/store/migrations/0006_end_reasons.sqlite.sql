-- Two reasons for which sessions ended had the code of an API error with another meaning. They get separate codes, in the rows
-- and in the timeline entries that name the reason. The triggers that keep such rows from changing are dropped for that and made
-- again. PostgreSQL needs none of this: no earlier version wrote such a database.

DROP TRIGGER sessions_ended_is_final;
DROP TRIGGER timeline_is_append_only;

UPDATE sessions SET reason_code = CASE reason_code
    WHEN 'provider_unavailable' THEN 'provider_removed'
    ELSE 'credential_deleted' END
WHERE reason_code IN ('provider_unavailable', 'unknown_credential');

UPDATE timeline SET data = json_set(data, '$.reason', CASE json_extract(data, '$.reason')
    WHEN 'provider_unavailable' THEN 'provider_removed'
    ELSE 'credential_deleted' END)
WHERE kind IN ('failed', 'viewer_disconnected', 'terminal_disconnected', 'viewer_rejected', 'ticket_rejected')
    AND json_extract(data, '$.reason') IN ('provider_unavailable', 'unknown_credential');

CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE ON sessions FOR EACH ROW WHEN OLD.state <> 'active'
BEGIN SELECT RAISE(ABORT, 'an ended session must not change'); END;

CREATE TRIGGER timeline_is_append_only BEFORE UPDATE ON timeline FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;
