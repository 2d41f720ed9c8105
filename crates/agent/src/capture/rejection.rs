//! Why a file is not delivered. A reason names keys and kinds of errors, never a value of the credential. Scans compare it with the reason
//! of the scan before, so it keeps the kind of an I/O error and not the error.

use super::written_files::Names;
use anteroom_wire::provider::FormatFault;
use std::io;

/// Why a file is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("a symbolic link")]
    SymbolicLink,
    #[error("not a plain file")]
    NotAPlainFile,
    #[error("larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("cannot be read: {0}")]
    NotRead(io::ErrorKind),
    #[error("older than the sign-in")]
    OlderThanSignIn,
    #[error("the same as before the sign-in")]
    SameAsBefore,
    #[error("no such file, although the tool reports that it is signed in{written}")]
    NotFound { written: Names },
    #[error("it is complete, but the tool does not show that it can work with it")]
    NotUsable,
    #[error(transparent)]
    Format(#[from] FormatFault),
    #[error(transparent)]
    NotSignedIn(#[from] NotSignedIn),
}

impl From<io::Error> for Rejection {
    fn from(error: io::Error) -> Self {
        Self::NotRead(error.kind())
    }
}

/// Why the tool does not count as signed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSignedIn {
    #[error("the tool's status command does not report that it is signed in")]
    NotReported,
    #[error("the tool's status command ended with {0}")]
    ExitCode(i32),
    #[error("the tool's status command did not end within {ms_max} ms")]
    Timeout { ms_max: u64 },
    #[error("the tool's status command did not run: {0}")]
    NotRun(io::ErrorKind),
}
