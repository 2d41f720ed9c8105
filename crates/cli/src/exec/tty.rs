//! The local terminal: raw mode while the command runs, restored afterwards in every case.

use anteroom_wire::agent::TerminalSize;
use parking_lot::Mutex;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// Resets the modes that a full-screen program may leave set: margins, alternate screen, mouse, bracketed paste, application keys,
/// colors, hidden cursor, no wrapping.
const RESET_MODES: &str =
    "\x1b[r\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m\x1b[?7h\x1b[?25h";

static IS_RAW: AtomicBool = AtomicBool::new(false);
/// The original terminal modes; static so that the panic hook can restore them.
static ORIGINAL_MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode of the terminal; dropping it restores the original modes.
#[derive(Debug)]
pub(super) struct RawMode(());

impl RawMode {
    /// Switches the terminal to raw mode: every key is passed to the command.
    ///
    /// # Errors
    /// Standard input is not a terminal.
    pub(super) fn enable() -> io::Result<Self> {
        let original = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = original.clone();
        raw.make_raw();
        *ORIGINAL_MODES.lock() = Some(original);
        // A build with panic=abort does not run destructors.
        let previous_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            previous_hook(panic);
        }));
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        IS_RAW.store(true, Relaxed);
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether the terminal is in raw mode, where a line must end with `\r\n`.
pub(super) fn is_raw_mode() -> bool {
    IS_RAW.load(Relaxed)
}

fn restore() {
    let original = ORIGINAL_MODES.lock().take();
    if let Some(original) = original {
        let mut out = io::stdout().lock();
        // Fails only if the terminal was closed, which needs no restore.
        let _ = out.write_all(RESET_MODES.as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &original);
        IS_RAW.store(false, Relaxed);
    }
}

/// The terminal's size, clamped to the limits of the machine's terminal.
pub(super) fn terminal_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
    Some(TerminalSize { cols: size.ws_col.clamp(2, 500), rows: size.ws_row.clamp(2, 300) })
}
