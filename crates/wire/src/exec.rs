//! The exec channel: a command's standard streams, its signals and its exit status over one connection.
//!
//! Each message is one byte that names a channel, then the payload, as in Kubernetes' subprotocol `v5.channel.k8s.io`; [`SIGNAL`] and
//! [`WINDOW`] are additions. Between client and server each message is one binary WebSocket message of the subprotocol
//! [`EXEC_SUBPROTOCOL`]; the first one is text, an [`ExecStart`]. Between controller and agent ([`EXEC_AUTHORITY`]) each message has its
//! length before it (4 bytes, big-endian, without these 4), and the first payload is the [`ExecStart`] on the channel [`START`].
//!
//! | channel | from | payload |
//! |---|---|---|
//! | 0 [`STDIN`] | client | bytes; together at most [`STDIN_WINDOW_BYTES`] more than the machine has granted |
//! | 1 [`STDOUT`], 2 [`STDERR`] | machine | bytes; with a terminal everything is on 1 |
//! | 3 [`STATUS`] | machine | the last message: [`ExecStatus`] to a client, [`ExecExit`] from an agent |
//! | 4 [`RESIZE`] | client | [`ExecSize`] |
//! | 5 [`SIGNAL`] | client | the name of an [`ExecSignal`], like `INT` |
//! | 6 [`WINDOW`] | machine | 4 bytes, big-endian: so many further bytes of input may be sent. The first message has 0: the command runs |
//! | 255 [`CLOSE`] | client | one byte, 0: the end of the input |

use crate::GuestText;
use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol.
pub const EXEC_SUBPROTOCOL: &str = "v1.exec.anteroom";
/// Authority of the `CONNECT` that opens an exec channel to an agent.
pub const EXEC_AUTHORITY: &str = "exec:1";

/// Standard input.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The exit status.
pub const STATUS: u8 = 3;
/// The size of the terminal.
pub const RESIZE: u8 = 4;
/// A signal for the command.
pub const SIGNAL: u8 = 5;
/// Further bytes of input that may be sent.
pub const WINDOW: u8 = 6;
/// The start, only between controller and agent.
pub const START: u8 = 254;
/// The end of the channel that the payload names.
pub const CLOSE: u8 = 255;

/// The largest payload of a message, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The largest first message, bytes: JSON of a command of 64 KiB.
pub const START_BYTES_MAX: usize = 512 * 1024;
/// Input that may be sent before the machine has granted more, bytes. So input that a command does not read never delays a signal.
pub const STDIN_WINDOW_BYTES: usize = 1024 * 1024;
/// The longest name of a terminal type, characters.
pub const TERM_CHARS_MAX: usize = 64;

/// The first message: what to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// Program, then arguments. Empty: the command with which the session was started (`attached`), which runs once.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The pseudo-terminal; `None`: pipes.
    #[serde(default)]
    pub tty: Option<ExecTty>,
}

/// A pseudo-terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecTty {
    /// Columns, 1 to 1000.
    pub cols: u16,
    /// Rows, 1 to 1000.
    pub rows: u16,
    /// The terminal's type (`TERM`): letters, digits and `-._+`, at most [`TERM_CHARS_MAX`].
    pub term: String,
}

/// A new size of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecSize {
    /// Columns, 1 to 1000.
    pub width: u16,
    /// Rows, 1 to 1000.
    pub height: u16,
}

/// A signal that a client may send. With a terminal the terminal's foreground processes get it, otherwise the command's process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "signal(7) describes them")]
pub enum ExecSignal {
    Hup,
    Int,
    Quit,
    Usr1,
    Usr2,
    Term,
    Cont,
    Tstp,
    Winch,
}

impl ExecSignal {
    /// All signals.
    pub const ALL: [Self; 9] =
        [Self::Hup, Self::Int, Self::Quit, Self::Usr1, Self::Usr2, Self::Term, Self::Cont, Self::Tstp, Self::Winch];

