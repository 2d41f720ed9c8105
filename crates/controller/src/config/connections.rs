//! Connections: HTTP and egress.

use crate::settings::settings;
use std::{collections::BTreeMap, net::SocketAddr};

settings! {
    /// HTTP.
    pub struct Http {
        /// How long a graceful stop waits for open connections, milliseconds.
        drain_ms_max: u64 = 5_000, within 0..=600_000;
    }
}

settings! {
    /// Outbound connections of machines.
    pub struct Egress {
        /// Addresses that are used instead of resolving the name, e.g. of a test server. The provider's egress list must still allow
        /// the name.
        overrides: BTreeMap<String, SocketAddr> = BTreeMap::new(), lines r#"[egress.overrides]
"auth.example.com:443" = "127.0.0.1:8443""#;
    }
}
