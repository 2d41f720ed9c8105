//! What this host says about itself when another one asks.

use crate::app::App;
use anteroom_wire::hosts::HostStatus;

/// What this host says.
pub(crate) fn own_status(app: &App) -> HostStatus {
    HostStatus {
        machines: app.machines.count() as u64,
        machines_max: u64::from(app.config().machines.machines_max),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
