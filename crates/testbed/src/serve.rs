//! `anteroom-testbed serve`, the process of a [`TestServer`](crate::TestServer): the unchanged controller with plain-process
//! machines. It is a separate process so that a test can kill it.
//!
//! It reads a [`LaunchConfig`] from standard input, so that no token is in a file or an argument. When it accepts requests, it
//! prints a [`ReadyMessage`] as one line of JSON. SIGTERM stops it as it stops `anteroom serve`. By files in the directory of its
//! configuration, a test makes it crash ([`crash_point`]), changes its clock ([`wall_clock`]) and makes its database read-only
//! ([`read_only_database`]).

pub mod crash_point;
pub mod read_only_database;
pub mod wall_clock;

use crate::plain_process::{InjectedFaults, PlainProcessSpecs};
use anteroom_controller::{
    config::ConfigSources, config_files::read_with_files, image::ImageInfo, limits::ServerLimits, random, unix_time,
};
use anteroom_server::{MachineEnvironment, Server, StateDir};
use anteroom_store::{CallerKind, NewCaller, Role, Sha256Hex};
use anteroom_wire::{
    CallerId, Secret,
    api::{Isolation, IsolationLevel},
};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// The configuration of the server process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchConfig {
    /// The server's configuration file.
    pub config: PathBuf,
    /// Its limits that are not settings.
    pub limits: ServerLimits,
    /// The tools in its machines, name → version.
    pub tool_versions: BTreeMap<String, String>,
    /// Operators' tokens.
    pub operators: Vec<Secret>,
    /// Backends' tokens.
    pub backends: Vec<Secret>,
    /// Whether it runs the demo's identity provider.
    pub demo: bool,
    /// How long a machine may take to become ready, milliseconds.
    pub ready_ms_max: u64,
    /// Faults of its machines.
    pub faults: InjectedFaults,
}

/// Printed once the server accepts requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadyMessage {
    /// The address that it listens on.
    pub address: SocketAddr,
}

/// Runs the server until SIGTERM.
///
/// # Errors
/// It cannot start.
pub async fn run_server(launch: LaunchConfig) -> anyhow::Result<()> {
    let server_dir = launch.config.parent().context("the configuration has no directory")?.to_owned();
    wall_clock::restore_offset(&server_dir);
    read_only_database::watch(&server_dir);
    let hangup = signal(SignalKind::hangup())?;
    let sources = ConfigSources { file: Some(launch.config.clone()), ..ConfigSources::default() };
    let config = read_with_files(&sources)?;
    let state = StateDir::lock(&config.state_dir)?;
    anteroom_controller::log::start_server(&config)?;
    anteroom_server::protect_process();
    let spec_source = PlainProcessSpecs {
        tool_versions: launch.tool_versions.clone(),
        faults: launch.faults,
        ..PlainProcessSpecs::with_built_programs()?
    };
    let environment = MachineEnvironment {
        image: ImageInfo {
            hash: spec_source.image_hash.clone(),
            built_at_unix_s: None,
            kernel_version: None,
            files: Vec::new(),
            tool_versions: launch.tool_versions,
            kind: "machines are plain processes".to_owned(),
            isolation: Isolation {
                level: IsolationLevel::Strong,
                detail: "strong, as if machines were virtual".to_owned(),
                layers_off: Vec::new(),
            },
            machine_memory_mib_max: 0,
        },
        keeper_program: spec_source.testbed.clone(),
        spec_source: Arc::new(spec_source),
        ready_ms_max: launch.ready_ms_max,
        write_observer: Some(Arc::new(crash_point::CrashInjector::new(&server_dir)?)),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let server = anteroom_server::start_server(config, launch.limits, &state, environment, launch.demo).await?;
    server.reload_on(hangup, sources);
    ensure_callers(&server, [(Role::Operator, launch.operators), (Role::Backend, launch.backends)]).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&ReadyMessage { address: server.address })?)?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = wall_clock::watch(&server_dir) => {}
    }
    server.stop().await;
    Ok(())
}

async fn ensure_callers(server: &Server, callers: [(Role, Vec<Secret>); 2]) -> anyhow::Result<()> {
    for (role, tokens) in callers {
        for token in tokens {
            ensure_caller(server, role.clone(), &token).await.context("a caller")?;
        }
    }
    Ok(())
}

/// Creates a caller with this token, unless an earlier server process has created it.
async fn ensure_caller(server: &Server, role: Role, token: &Secret) -> anyhow::Result<()> {
    let (store, now, hash) = (&server.app.store, unix_time::now_unix_ms(), Sha256Hex::of_secret(token));
    if store.find_caller_by_secret(CallerKind::ApiToken, &hash, now).await?.is_none() {
        let id = random::random_id(CallerId::from_parts);
        let name = format!("a test's {}", role.as_str());
        let caller = NewCaller::api_token(id, role, name, token, now);
        store.create_caller(&caller).await?;
    }
    Ok(())
}
