//! Switches the terminal's modes: unchanged for the tool, without echo for the pane.

use crate::platform::async_fd;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios},
};
use std::io;
use tokio::io::{Interest, unix::AsyncFd};

/// The terminal that pane and tool share.
pub(super) struct SharedTty {
    tool_modes: Termios,
    readable: AsyncFd<std::os::fd::OwnedFd>,
}

impl SharedTty {
    /// Takes the modes of standard input as those of the tool, and switches the terminal to the mode of the pane.
    pub(super) fn set_up_stdin() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let mut tool_modes = rustix::termios::tcgetattr(stdin)?;
        // Disables Ctrl-Z: without a shell a suspended tool could not be resumed.
        tool_modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
        let readable = async_fd::register_fd(rustix::io::dup(stdin)?, Interest::READABLE)?;
        let tty = Self { tool_modes, readable };
        tty.set_pane_mode()?;
        Ok(tty)
    }

    pub(super) fn set_pane_mode(&self) -> io::Result<()> {
        let mut quiet = self.tool_modes.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        Ok(rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?)
    }

    /// Input that was typed before is dropped.
    pub(super) fn set_tool_mode(&self) -> io::Result<()> {
        let stdin = rustix::stdio::stdin();
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &self.tool_modes)?;
        Ok(rustix::termios::tcflush(stdin, QueueSelector::IFlush)?)
    }

    /// Waits for a complete line. The descriptor stays blocking, since the tool shares it, so it is read only when it is readable.
    pub(super) async fn wait_enter(&self) -> io::Result<()> {
        rustix::termios::tcflush(rustix::stdio::stdin(), QueueSelector::IFlush)?;
        loop {
            let mut ready = self.readable.readable().await?;
            ready.clear_ready();
            let mut poll_fds = [PollFd::new(self.readable.get_ref(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut poll_fds, Some(&now)).map_err(io::Error::from)? == 0 {
                continue; // the tool has read the bytes that caused the readiness
            }
            let mut line = [0; 1024];
            let n = rustix::io::read(self.readable.get_ref(), &mut line)?;
            if n == 0 || line[..n].contains(&b'\n') {
                return Ok(());
            }
        }
    }
}
