//! The order in which the kernel kills for lack of memory: machines, then their keepers, then the server.

use super::layers::LayerStatus;
use std::{
    fs::{self, File},
    io::{self, Write},
};

/// The score adjustment of a VMM, the largest that exists (oom_score_adj, proc(5)).
const VMM_ADJUSTMENT: i32 = 1_000;
const PATH: &str = "/proc/self/oom_score_adj";

/// Sets the score adjustment of this keeper and of the VMM that it starts.
pub(super) struct OomOrder {
    file: File,
    keeper: i32,
}

impl OomOrder {
    /// A new process has its parent's adjustment, so this is the VMM's until [`OomOrder::set_for_keeper`].
    pub(super) fn set_for_vmm() -> io::Result<Self> {
        let inherited: i32 = fs::read_to_string(PATH)?.trim().parse().map_err(io::Error::other)?;
        let mut file = File::options().write(true).open(PATH)?;
        write!(file, "{VMM_ADJUSTMENT}")?;
        Ok(Self { file, keeper: keeper_adjustment(inherited) })
    }

    /// Lowers the adjustment to the keeper's. Any process may do so down to the one that it had at its start.
    pub(super) fn set_for_keeper(&mut self) -> io::Result<()> {
        write!(self.file, "{}", self.keeper)
    }
}

/// The layer [`super::Layer::OomOrder`] when `error` prevents it.
pub(super) fn off(error: &io::Error) -> LayerStatus {
    LayerStatus::off(format!("{PATH} cannot be written: {error}"), "mount /proc writable for the server")
}

/// Between that of the server, which this keeper inherited, and that of a VMM.
fn keeper_adjustment(server: i32) -> i32 {
    server + (VMM_ADJUSTMENT - server) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeper_is_between_its_server_and_its_vmm() {
        for server in [-1_000, -900, 0, 500, 998] {
            let keeper = keeper_adjustment(server);
            assert!(server < keeper && keeper < VMM_ADJUSTMENT, "{server}: {keeper}");
        }
        assert_eq!(keeper_adjustment(VMM_ADJUSTMENT), VMM_ADJUSTMENT);
    }
}
