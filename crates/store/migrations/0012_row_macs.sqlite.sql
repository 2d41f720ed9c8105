-- An entry stays as it is; its MAC is made again when the keys are rotated.

DROP TRIGGER timeline_is_append_only;

CREATE TRIGGER timeline_is_append_only BEFORE UPDATE OF session_id, number, at_ms, kind, sentence, data ON timeline FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;
