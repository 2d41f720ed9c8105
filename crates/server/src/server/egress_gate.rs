//! The egress gate of all machines of this host.

use anteroom_controller::{cluster::Cluster, config::Config, egress};
use anteroom_egress::{ActCheck, EgressGate, HostOverrides};
use anyhow::Context;
use std::sync::Arc;

/// Opens the gate as configured. It asks before each connection and for each chunk whether this host may act.
pub(super) fn open_egress_gate(
    config: &Config,
    overrides: HostOverrides,
    cluster: &Arc<Cluster>,
) -> anyhow::Result<EgressGate> {
    let cluster = Arc::clone(cluster);
    let gate = egress::open_gate(config, overrides).context("the egress gate")?;
    let gate = gate.with_act_check(ActCheck::new(move || cluster.may_act()));
    if let Some(variable) = egress::unused_proxy_variable(config) {
        tracing::warn!(
            outcome = "proxy_variable_unused",
            variable,
            "machines connect without the proxy of the environment: set egress.proxy.from_environment or egress.proxy.url"
        );
    }
    Ok(gate)
}
