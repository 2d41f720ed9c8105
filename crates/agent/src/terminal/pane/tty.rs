//! The terminal's modes: as they were for the tool, without echo for the pane.

use crate::watched::watched;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios},
};
use std::io;
use tokio::io::{Interest, unix::AsyncFd};

/// The pane's terminal, which it shares with the tool.
pub(super) struct Modes {
    tool: Termios,
    readable: AsyncFd<std::os::fd::OwnedFd>,
}

impl Modes {
    pub(super) fn prepare() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let mut tool = rustix::termios::tcgetattr(stdin)?;
        // Nobody could bring a stopped tool back: there is no shell.
        tool.special_codes[SpecialCodeIndex::VSUSP] = 0;
        let readable = watched(rustix::io::dup(stdin)?, Interest::READABLE)?;
        let tty = Self { tool, readable };
        tty.for_the_pane()?;
        Ok(tty)
    }

    pub(super) fn for_the_pane(&self) -> io::Result<()> {
        let mut quiet = self.tool.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        Ok(rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?)
    }

    /// What was typed before is not the tool's.
    pub(super) fn for_the_tool(&self) -> io::Result<()> {
        let stdin = rustix::stdio::stdin();
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &self.tool)?;
        Ok(rustix::termios::tcflush(stdin, QueueSelector::IFlush)?)
    }

    /// Waits for a whole line. The descriptor stays blocking, as the tool shares it: only a readable one is read.
    pub(super) async fn enter(&self) -> io::Result<()> {
        rustix::termios::tcflush(rustix::stdio::stdin(), QueueSelector::IFlush)?;
        loop {
            let mut ready = self.readable.readable().await?;
            ready.clear_ready();
            let mut look = [PollFd::new(self.readable.get_ref(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut look, Some(&now)).map_err(io::Error::from)? == 0 {
                continue; // the readiness was of bytes that the tool has read
            }
            let mut line = [0; 1024];
            let n = rustix::io::read(self.readable.get_ref(), &mut line)?;
            if n == 0 || line[..n].contains(&b'\n') {
                return Ok(());
            }
        }
    }
}
