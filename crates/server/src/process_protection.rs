//! Protects the server's own process: other programs cannot read its memory, and the kernel spares it when memory runs out.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::{fs, io};

/// The preferred OOM score adjustment (proc(5), `oom_score_adj`). Machines have the highest, keepers one in between: a machine can be
/// replaced, the server holds all sessions. -1000 would exempt the server even if it is the cause.
const OOM_SCORE_ADJ: i32 = -900;
/// Step between two attempts to set it.
const OOM_SCORE_STEP: usize = 100;

/// A protection that the kernel refused.
#[derive(Debug, thiserror::Error)]
enum ProtectionError {
    #[error("core dumps cannot be switched off: a crash could write keys and credentials to the disk")]
    CoreDumps(#[source] io::Error),
    #[error("the process cannot be made undumpable: other processes of the same user can read its memory")]
    Dumpable(#[source] io::Error),
    #[error("the OOM score cannot be lowered: when memory runs out, the kernel may end the server before a machine")]
    OomScore(#[source] io::Error),
}

/// Applies all protections; those that the kernel refuses are logged. Call it when the log is open and before keys are read.
pub fn protect_process() {
    // The score first: an undumpable process of an ordinary user may not write its files in `/proc`.
    let oom_score = lower_oom_score();
    let no_limit = Rlimit { current: Some(0), maximum: Some(0) };
    let core_dumps = setrlimit(Resource::Core, no_limit).map_err(|errno| ProtectionError::CoreDumps(errno.into()));
    let dumpable =
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|errno| ProtectionError::Dumpable(errno.into()));
    for error in [core_dumps.err(), dumpable.err()].into_iter().flatten() {
        tracing::warn!(outcome = "not_protected", error = %anteroom_controller::api_error::chain(&error), "process protection failed");
    }
    // An ordinary user may never lower it, so this is no warning.
    if let Err(error) = oom_score {
        tracing::info!(outcome = "not_protected", error = %anteroom_controller::api_error::chain(&error), "OOM score unchanged");
    }
}

/// Raises the limit of open files to its hard limit. Returns how many files this process may open.
pub(crate) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(outcome = "not_raised", %error, "limit of open files not raised: fewer connections are accepted");
            limit
        }
    };
    limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Sets the lowest OOM score adjustment that this process may set.
fn lower_oom_score() -> Result<(), ProtectionError> {
    let path = "/proc/self/oom_score_adj";
    let current = fs::read_to_string(path).map_err(ProtectionError::OomScore)?;
    let current: i32 = current.trim().parse().unwrap_or(0);
    let mut refused = None;
    for score in (OOM_SCORE_ADJ..current).step_by(OOM_SCORE_STEP) {
        match fs::write(path, score.to_string()) {
            Ok(()) => return Ok(()),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), |error| Err(ProtectionError::OomScore(error)))
}
