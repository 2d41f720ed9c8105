//! Why no spec could be made.

use crate::verified_files::VerifyError;
use std::path::PathBuf;

/// Why no spec could be made.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A path is not UTF-8 and cannot be written into a spec.
    #[error("the path {0:?} is not UTF-8")]
    Path(PathBuf),
    /// A file that the machine needs cannot be read.
    #[error("{what} is missing at {path:?}")]
    Missing {
        /// The kind of file.
        what: &'static str,
        /// The expected path.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: std::io::Error,
    },
    /// A file that the machine needs does not have the content that it should have.
    #[error(
        "a file of the machine cannot be used; restart the server, which verifies the image and makes a damaged template again"
    )]
    File(#[from] VerifyError),
    /// A value that the program would reject.
    #[error("{0}")]
    Value(String),
}
