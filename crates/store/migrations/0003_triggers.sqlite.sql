CREATE TRIGGER sessions_aim_stays BEFORE UPDATE ON sessions FOR EACH ROW
WHEN NEW.purpose <> OLD.purpose OR NEW.uses_credential IS NOT OLD.uses_credential
    OR NEW.renews_credential IS NOT OLD.renews_credential
BEGIN SELECT RAISE(ABORT, 'what a session is for does not change'); END;

CREATE TRIGGER credentials_stay_whose_they_are BEFORE UPDATE ON credentials FOR EACH ROW
WHEN NEW.id <> OLD.id OR NEW.owner <> OLD.owner OR NEW.provider <> OLD.provider
BEGIN SELECT RAISE(ABORT, 'a credential stays its owner''s and its tool''s'); END;

CREATE TRIGGER credentials_count_their_revisions BEFORE UPDATE ON credentials FOR EACH ROW
WHEN NEW.revision NOT IN (OLD.revision, OLD.revision + 1)
    OR (NEW.session_id <> OLD.session_id AND NEW.revision = OLD.revision)
BEGIN SELECT RAISE(ABORT, 'bytes from another session are another revision'); END;

CREATE TRIGGER credentials_are_kept BEFORE DELETE ON credentials FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'that there was a credential stays on the record'); END;

CREATE TRIGGER outbox_done_stays BEFORE UPDATE ON outbox FOR EACH ROW WHEN OLD.done_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a message that is done does not change'); END;
