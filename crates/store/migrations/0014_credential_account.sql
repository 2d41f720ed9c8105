-- The account at the provider to which a credential belongs, as its file names it.

ALTER TABLE credentials ADD COLUMN account TEXT;
