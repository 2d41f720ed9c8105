//! The server's database: it is tried before machines are prepared, and opened after that.

use anteroom_controller::{config::Config, keys, limits::ServerLimits};
use anteroom_store::{Address, PostgresDatabase, Store, StoreSettings, WriteObserver};
use anyhow::Context;
use std::sync::Arc;

/// Requires what costs nothing to find out before machines are prepared, which takes minutes at the first start: a database of PostgreSQL,
/// and the keys with which it was used.
///
/// # Errors
/// The database or the keys cannot be used.
pub async fn require_database(config: &Config) -> anyhow::Result<()> {
    let Address::Postgres(address) = config.database_address()? else { return Ok(()) };
    match PostgresDatabase::known_keys(&address).await.context("the database")? {
        Some(known) => keys::require_known_keys(config, &known).context("the keys"),
        None => Ok(()),
    }
}

/// Opens it for this server.
pub(crate) async fn open_store(
    config: &Config,
    limits: &ServerLimits,
    observer: Arc<dyn WriteObserver>,
) -> anyhow::Result<Store> {
    let settings = StoreSettings {
        busy_ms_max: limits.store.busy_ms_max,
        is_server: true,
        is_host_of_cluster: config.cluster.is_set(),
        ..StoreSettings::default()
    };
    let store = Store::open_observed(&config.database_address()?, settings, observer).await.context("the database")?;
    tracing::info!(outcome = "database_opened", address = %store.address(), database = %store.database(), "database opened");
    Ok(store)
}
