//! Holding a world's machines at a stage, from outside: as long as a file lies in the world's directory, the part that it is
//! named after does not begin. Nothing in the product knows of it; a slow host looks the same.

use crate::TestServer;
use std::{fs, io, path::Path, thread, time::Duration};

/// Between two looks at the file, milliseconds.
const LOOK_EVERY_MS: u64 = 10;

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausePoint {
    /// Keepers: a machine was asked for and has no process.
    Keepers,
    /// Desktops: the machine's agent runs and waits for its display.
    Desktops,
}

impl PausePoint {
    fn file_name(self) -> &'static str {
        match self {
            Self::Keepers => "hold-keepers",
            Self::Desktops => "hold-desktops",
        }
    }

    /// Waits in the process that is held, whose machine has this run directory (`WORLD/state/run/MACHINE`). Ends when the hold is
    /// over or the run directory is gone.
    pub fn wait(self, run_dir: &Path) {
        let Some(world) = run_dir.ancestors().nth(3) else { return };
        let file = world.join(self.file_name());
        while file.exists() && run_dir.exists() {
            #[allow(clippy::disallowed_methods, reason = "this process has nothing else to do, and no reactor yet")]
            thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
    }
}

impl TestServer {
    /// From now on holds every such part that begins.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn hold(&self, what: PausePoint) -> io::Result<()> {
        fs::write(self.path().join(what.file_name()), "")
    }

    /// Lets all go that are held.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&self, what: PausePoint) -> io::Result<()> {
        match fs::remove_file(self.path().join(what.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
