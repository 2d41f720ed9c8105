//! Host overrides: `"auth.openai.com:443" = "127.0.0.1:40123"` in `[egress.overrides]`.
//!
//! They are part of the operator's configuration, which guests cannot change, so the address may be private, e.g. a test
//! server on this host.

use super::HostName;
use std::{collections::BTreeMap, net::SocketAddr};

/// An invalid entry of `[egress.overrides]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("egress.overrides {key:?}: {why}")]
pub struct InvalidOverride {
    key: String,
    why: String,
}

/// Map from name and port to address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostOverrides(BTreeMap<(HostName, u16), SocketAddr>);

impl HostOverrides {
    /// Parses entries `name:port` → address.
    ///
    /// # Errors
    /// All invalid entries at once.
    pub fn parse(entries: &BTreeMap<String, SocketAddr>) -> Result<Self, Vec<InvalidOverride>> {
        let mut overrides = Self::default();
        let mut invalid = Vec::new();
        for (key, &address) in entries {
            let invalid_entry = |why: String| InvalidOverride { key: key.clone(), why };
            let parsed = || -> Result<_, InvalidOverride> {
                let (host, port) = key.rsplit_once(':').ok_or_else(|| invalid_entry("must be name:port".to_owned()))?;
                let host = HostName::parse(host).map_err(|error| invalid_entry(error.detail))?;
                let port = port.parse().ok().filter(|&port: &u16| port != 0);
                let port = port.ok_or_else(|| invalid_entry("the port must be 1 to 65535".to_owned()))?;
                Ok(((host, port), address))
            };
            match parsed() {
                Ok((name_and_port, address)) => {
                    overrides.0.insert(name_and_port, address);
                }
                Err(error) => invalid.push(error),
            }
        }
        if invalid.is_empty() { Ok(overrides) } else { Err(invalid) }
    }

    /// Adds an override and replaces an earlier one for the same name and port.
    pub fn insert(&mut self, name: HostName, port: u16, address: SocketAddr) {
        self.0.insert((name, port), address);
    }

    /// The address for this name and port.
    pub fn get(&self, name: &HostName, port: u16) -> Option<SocketAddr> {
        self.0.get(&(name.clone(), port)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_invalid_overrides_are_reported_at_once() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let lines = ["nameonly", "a.example:0", "a.example:port", "127.0.0.1:80", "good.example:80"];
        let lines = lines.into_iter().map(|key| (key.to_owned(), address)).collect();
        assert_eq!(HostOverrides::parse(&lines).unwrap_err().len(), 4);
    }

    #[test]
    fn override_applies_to_its_port_only() {
        let lines = [("Auth.example:443".to_owned(), "127.0.0.1:4000".parse().unwrap())].into();
        let overrides = HostOverrides::parse(&lines).unwrap();
        let name = HostName::parse("auth.example").unwrap();
        assert_eq!(overrides.get(&name, 443), Some("127.0.0.1:4000".parse().unwrap()));
        assert_eq!(overrides.get(&name, 80), None);
    }
}
