//! The identity provider of the demo tool.

use anteroom_controller::{api_error::chain, providers::Providers};
use anteroom_demo::identity_provider::{DEMO_HOST, DEMO_ISSUER, DEMO_PORT, DemoIdp, DemoLimits};
use anteroom_egress::{HostName, HostOverrides};
use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The path below which people's own browsers reach the demo's pages at this server.
pub(crate) const DEMO_PATH: &str = "/demo";

/// Lets people sign in to the demo on pages of this server.
///
/// # Errors
/// `base_url` is not an address.
pub(crate) fn add_pages(providers: &mut Providers, base_url: &str) -> anyhow::Result<()> {
    providers.add_sign_in_host(&"demo".parse()?, base_url.to_owned().try_into()?);
    Ok(())
}

/// Starts the identity provider and lets the egress gate reach it. Returns its pages, for people's own browsers below
/// `base_url` + [`DEMO_PATH`].
///
/// # Errors
/// No port is free.
pub(crate) async fn start(
    serving: &TaskTracker,
    stop: &CancellationToken,
    overrides: &mut HostOverrides,
    providers: &mut Providers,
    base_url: &str,
) -> anyhow::Result<Router> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the demo's identity provider")?;
    let address = listener.local_addr()?;
    let host = HostName::parse(DEMO_HOST).map_err(|error| anyhow::anyhow!("{error}"))?;
    overrides.insert(host, DEMO_PORT, address);
    add_pages(providers, base_url)?;
    let idp = DemoIdp::new(DEMO_ISSUER, DemoLimits::default()).with_public_url(format!("{base_url}{DEMO_PATH}"));
    let (pages, stop) = (idp.router(), stop.clone());
    let router = pages.clone();
    serving.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(outcome = "demo_failed", error = %chain(&error), "demo identity provider failed");
        }
    });
    Ok(pages)
}
