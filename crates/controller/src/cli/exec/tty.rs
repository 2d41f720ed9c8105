//! The person's own terminal: raw while the command runs, and as it was afterwards, whatever happens.

use anteroom_wire::agent::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// What a program on the other screen may have left on: margins, that screen itself, mouse, bracketed paste, application keys, colours,
/// a hidden cursor, no wrapping.
const LEAVE: &str =
    "\x1b[r\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m\x1b[?7h\x1b[?25h";

static IS_RAW: AtomicBool = AtomicBool::new(false);
/// The modes before, for a panic as well as for the good end.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode; dropping it brings the terminal back.
#[derive(Debug)]
pub(super) struct Raw(());

impl Raw {
    /// Every key is the command's from now on.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub(super) fn begin() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        // In a build that aborts on a panic nothing is dropped.
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            former(panic);
        }));
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        IS_RAW.store(true, Relaxed);
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether lines need both of their ends.
pub(super) fn is_raw() -> bool {
    IS_RAW.load(Relaxed)
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let mut out = io::stdout().lock();
        // A terminal that went away needs nothing.
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
        IS_RAW.store(false, Relaxed);
    }
}

/// The terminal's size, within what the machine's takes.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
    Some(TerminalSize { cols: size.ws_col.clamp(2, 500), rows: size.ws_row.clamp(2, 300) })
}
