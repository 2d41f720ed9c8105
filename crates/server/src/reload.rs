//! Reads the configuration again while the server runs: on SIGHUP.

use crate::{app::App, demo, service_manager};
use anteroom_audit::{Action, Entry};
use anteroom_controller::{
    api_error::chain,
    config::{Config, ConfigErrors, ConfigSources, reload::Reload},
    config_files::read_with_files,
    log,
    providers::Providers,
    tls::NewCertificate,
    webhook::Receivers,
};
use tokio::signal::unix::Signal;

/// Reloads the configuration for each signal, until the server stops.
pub(crate) async fn reload_on_signal(app: App, sources: ConfigSources, mut signal: Signal) {
    while let Some(Some(())) = app.stop.run_until_cancelled(signal.recv()).await {
        service_manager::report_reload();
        reload(&app, &sources).await;
        service_manager::report_ready(&app);
    }
}

/// Reads the configuration and the files that it names again. If anything is wrong with it, all remains as it was.
async fn reload(app: &App, sources: &ConfigSources) {
    let prepared = match read(sources.clone()).await {
        Ok(config) => prepare(app, Reload::new(&app.config(), &config)),
        Err(ConfigErrors { errors, .. }) => Err(errors),
    };
    let Prepared { reload, providers, receivers, certificate } = match prepared {
        Ok(prepared) => prepared,
        Err(errors) => {
            for error in errors {
                tracing::error!(outcome = "config_not_reloaded", error, "configuration not reloaded");
            }
            return;
        }
    };
    let Reload { config, applied, need_restart } = reload;
    app.live_providers.set(providers);
    app.live_config.set(config);
    app.webhook_messages.replace(receivers);
    if let Some(tls) = &app.tls {
        tls.replace(certificate);
    }
    if let Some(peers) = app.peers.get() {
        peers.certificate_look.notify_one();
    }
    let applied = applied.join(", ");
    tracing::info!(outcome = "config_reloaded", settings = applied, "configuration reloaded");
    for setting in need_restart {
        let remedy = format!("restart to change {setting}");
        tracing::warn!(outcome = "config_needs_restart", setting, remedy, "changed setting not applied");
    }
    app.audit.record(Entry::new(Action::ConfigReload).with_detail("settings_changed", applied)).await;
}

async fn read(sources: ConfigSources) -> Result<Config, ConfigErrors> {
    let path = sources.file.clone();
    match tokio::task::spawn_blocking(move || read_with_files(&sources)).await {
        Ok(read) => read,
        Err(error) => Err(ConfigErrors { path, errors: vec![error.to_string()] }),
    }
}

/// What replaces the former state; nothing of it can fail any more.
struct Prepared {
    reload: Reload,
    providers: Providers,
    receivers: Receivers,
    /// `None`: it is not of files.
    certificate: Option<NewCertificate>,
}

fn prepare(app: &App, reload: Reload) -> Result<Prepared, Vec<String>> {
    let mut providers = Providers::load(&reload.config)?;
    if app.demo_pages.is_some() {
        demo::add_pages(&mut providers, app.auth.addresses.base_url()).map_err(|error| vec![format!("{error:#}")])?;
    }
    let receivers = Receivers::open(&reload.config, &app.limits.webhook).map_err(|error| vec![chain(&error)])?;
    let certificate =
        app.tls.as_ref().map(|tls| tls.read()).transpose().map_err(|error| vec![chain(&error)])?.flatten();
    log::change_level(&reload.config.log).map_err(|error| vec![chain(&error)])?;
    Ok(Prepared { reload, providers, receivers, certificate })
}
