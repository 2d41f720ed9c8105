//! Process mode's configuration: one JSON file, in which unknown keys are rejected. A machine's agent has no configuration: it gets boot
//! parameters from the kernel's command line and session parameters from the claim. So only paths belong here; a setting that changed
//! the agent's decisions would make process mode a different agent than the machine's.
//!
//! ```json
//! {
//!   "agent_socket": "/tmp/m1/agent.sock",
//!   "controller_socket": "/tmp/m1/controller.sock",
//!   "work_dir": "/tmp/m1/work",
//!   "home": "/tmp/m1/home",
//!   "rfb_socket": "/tmp/m1/rfb.sock",
//!   "image_hash": "sha256:…",
//!   "tool_versions": { "demo": "1.0" },
//!   "exec_search_path": "/tmp/m1/bin:/usr/bin:/bin",
//!   "env": { "EXTRA": "1" }
//! }
//! ```

use anyhow::Context;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration of process mode. Paths are absolute; `work_dir` and `home` must exist.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessModeConfig {
    /// The socket that replaces the port on which the agent is the HTTP/2 server.
    pub(crate) agent_socket: PathBuf,
    /// The socket that replaces the port on which the agent is the HTTP/2 client.
    pub(crate) controller_socket: PathBuf,
    /// The directory for the agent's own sockets and files.
    pub(crate) work_dir: PathBuf,
    /// The tool's home directory.
    pub(crate) home: PathBuf,
    /// An RFB server's Unix socket; absent: this machine has no desktop.
    #[serde(default)]
    pub(crate) rfb_socket: Option<PathBuf>,
    /// The image hash that `GET /hello` returns.
    pub(crate) image_hash: String,
    /// Tool name → version, as returned by `GET /hello`.
    #[serde(default)]
    pub(crate) tool_versions: BTreeMap<String, String>,
    /// `PATH` of the tool.
    #[serde(default = "default_exec_search_path")]
    pub(crate) exec_search_path: String,
    /// Additional environment variables of the tool.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Files that report memory use in the kernel's formats; absent: memory is not watched, since the host's is not the session's.
    #[serde(default)]
    pub(crate) memory: Option<MemorySources>,
}

/// The files that report memory use.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemorySources {
    /// In the format of `/proc/meminfo` (proc(5)).
    pub(crate) meminfo: PathBuf,
    /// In the format of `/proc/pressure/memory`; a kernel without pressure information has no such file.
    pub(crate) pressure: PathBuf,
    /// In the format of `/proc/vmstat`.
    pub(crate) vmstat: PathBuf,
    /// In the format of `/dev/kmsg`.
    pub(crate) kmsg: PathBuf,
}

impl MemorySources {
    /// The kernel's own files, for a machine.
    pub(crate) fn kernel_files() -> Self {
        let [meminfo, pressure, vmstat, kmsg] =
            ["/proc/meminfo", "/proc/pressure/memory", "/proc/vmstat", "/dev/kmsg"].map(PathBuf::from);
        Self { meminfo, pressure, vmstat, kmsg }
    }
}

/// `PATH` of an ordinary Debian user, with the image's directory for tools first.
pub(crate) fn default_exec_search_path() -> String {
    "/usr/local/bin:/usr/bin:/bin".to_owned()
}

impl ProcessModeConfig {
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
    fn unknown_key_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.json");
        let dir_text = dir.path().display();
        let good = format!(
            r#""agent_socket":"/a","controller_socket":"/h","work_dir":"{dir_text}","home":"{dir_text}","image_hash":"x""#
        );
        std::fs::write(&file, format!("{{{good}}}")).unwrap();
        assert_eq!(ProcessModeConfig::read(&file).unwrap().exec_search_path, default_exec_search_path());
        std::fs::write(&file, format!("{{{good},\"colour\":1}}")).unwrap();
        assert!(format!("{:#}", ProcessModeConfig::read(&file).unwrap_err()).contains("colour"));
    }
}
