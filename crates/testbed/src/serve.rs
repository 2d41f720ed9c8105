//! The server of a [`TestServer`](crate::TestServer): the controller as it is, with plain machines, in a process of its own, so that
//! a test can kill it.
//!
//! What it shall be comes as one JSON line on standard input (tokens stand in no file and no argument); when it answers it
//! prints one JSON line; SIGTERM stops it as it stops `anteroom serve`. Files in the world's directory, where its configuration
//! lies, make it crash ([`crash`]), set its clock ([`clock`](mod@clock)) and take its database's writes away ([`read_only`]).

pub mod clock;
pub mod crash;
pub mod read_only;

use crate::{PlainProcess, plain_process::Faults};
use anteroom_controller::{
    app::ImageFacts,
    clock as product_clock,
    config::Config,
    random,
    server::{self, Foundation, Server, StateDir},
};
use anteroom_store::{NewCaller, Role, Sha256Hex};
use anteroom_wire::{CallerId, Secret};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// What the server shall be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its configuration file.
    pub config: PathBuf,
    /// Tools and versions in its machines.
    pub clis: BTreeMap<String, String>,
    /// Operators' tokens.
    pub operators: Vec<Secret>,
    /// Backends' tokens.
    pub backends: Vec<Secret>,
    /// Whether it runs the demo's identity provider.
    pub demo: bool,
    /// How long a machine may take to become ready, milliseconds.
    pub ready_ms_max: u64,
    /// What is wrong with its machines.
    pub faults: Faults,
}

/// What it says when it answers requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
}

/// Serves until SIGTERM.
///
/// # Errors
/// It cannot start.
pub async fn serve(order: Order) -> anyhow::Result<()> {
    let world = order.config.parent().context("the configuration has no directory")?.to_owned();
    clock::resume(&world);
    read_only::obey(&world);
    let config = Config::read(&order.config)?;
    let state = StateDir::take(&config.state_dir)?;
    anteroom_controller::log::serve(&config).map_err(anyhow::Error::msg)?;
    let spec_source =
        PlainProcess { clis: order.clis.clone(), faults: order.faults, ..PlainProcess::with_built_programs()? };
    let foundation = Foundation {
        image: ImageFacts {
            hash: spec_source.image_hash.clone(),
            clis: order.clis,
            accelerator: "plain processes".to_owned(),
            emulated: false,
        },
        keeper_program: spec_source.testbed.clone(),
        spec_source: Arc::new(spec_source),
        ready_ms_max: order.ready_ms_max,
        write_observer: Some(Arc::new(crash::CrashInjector::new(&world)?)),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let server = server::start(config, &state, foundation, order.demo).await?;
    for (role, tokens) in [(Role::Operator, order.operators), (Role::Backend, order.backends)] {
        for token in tokens {
            let_in(&server, role.clone(), &token).await.context("a caller")?;
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&Serving { address: server.address })?)?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = clock::obey(&world) => {}
    }
    server.stop().await;
    Ok(())
}

/// Makes the token good, unless it is already.
async fn let_in(server: &Server, role: Role, token: &Secret) -> anyhow::Result<()> {
    let (store, now, hash) = (&server.app.store, product_clock::now(), Sha256Hex::of_secret(token));
    if store.caller_by_token(&hash, now).await?.is_none() {
        let id = random::id(CallerId::from_parts);
        let name = format!("a test's {}", role.as_str());
        let caller = NewCaller { id, role, name, token: hash, created_at_ms: now, expires_at_ms: None };
        store.create_caller(&caller).await?;
    }
    Ok(())
}
