//! Limits for the use of the database.

/// Limits for the use of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long a call waits for a free connection, and again for the database's lock, milliseconds. Then it fails as
    /// [`StoreErrorKind::Unavailable`](crate::StoreErrorKind::Unavailable).
    pub busy_ms_max: u64,
    /// The number of reading connections.
    pub readers_max: u32,
    /// How long [`Store::open`](crate::Store::open) tries to connect to PostgreSQL, milliseconds.
    pub connect_ms_max: u64,
    /// Whether this is the server, of which a database of PostgreSQL can have one at a time.
    pub is_server: bool,
    /// Whether it is one of several servers of a cluster, which share a database of PostgreSQL.
    pub is_host_of_cluster: bool,
    /// The most entries of one session's timeline; [`Store::append_event`](crate::Store::append_event) adds no more, transitions always add theirs.
    pub timeline_entries_max: u64,
    /// The most bytes of an entry's sentence; a longer one is truncated.
    pub sentence_bytes_max: usize,
    /// The most bytes of an entry's data as JSON; larger data is replaced by its size.
    pub event_data_bytes_max: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            busy_ms_max: 2_000,
            readers_max: 4,
            connect_ms_max: 30_000,
            is_server: false,
            is_host_of_cluster: false,
            timeline_entries_max: 5_000,
            sentence_bytes_max: 1024,
            event_data_bytes_max: 16 * 1024,
        }
    }
}
