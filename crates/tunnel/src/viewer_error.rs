//! A fault of the viewer that the stream to the machine finds while it takes the viewer's bytes.

use anteroom_wire::ProblemBody;
use std::io;

/// In an [`io::Error`] of a stream's write: the viewer is to blame, and is closed with this problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence)]
pub struct ViewerError(ProblemBody);

impl ViewerError {
    /// The viewer is closed with `body`.
    pub fn new(body: ProblemBody) -> Self {
        Self(body)
    }

    /// The problem in `error`, if the viewer is to blame for it.
    pub fn of(error: &io::Error) -> Option<&ProblemBody> {
        error.get_ref()?.downcast_ref::<Self>().map(|fault| &fault.0)
    }
}

impl From<ViewerError> for io::Error {
    fn from(fault: ViewerError) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}
