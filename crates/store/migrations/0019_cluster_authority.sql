-- The certificate authority of the cluster's hosts: its key is sealed with the keys of stored credentials, for this certificate.

CREATE TABLE cluster_authority (
    number      BIGINT PRIMARY KEY NOT NULL CHECK (number = 1),
    certificate TEXT   NOT NULL,
    sealed      BYTEA  NOT NULL,
    key_id      BIGINT NOT NULL
);

-- An invitation of a host is used once.
CREATE TABLE used_host_invitations (
    id         TEXT   PRIMARY KEY NOT NULL,
    ends_at_ms BIGINT NOT NULL
);
