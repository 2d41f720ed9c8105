//! Pauses the start of machines: while a file exists in the test server's directory, the processes of that kind wait before they
//! start. The product does not know about it; to the product it looks like a slow host.

use crate::TestServer;
use std::{fs, io, path::Path, thread, time::Duration};

/// Time between two checks of the file, milliseconds.
const POLL_EVERY_MS: u64 = 10;

/// A point at which the start of a machine can be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausePoint {
    /// Before the keeper starts: the machine is requested and has no process.
    KeeperStart,
    /// Before the desktop starts: the machine's agent runs and waits for its display.
    DesktopStart,
    /// Before the agent starts: the machine's process runs, and nothing listens on its channels. A test may listen there and act as the agent.
    AgentStart,
}

impl PausePoint {
    fn file_name(self) -> &'static str {
        match self {
            Self::KeeperStart => "pause-keepers",
            Self::DesktopStart => "pause-desktops",
            Self::AgentStart => "pause-agents",
        }
    }

    /// Blocks the calling process while this point is paused. `run_dir` is the machine's run directory
    /// (`SERVER_DIR/state/run/MACHINE`). Returns also when that directory is removed.
    pub fn block_while_paused(self, run_dir: &Path) {
        let Some(server_dir) = run_dir.ancestors().nth(3) else { return };
        let file = server_dir.join(self.file_name());
        while file.exists() && run_dir.exists() {
            #[allow(clippy::disallowed_methods, reason = "this process has nothing else to do, and no reactor yet")]
            thread::sleep(Duration::from_millis(POLL_EVERY_MS));
        }
    }
}

impl TestServer {
    /// Pauses machines that reach this point.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn pause(&self, point: PausePoint) -> io::Result<()> {
        fs::write(self.path().join(point.file_name()), "")
    }

    /// Lets paused machines continue.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn resume(&self, point: PausePoint) -> io::Result<()> {
        match fs::remove_file(self.path().join(point.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
