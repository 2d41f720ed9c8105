//! Why an image could not be built.

use super::{
    ImageError,
    host_requirements::{MissingRequirement, apt_install_command},
    package_lock::PackageDifference,
    progress::BuildStep,
};
use std::{error::Error, fmt::Write as _, io, path::PathBuf};

const NO_NETWORK: &str =
    "\n  It ran with `network = false`: if it needs this host's network, set `network = true` in [image.hook].";

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This host does not meet the build's requirements.
    #[error("{}", missing_text(.0))]
    MissingRequirements(Vec<MissingRequirement>),
    /// Another build is running.
    #[error("another build is running in {dir:?}{}: wait until it has ended", process_text(*.pid))]
    OtherBuildRunning {
        /// The images directory.
        dir: PathBuf,
        /// Its process, if known.
        pid: Option<u32>,
    },
    /// A binary cannot run in the guest.
    #[error("{path:?} {why}")]
    InvalidBinary {
        /// The binary.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Several things are wrong, all found before the build began.
    #[error("the build cannot begin:{}", indented(&.0.iter().map(ToString::to_string).collect::<Vec<_>>()))]
    Several(Vec<BuildError>),
    /// The embedded recipe cannot be parsed.
    #[error("the recipe in this program is invalid")]
    InvalidRecipe(#[source] toml::de::Error),
    /// A program could not be started or waited for.
    #[error("{step}: `{command}` could not be run")]
    CommandNotStarted {
        /// The step.
        step: BuildStep,
        /// The command.
        command: String,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{step}: `{command}` failed with {status}; its last lines:{}", indented(.last_lines))]
    CommandFailed {
        /// The step.
        step: BuildStep,
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines of its standard error.
        last_lines: Vec<String>,
    },
    /// The operator's script failed.
    #[error(
        "the script of [image.hook], {script:?}, {what}; its last lines:{}{}",
        indented(.last_lines),
        if *.without_network { NO_NETWORK } else { "" }
    )]
    HookFailed {
        /// The script on this host.
        script: PathBuf,
        /// What happened, with its exit code.
        what: String,
        /// The last lines that it printed.
        last_lines: Vec<String>,
        /// It may not use the network, and its words are those of a program without one.
        without_network: bool,
    },
    /// A program took too long.
    #[error("{step}: `{command}` did not end within {limit_s} s; its last lines:{}", indented(.last_lines))]
    CommandTimeout {
        /// The step.
        step: BuildStep,
        /// The command.
        command: String,
        /// The timeout, seconds.
        limit_s: u64,
        /// The last lines of its standard error.
        last_lines: Vec<String>,
    },
    /// A program was stopped because another part of the build had failed.
    #[error("{step}: `{command}` was stopped")]
    CommandStopped {
        /// The step.
        step: BuildStep,
        /// The command.
        command: String,
    },
    /// The integrity of a download differs from the recipe.
    #[error("{package} is not the package that the recipe names: its integrity is {found}, not {expected}")]
    IntegrityMismatch {
        /// The package.
        package: String,
        /// The integrity in the recipe.
        expected: String,
        /// The integrity of the download.
        found: String,
    },
    /// Packages differ from the lock.
    #[error(
        "packages differ from image/packages.lock:{}\nto accept them, build without --locked and write the lock with `anteroom image lock`",
        indented(&differences.iter().map(ToString::to_string).collect::<Vec<_>>())
    )]
    PackagesDiffer {
        /// The differences.
        differences: Vec<PackageDifference>,
    },
    /// A program succeeded, but its result is not usable.
    #[error("{step}: {what}")]
    Unexpected {
        /// The step.
        step: BuildStep,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{step}: {path:?} cannot be read or written")]
    Io {
        /// The step.
        step: BuildStep,
        /// The file.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The finished image fails its checks.
    #[error("the finished image is not valid")]
    InvalidImage(#[source] ImageError),
    /// No machine could be started from the image; the current image is unchanged.
    #[error("the image was built, but its self-test failed")]
    SelfTest(#[source] Box<dyn Error + Send + Sync>),
}

impl BuildError {
    /// The error for all of these.
    pub(super) fn of_all(mut errors: Vec<Self>) -> Self {
        match errors.pop() {
            Some(only) if errors.is_empty() => only,
            last => {
                errors.extend(last);
                Self::Several(errors)
            }
        }
    }
}

fn process_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return " (none)".into();
    }
    lines.iter().flat_map(|line| ["\n    ", line]).collect()
}

fn missing_text(missing: &[MissingRequirement]) -> String {
    let mut text = String::from("this host does not meet the requirements of the build:");
    for missing in missing {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n    {}: {}", missing.what, missing.why);
    }
    let lines = apt_install_command(missing).into_iter();
    let others = missing.iter().filter(|missing| missing.package.is_none()).map(|missing| missing.remedy.clone());
    text.push_str("\n  to install them:");
    for line in lines.chain(others) {
        let _ = write!(text, "\n    {line}");
    }
    text
}
