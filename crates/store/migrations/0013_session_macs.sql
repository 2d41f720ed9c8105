-- MACs of the rows of sessions. They get theirs when a program with the keys first uses the database.

ALTER TABLE sessions ADD COLUMN mac TEXT;
