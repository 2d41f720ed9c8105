//! Connections: HTTP, the database, egress.

use crate::settings::settings;
use std::{collections::BTreeMap, net::SocketAddr};

settings! {
    /// HTTP.
    pub struct Http {
        /// Largest request body of a delivery, bytes.
        delivery_bytes_max: usize = 1_024 * 1_024, within 1_024..=64 * 1_024 * 1_024;
        /// How long a graceful stop waits for open connections, milliseconds.
        drain_ms_max: u64 = 5_000, within 0..=600_000;
    }
}

settings! {
    /// The database.
    pub struct Store {
        /// How long a call waits for a locked database before it fails, milliseconds.
        busy_ms_max: u64 = 5_000, within 1..=600_000;
    }
}

settings! {
    /// Outbound connections of machines.
    pub struct Egress {
        /// Addresses that are used instead of resolving the name, e.g. of a test server. The provider's egress list must still grant
        /// the name.
        overrides: BTreeMap<String, SocketAddr> = BTreeMap::new(), lines r#"[egress.overrides]
"auth.example.com:443" = "127.0.0.1:8443""#;
    }
    sections {
        /// Limits of outbound connections of machines.
        limits: EgressLimits;
    }
}

settings! {
    /// Limits of outbound connections of machines.
    pub struct EgressLimits {
        /// A connection without traffic for this long is closed, seconds.
        idle_s_max: u64 = anteroom_egress::IDLE_S_MAX, within 1..=86_400;
        /// Longest duration of a connection, seconds.
        total_s_max: u64 = anteroom_egress::TOTAL_S_MAX, within 1..=7 * 24 * 3_600;
    }
}
