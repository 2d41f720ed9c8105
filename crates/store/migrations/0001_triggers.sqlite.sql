-- What the program promises, the database holds: also against a hand with an SQL prompt.

CREATE TRIGGER sessions_ended_stays BEFORE UPDATE ON sessions FOR EACH ROW WHEN OLD.state <> 'active'
BEGIN SELECT RAISE(ABORT, 'a session that has ended does not change'); END;

CREATE TRIGGER sessions_are_kept BEFORE DELETE ON sessions FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'sessions are not deleted'); END;

CREATE TRIGGER timeline_is_append_only BEFORE UPDATE ON timeline FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;

CREATE TRIGGER timeline_is_kept BEFORE DELETE ON timeline FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;

CREATE TRIGGER leases_are_append_only BEFORE UPDATE ON leases FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the record of leases is append-only'); END;

CREATE TRIGGER leases_are_kept BEFORE DELETE ON leases FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the record of leases is append-only'); END;

CREATE TRIGGER credentials_deleted_stays BEFORE UPDATE ON credentials FOR EACH ROW WHEN OLD.deleted_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a deleted credential does not change'); END;
