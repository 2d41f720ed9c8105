//! The operator's own answers: `"auth.openai.com:443" = "127.0.0.1:40123"`.
//!
//! They stand in the operator's configuration, never in a guest's reach, and so may lead anywhere, a stand-in server on
//! this host above all.

use super::HostName;
use std::{collections::BTreeMap, net::SocketAddr};

/// What is wrong with one line of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("egress.overrides {key:?}: {why}")]
pub struct InvalidOverride {
    key: String,
    why: String,
}

/// Name and port → where that really is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostOverrides(BTreeMap<(HostName, u16), SocketAddr>);

impl HostOverrides {
    /// Reads `name:port` → address.
    ///
    /// # Errors
    /// All faulty lines at once.
    pub fn parse(lines: &BTreeMap<String, SocketAddr>) -> Result<Self, Vec<InvalidOverride>> {
        let mut answers = Self::default();
        let mut faults = Vec::new();
        for (key, &address) in lines {
            let fault = |why: String| InvalidOverride { key: key.clone(), why };
            let read = || -> Result<_, InvalidOverride> {
                let (host, port) = key.rsplit_once(':').ok_or_else(|| fault("must be name:port".to_owned()))?;
                let host = HostName::parse(host).map_err(|refusal| fault(refusal.detail))?;
                let port = port.parse().ok().filter(|&port: &u16| port != 0);
                let port = port.ok_or_else(|| fault("the port must be 1 to 65535".to_owned()))?;
                Ok(((host, port), address))
            };
            match read() {
                Ok((question, address)) => {
                    answers.0.insert(question, address);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(answers) } else { Err(faults) }
    }

    /// Adds one answer; the last for a name and port counts.
    pub fn insert(&mut self, name: HostName, port: u16, address: SocketAddr) {
        self.0.insert((name, port), address);
    }

    /// The answer for this name and port.
    pub fn get(&self, name: &HostName, port: u16) -> Option<SocketAddr> {
        self.0.get(&(name.clone(), port)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_of_the_configuration_are_named_at_once() {
        let there: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let lines = ["nameonly", "a.example:0", "a.example:port", "127.0.0.1:80", "good.example:80"];
        let lines = lines.into_iter().map(|key| (key.to_owned(), there)).collect();
        assert_eq!(HostOverrides::parse(&lines).unwrap_err().len(), 4);
    }

    #[test]
    fn an_answer_is_for_its_port_alone() {
        let lines = [("Auth.example:443".to_owned(), "127.0.0.1:4000".parse().unwrap())].into();
        let answers = HostOverrides::parse(&lines).unwrap();
        let name = HostName::parse("auth.example").unwrap();
        assert_eq!(answers.get(&name, 443), Some("127.0.0.1:4000".parse().unwrap()));
        assert_eq!(answers.get(&name, 80), None);
    }
}
