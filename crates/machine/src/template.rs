//! What all kinds of templates have in common: the directory of templates, the preparation, its progress and its errors.
//!
//! ```text
//!  templates/
//!    lock              locked by the running preparation
//!    <key>/            immutable; the key is a hash of everything that the saved state depends on
//!      state           locked (shared) by every machine's keeper
//!      template.json   what the saved state depends on, and the hashes of the files
//!    verified.json     the files of which the content was verified
//!    tmp-<machine>/    a preparation in progress; the next preparation removes leftovers
//! ```

pub(crate) mod prepare;
pub(crate) mod saved;

use crate::{
    exit_reason::ExitReason,
    hardware::HardwareOutOfRange,
    image::ImageError,
    machines::{MachineStartError, MachinesOpenError},
    spec::SpecError,
};
use anteroom_wire::agent::Stage;
use saved::SavedTemplate;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

pub(crate) const STATE_FILE: &str = "state";
pub(crate) const MANIFEST_FILE: &str = "template.json";

/// How the machine of a template runs until it is saved.
#[derive(Debug, Clone)]
pub struct PreparationSettings {
    /// Directory of the templates, on a local file system with sparse files; memory files are as large as the machines' memory.
    pub templates_dir: PathBuf,
    /// As [`crate::MachinesSettings::keeper_program`].
    pub keeper_program: PathBuf,
    /// How long a preparation may take, including the wait for another one, milliseconds.
    pub prepare_ms_max: u64,
    /// How many of the last bytes of the console are kept for an error.
    pub console_bytes_max: usize,
}

/// The progress of a preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareProgress {
    /// A matching template exists.
    Found,
    /// Another process is preparing a template.
    Waiting,
    /// The guest is booting.
    Booting,
    /// The guest has not reached this stage yet.
    Stage(Stage),
    /// The guest's state is being saved.
    Saving,
    /// The template is complete.
    Done {
        /// The duration of the preparation, milliseconds.
        elapsed_ms: u64,
    },
}

/// Why no template could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file or directory cannot be read or written.
    #[error("{path:?} cannot be read or written")]
    File {
        /// The path.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// QEMU does not run.
    #[error("{program:?} does not run")]
    Qemu {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A value of the hardware is out of its range.
    #[error("the machines' hardware is out of range")]
    Hardware(#[from] HardwareOutOfRange),
    /// The image cannot be locked.
    #[error("the image cannot be locked")]
    Image(#[from] ImageError),
    /// The VMM's command line for the template is invalid.
    #[error("the VMM's command line for the template cannot be made")]
    CommandLine(#[from] SpecError),
    /// The directories for the template's machine cannot be opened.
    #[error("the directories of the template's machine cannot be used")]
    Open(#[from] MachinesOpenError),
    /// The template's machine cannot be started.
    #[error("the template's machine cannot be started")]
    Start(#[from] MachineStartError),
    /// Another preparation took too long.
    #[error("another process has been preparing a template for {ms_max} ms")]
    Busy {
        /// The timeout, milliseconds.
        ms_max: u64,
    },
    /// The guest did not become ready, or could not be saved.
    #[error(
        "the template's machine exited before it was saved: {reason}; console: {console_tail:?}; output: {output_tail:?}"
    )]
    Machine {
        /// The reason, with stage, last error and attempts.
        reason: Box<ExitReason>,
        /// The end of the console output (untrusted).
        console_tail: String,
        /// The end of the VMM's output.
        output_tail: String,
    },
}

/// Adds the path to an error.
pub(crate) fn file_error(path: &Path) -> impl Fn(io::Error) -> TemplateError {
    let path = path.to_owned();
    move |source| TemplateError::File { path: path.clone(), source }
}

/// The directory's name of the template with this manifest: its hash.
pub(crate) fn key(manifest: &impl Serialize) -> String {
    let text = serde_json::to_vec(manifest).unwrap_or_default();
    hex::encode(&Sha256::digest(text)[..12])
}

/// Opens a file and locks it (shared).
pub(crate) fn lock_shared(path: &Path) -> Result<File, TemplateError> {
    let file = File::open(path).map_err(file_error(path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared)
        .map_err(|error| file_error(path)(error.into()))?;
    Ok(file)
}

/// The processor's model name: a state saved on one model may not load on another.
pub(crate) fn host_cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    name.unwrap_or("unknown").to_owned()
}

/// Hash of the image that the template in `dir` was made from; `None`: it is unfinished or damaged.
///
/// # Errors
/// `template.json` exists and cannot be read.
pub fn template_image_hash(dir: &Path) -> io::Result<Option<String>> {
    let bytes = match fs::read(dir.join(MANIFEST_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let saved = serde_json::from_slice::<SavedTemplate<serde_json::Value>>(&bytes).ok();
    Ok(saved.and_then(|saved| Some(saved.manifest.get("image_hash")?.as_str()?.to_owned())))
}

/// Removes the templates that no machine or process has locked, except the one in `kept`; returns how many.
///
/// # Errors
/// The directory cannot be read, or a template cannot be removed.
pub fn remove_unused(templates_dir: &Path, kept: Option<&Path>) -> Result<usize, TemplateError> {
    let mut removed = 0;
    for entry in fs::read_dir(templates_dir).map_err(file_error(templates_dir))? {
        let path = entry.map_err(file_error(templates_dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Ok(state) = File::open(path.join(STATE_FILE)) else { continue };
        let is_unlocked = || rustix::fs::flock(&state, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        let is_key = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_key && kept != Some(path.as_path()) && is_unlocked() {
            fs::remove_dir_all(&path).map_err(file_error(&path))?;
            removed += 1;
        }
    }
    Ok(removed)
}
