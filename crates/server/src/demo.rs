//! The identity provider of the demo tool.

use anteroom_controller::api_error::chain;
use anteroom_demo::identity_provider::{DEMO_HOST, DEMO_PORT, DemoIdp};
use anteroom_egress::{HostName, HostOverrides};
use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Starts the identity provider and lets the egress gate reach it.
///
/// # Errors
/// No port is free.
pub(crate) async fn start(
    serving: &TaskTracker,
    stop: &CancellationToken,
    overrides: &mut HostOverrides,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the demo's identity provider")?;
    let address = listener.local_addr()?;
    let host = HostName::parse(DEMO_HOST).map_err(|error| anyhow::anyhow!("{error}"))?;
    overrides.insert(host, DEMO_PORT, address);
    let stop = stop.clone();
    serving.spawn(async move {
        if let Err(error) = DemoIdp::default().serve(listener, stop).await {
            tracing::error!(outcome = "demo_failed", error = %chain(&error), "demo identity provider failed");
        }
    });
    Ok(())
}
