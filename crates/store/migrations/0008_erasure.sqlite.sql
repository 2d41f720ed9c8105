-- Rows of sessions, timelines, leases and credentials are deleted only by an erasure, which marks itself in `meta` within its transaction.

DROP TRIGGER sessions_are_kept;
DROP TRIGGER timeline_is_kept;
DROP TRIGGER leases_are_kept;
DROP TRIGGER credentials_are_not_deleted;

CREATE TRIGGER sessions_are_kept BEFORE DELETE ON sessions FOR EACH ROW
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'erasing')
BEGIN SELECT RAISE(ABORT, 'sessions are not deleted except by an erasure'); END;

CREATE TRIGGER timeline_is_kept BEFORE DELETE ON timeline FOR EACH ROW
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'erasing')
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;

CREATE TRIGGER leases_are_kept BEFORE DELETE ON leases FOR EACH ROW
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'erasing')
BEGIN SELECT RAISE(ABORT, 'the record of leases is append-only'); END;

CREATE TRIGGER credentials_are_not_deleted BEFORE DELETE ON credentials FOR EACH ROW
WHEN NOT EXISTS (SELECT 1 FROM meta WHERE key = 'erasing')
BEGIN SELECT RAISE(ABORT, 'the row of a credential must not be deleted except by an erasure'); END;
