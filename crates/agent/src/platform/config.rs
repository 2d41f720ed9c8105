//! Process mode's configuration: one JSON file, unknown keys refused. A machine's agent has none: the kernel's command line says
//! what must be known at the boot, the claim what is this session's. So nothing belongs here but where things are: what changed the
//! agent's judgement would make process mode another agent than the machine's.
//!
//! ```json
//! {
//!   "agent_socket": "/tmp/m1/agent.sock",
//!   "host_socket": "/tmp/m1/host.sock",
//!   "work_dir": "/tmp/m1/work",
//!   "home": "/tmp/m1/home",
//!   "rfb_socket": "/tmp/m1/rfb.sock",
//!   "image_hash": "sha256:…",
//!   "clis": { "demo": "1.0" },
//!   "path": "/tmp/m1/bin:/usr/bin:/bin",
//!   "env": { "EXTRA": "1" }
//! }
//! ```

use crate::memory::Sources;
use anyhow::Context;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// What process mode is told. Paths are absolute; `work_dir` and `home` must exist.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the agent listens in place of the port on which it is HTTP/2's server.
    pub(crate) agent_socket: PathBuf,
    /// Where it listens in place of the port on which it is HTTP/2's client.
    pub(crate) host_socket: PathBuf,
    /// For its own sockets and files.
    pub(crate) work_dir: PathBuf,
    /// The tool's home directory.
    pub(crate) home: PathBuf,
    /// An RFB server's Unix socket; absent: this machine has no desktop.
    #[serde(default)]
    pub(crate) rfb_socket: Option<PathBuf>,
    /// What `GET /hello` shall tell.
    pub(crate) image_hash: String,
    /// Tool name → version, likewise.
    #[serde(default)]
    pub(crate) clis: BTreeMap<String, String>,
    /// `PATH` of the tool.
    #[serde(default = "default_path")]
    pub(crate) path: String,
    /// More environment for the tool.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Files that tell of this place's memory as the kernel's do; absent: nobody looks, since the host's is not the place's.
    #[serde(default)]
    pub(crate) memory: Option<Sources>,
}

/// Debian's for an ordinary user, and the image's own place for tools first.
pub(crate) fn default_path() -> String {
    "/usr/local/bin:/usr/bin:/bin".to_owned()
}

impl Config {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let size = std::fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        anyhow::ensure!(size <= CONFIG_BYTES_MAX, "{} is larger than {CONFIG_BYTES_MAX} bytes", path.display());
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let config: Self = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        for dir in [&config.work_dir, &config.home] {
            anyhow::ensure!(
                dir.is_absolute() && dir.is_dir(),
                "{} is not an absolute path to a directory",
                dir.display()
            );
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.json");
        let place = dir.path().display();
        let good =
            format!(r#""agent_socket":"/a","host_socket":"/h","work_dir":"{place}","home":"{place}","image_hash":"x""#);
        std::fs::write(&file, format!("{{{good}}}")).unwrap();
        assert_eq!(Config::read(&file).unwrap().path, default_path());
        std::fs::write(&file, format!("{{{good},\"colour\":1}}")).unwrap();
        assert!(format!("{:#}", Config::read(&file).unwrap_err()).contains("colour"));
    }
}