    /// Its name without `SIG`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Term => "TERM",
            Self::Cont => "CONT",
            Self::Tstp => "TSTP",
            Self::Winch => "WINCH",
        }
    }

    /// The signal of this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name().as_bytes() == name)
    }
}

/// How a command ended, from the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// The exit code; 128 + number of the signal; 127: not found; 126: cannot be executed; 125: not run.
    pub exit_code: u8,
    /// Why it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<GuestText>,
}

impl ExecExit {
    /// A command that was not run, for this reason.
    pub fn not_run(why: &str) -> Self {
        Self { exit_code: 125, message: Some(GuestText::new(why)) }
    }
}

/// How a command ended, as Kubernetes' `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatus {
    /// `Success` (exit code 0) or `Failure`.
    pub status: String,
    /// With `Failure`: `NonZeroExitCode`; `BadRequest` if the start was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the command was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// With `Failure`: the exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ExecDetails>,
}

/// The causes of an [`ExecStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecDetails {
    /// One cause.
    pub causes: Vec<ExecCause>,
}

/// The cause of an [`ExecStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCause {
    /// `ExitCode`.
    pub reason: String,
    /// The exit code, decimal.
    pub message: String,
}

impl From<ExecExit> for ExecStatus {
    fn from(exit: ExecExit) -> Self {
        let message = exit.message.map(String::from);
        if exit.exit_code == 0 {
            return Self { status: "Success".to_owned(), reason: None, message, details: None };
        }
        let cause = ExecCause { reason: "ExitCode".to_owned(), message: exit.exit_code.to_string() };
        Self {
            status: "Failure".to_owned(),
            reason: Some("NonZeroExitCode".to_owned()),
            message,
            details: Some(ExecDetails { causes: vec![cause] }),
        }
    }
}

impl ExecStatus {
    /// The exit code; `None`: the status has none.
    pub fn exit_code(&self) -> Option<u8> {
        if self.status == "Success" {
            return Some(0);
        }
        let causes = &self.details.as_ref()?.causes;
        causes.iter().find(|cause| cause.reason == "ExitCode")?.message.parse().ok()
    }
}

/// The 4 bytes before a message between controller and agent, whose channel and payload have this length together.
pub fn length_prefix(message_bytes: usize) -> [u8; 4] {
    u32::try_from(message_bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// A message between controller and agent that is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes")]
pub struct MessageLengthError(pub usize);

/// The length of the first message in `buffer`, without the 4 bytes before it; `None`: the message is incomplete. A message has at least
/// its channel, and at most `payload_bytes_max` after it.
///
/// # Errors
/// The message is empty or too long.
pub fn complete_message_length(buffer: &[u8], payload_bytes_max: usize) -> Result<Option<usize>, MessageLengthError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length == 0 || length > payload_bytes_max + 1 {
        return Err(MessageLengthError(length));
    }
    Ok((buffer.len() - prefix.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_has_the_exit_code() {
        for code in [0, 1, 127, 255] {
            let status = ExecStatus::from(ExecExit { exit_code: code, message: None });
            assert_eq!(status.exit_code(), Some(code));
        }
        let kubernetes = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"m","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(serde_json::from_str::<ExecStatus>(kubernetes).unwrap().exit_code(), Some(7));
    }

    #[test]
    fn length_of_a_message_is_bounded() {
        let message = [0, 0, 0, 2, STDIN, b'x', 0];
        assert_eq!(complete_message_length(&message[..3], 8), Ok(None));
        assert_eq!(complete_message_length(&message[..5], 8), Ok(None));
        assert_eq!(complete_message_length(&message, 8), Ok(Some(2)));
        assert_eq!(complete_message_length(&message, 0), Err(MessageLengthError(2)));
        assert_eq!(complete_message_length(&length_prefix(0), 8), Err(MessageLengthError(0)));
    }

    #[test]
    fn signals_have_distinct_names() {
        for signal in ExecSignal::ALL {
            assert_eq!(ExecSignal::from_name(signal.name().as_bytes()), Some(signal));
        }
        assert_eq!(ExecSignal::from_name(b"KILL"), None);
    }
}
