CREATE TRIGGER outbox_carries_the_same BEFORE UPDATE ON outbox FOR EACH ROW
WHEN NEW.carries_revision <> OLD.carries_revision AND NEW.carries_revision <> 0
BEGIN SELECT RAISE(ABORT, 'a message that may have been taken carries nothing else'); END;
