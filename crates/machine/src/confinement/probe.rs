//! Finds out which layers this host has, without a machine: a keeper confines a program that waits.

use super::{
    layers::{Layer, LayerStatus},
    spawn::{Execution, SpawnError, spawn},
};
use crate::spec::ResourceLimits;
use anteroom_wire::chain;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

/// The argument with which a keeper probes the layers instead of starting a machine.
pub(crate) const PROBE_ARGUMENT: &str = "--probe-layers";
/// The program that is confined; all systems have one of them.
const PROGRAMS: [&str; 2] = ["/usr/bin/cat", "/bin/cat"];
/// How long a probe may take, milliseconds.
const PROBE_MS_MAX: u64 = 10_000;
const MIB: u64 = 1024 * 1024;

/// Why the layers could not be probed, or why no machine can be confined on this host.
#[derive(Debug, thiserror::Error)]
pub enum ProbeLayersError {
    /// The keeper's program cannot be run.
    #[error("{program:?} cannot be run")]
    NotRun {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The keeper's answer cannot be parsed.
    #[error("{program:?} did not report the layers")]
    NoReport {
        /// The program.
        program: PathBuf,
        /// The error.
        #[source]
        source: serde_json::Error,
    },
    /// A layer that a machine needs on every host cannot be applied, so no machine starts.
    #[error("a machine cannot be confined on this host, so none starts: {error}")]
    NotConfined {
        /// The step and its error.
        error: String,
    },
}

/// What a probing keeper prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProbeReport {
    Applied(BTreeMap<Layer, LayerStatus>),
    Failed(String),
}

/// Returns which layers confine the machines of this host, and for each layer that is off, the cause and how to switch it on.
/// `keeper_program`: as [`crate::MachinesSettings::keeper_program`]. Takes some milliseconds.
///
/// # Errors
/// See [`ProbeLayersError`].
pub async fn probe_layers(keeper_program: &Path) -> Result<BTreeMap<Layer, LayerStatus>, ProbeLayersError> {
    let program = || keeper_program.to_owned();
    let output = tokio::process::Command::new(keeper_program)
        .args(["keeper", PROBE_ARGUMENT])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_millis(PROBE_MS_MAX), output)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| ProbeLayersError::NotRun { program: program(), source })?;
    let report = serde_json::from_slice(&output.stdout)
        .map_err(|source| ProbeLayersError::NoReport { program: program(), source })?;
    match report {
        ProbeReport::Applied(layers) => Ok(layers),
        ProbeReport::Failed(error) => Err(ProbeLayersError::NotConfined { error }),
    }
}

/// Confines a program, kills it and prints the layers. Call it first in a new process, before any thread starts.
pub(crate) fn print_layers() -> ExitCode {
    let report = match confine_program() {
        Ok(layers) => ProbeReport::Applied(layers),
        Err(error) => ProbeReport::Failed(chain(&error)),
    };
    let Ok(text) = serde_json::to_vec(&report) else { return ExitCode::FAILURE };
    match io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confine_program() -> Result<BTreeMap<Layer, LayerStatus>, SpawnError> {
    let path = PROGRAMS.into_iter().find(|program| Path::new(program).exists()).unwrap_or(PROGRAMS[0]);
    let text = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
    let failed = |step: &str| {
        let step = step.to_owned();
        move |source| SpawnError::Step { step, source }
    };
    // The program reads from a pipe into which nothing is written, so that it runs until it is killed.
    let (input, _writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(io::Error::from)
        .map_err(failed("a pipe cannot be made"))?;
    let null = |number| Ok((File::options().write(true).open("/dev/null")?.into(), number));
    let outputs = (1..3).map(null).collect::<io::Result<Vec<_>>>().map_err(failed("/dev/null cannot be opened"))?;
    let fds = std::iter::once((input, 0)).chain(outputs).collect();
    let limits = ResourceLimits {
        address_space_bytes_max: 64 * MIB,
        memory_bytes_max: 64 * MIB,
        file_bytes_max: 0,
        threads_max: 1,
        open_files_max: 16,
        cpus_max: 1,
    };
    let program = File::open(path).map_err(SpawnError::NotExecuted)?;
    let execution = Execution {
        program: program.into(),
        libraries: true,
        args: vec![text(path)],
        env: Vec::new(),
        fds,
        files: Vec::new(),
        listeners: Vec::new(),
        limits,
        number: std::process::id(),
    };
    let mut confined = spawn(execution)?;
    let sealed = confined.seal();
    let layers = std::mem::take(&mut confined.layers);
    confined.kill();
    sealed.map_err(failed("the root directory cannot be emptied"))?;
    Ok(layers)
}
