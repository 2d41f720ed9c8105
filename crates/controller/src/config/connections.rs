//! Connections: HTTP and egress.

use crate::settings::settings;
use std::{collections::BTreeMap, net::SocketAddr};

settings! {
    /// HTTP.
    pub struct Http {
        /// How long a graceful stop waits for open connections, milliseconds.
        drain_ms_max: u64 = 5_000, within 0..=600_000;
        /// Whether `listen` accepts HTTP/2 without TLS (prior knowledge), for a reverse proxy that speaks it.
        http2: bool = false;
    }
}

settings! {
    /// Outbound connections of machines.
    pub struct Egress {
        /// Data that a session may send, MiB; further connections are denied (`egress_limit`).
        session_upload_mib_max: u64 = 1_024, within 1..=1 << 24;
        /// Data that a session may receive, MiB.
        session_download_mib_max: u64 = 8_192, within 1..=1 << 24;
        /// Rate of a session in each direction, KiB in a second; a faster one is slowed down.
        session_kib_per_s_max: u64 = 16_384, within 1..=1 << 24;
        /// Data sent by a session from which its timeline has a warning, MiB.
        upload_warning_mib: u64 = 64, within 1..=1 << 24;
        /// Addresses that are used instead of resolving the name, e.g. of a test server. The provider's egress list must still allow
        /// the name.
        overrides: BTreeMap<String, SocketAddr> = BTreeMap::new(), lines r#"[egress.overrides]
"auth.example.com:443" = "127.0.0.1:8443""#;
    }
}
