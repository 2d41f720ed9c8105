//! Why an image could not be built.

use super::{
    ImageError,
    host_requirements::{MissingRequirement, apt_command},
    progress::Step,
};
use std::{error::Error, fmt::Write as _, io, path::PathBuf};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This host lacks something.
    #[error("{}", missing_text(.0))]
    Missing(Vec<MissingRequirement>),
    /// Another build runs.
    #[error("another build runs in {dir:?}{}: wait for its end", holder(*.pid))]
    Busy {
        /// The images directory.
        dir: PathBuf,
        /// Its process, if known.
        pid: Option<u32>,
    },
    /// A binary is not one for the guest.
    #[error("{path:?} {why}")]
    Binary {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The embedded recipe does not read.
    #[error("the recipe in this program does not read")]
    Recipe(#[source] toml::de::Error),
    /// A program could not be started or waited for.
    #[error("{step}: `{command}` could not be run")]
    Start {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{step}: `{command}` ended with {status}; its last lines:{}", indented(.last_lines))]
    Failed {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// A program took too long.
    #[error("{step}: `{command}` did not end within {limit_s} s; its last lines:{}", indented(.last_lines))]
    TooLong {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
        /// The limit, seconds.
        limit_s: u64,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// A program was told to end because another part of the build had failed.
    #[error("{step}: `{command}` was stopped")]
    Stopped {
        /// While doing what.
        step: Step,
        /// The command.
        command: String,
    },
    /// A download is not what the recipe pins.
    #[error("{package} is not the package that the recipe names: its integrity is {found}, not {expected}")]
    Integrity {
        /// Which.
        package: String,
        /// As the recipe says.
        expected: String,
        /// As it came.
        found: String,
    },
    /// A program did its work and the result is not what it should be.
    #[error("{step}: {what}")]
    Unexpected {
        /// While doing what.
        step: Step,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be read or written.
    #[error("{step}: {path:?}")]
    Io {
        /// While doing what.
        step: Step,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The finished image fails its checks.
    #[error("the finished image is not valid")]
    InvalidImage(#[source] ImageError),
    /// No machine could be started from the image; the current image stays what it was.
    #[error("the image was built, but its self-test failed")]
    SelfTest(#[source] Box<dyn Error + Send + Sync>),
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return " (none)".into();
    }
    lines.iter().flat_map(|line| ["\n    ", line]).collect()
}

fn missing_text(missing: &[MissingRequirement]) -> String {
    let mut text = String::from("this host lacks what the build needs:");
    for missing in missing {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n    {}: {}", missing.what, missing.why);
    }
    let lines = apt_command(missing).into_iter();
    let others = missing.iter().filter(|missing| missing.package.is_none()).map(|missing| missing.remedy.clone());
    text.push_str("\n  what provides it:");
    for line in lines.chain(others) {
        let _ = write!(text, "\n    {line}");
    }
    text
}
