//! The local terminal: raw mode while the command runs, restored afterwards in every case.

use anteroom_wire::exec::ExecSize;
use parking_lot::Mutex;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::{
    io::{self, Write},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Resets the modes that a full-screen program may leave set: margins, alternate screen, mouse, bracketed paste, application keys,
/// colors, hidden cursor, no wrapping.
const RESET_MODES: &str =
    "\x1b[r\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[0m\x1b[?7h\x1b[?25h";

static IS_RAW: AtomicBool = AtomicBool::new(false);
/// The original terminal modes; static so that the panic hook can restore them.
static ORIGINAL_MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// Switches the terminal to raw mode: every key is passed to the command. A panic restores it.
///
/// # Errors
/// Standard input is not a terminal.
pub(super) fn enable_raw_mode() -> io::Result<()> {
    static PANIC_HOOK: Once = Once::new();
    let original = tcgetattr(rustix::stdio::stdin())?;
    let mut raw = original.clone();
    raw.make_raw();
    *ORIGINAL_MODES.lock() = Some(original);
    // A build with panic=abort does not run destructors.
    PANIC_HOOK.call_once(|| {
        let previous_hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            previous_hook(panic);
        }));
    });
    tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
    IS_RAW.store(true, Relaxed);
    Ok(())
}

/// Restores the terminal after a command that has ended itself, and left the modes as it wants them.
pub(super) fn restore_after_command() {
    restore_modes(false);
}

/// Whether the terminal is in raw mode, where a line must end with `\r\n`.
pub(super) fn is_raw_mode() -> bool {
    IS_RAW.load(Relaxed)
}

/// Restores the terminal, if it is raw, and resets the modes that a program may have set.
pub(super) fn restore() {
    restore_modes(true);
}

fn restore_modes(resets_modes: bool) {
    let original = ORIGINAL_MODES.lock().take();
    if let Some(original) = original {
        if resets_modes {
            let mut out = io::stdout().lock();
            // Fails only if the terminal was closed, which needs no restore.
            let _ = out.write_all(RESET_MODES.as_bytes()).and_then(|()| out.flush());
        }
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &original);
        IS_RAW.store(false, Relaxed);
    }
}

/// The terminal's size.
pub(super) fn exec_size() -> Option<ExecSize> {
    let size = [tcgetwinsize(rustix::stdio::stdout()), tcgetwinsize(rustix::stdio::stdin())];
    let size = size.into_iter().flatten().find(|size| size.ws_col > 0 && size.ws_row > 0)?;
    Some(ExecSize { width: size.ws_col, height: size.ws_row })
}
