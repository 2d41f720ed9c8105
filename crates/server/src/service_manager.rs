//! Reports to the service manager what the server does (`sd_notify(3)`). Does nothing where `$NOTIFY_SOCKET` is not set.

use crate::app::App;
use sd_notify::NotifyState;
use std::{io::IsTerminal, time::Duration};

/// How often the line of the state is compared with the last one.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

fn has_service_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Whether a service manager, or the manager of a container (`$container`, which the OCI image sets), keeps the output in a log.
pub fn output_is_kept() -> bool {
    has_service_manager() || std::env::var_os("container").is_some() && !std::io::stdout().is_terminal()
}

/// Reports what the server does before it serves.
pub fn report_start(what: &str) {
    send(&[NotifyState::Status(what)]);
}

/// Reports that requests are answered; at the end of a reload, too.
pub(crate) fn report_ready(app: &App) {
    send(&[NotifyState::Ready, NotifyState::Status(&status(app))]);
}

/// Reports that the configuration is being read again; [`report_ready`] ends it.
pub(crate) fn report_reload() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(outcome = "not_notified", %error, "service manager not notified"),
    }
}

/// Reports that the server stops.
pub(crate) fn report_stop() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping; machines keep running")]);
}

/// Reports changes of the state, and that the server is alive, until it stops.
pub(crate) async fn keep_informed(app: App) {
    if !has_service_manager() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Half of the watchdog's time (sd_watchdog_enabled(3)).
    let interval = watchdog.map_or(STATUS_INTERVAL, |limit| STATUS_INTERVAL.min(limit / 2));
    let mut last = status(&app);
    while app.stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        if watchdog.is_some() {
            send(&[NotifyState::Watchdog]);
        }
        let now = status(&app);
        if now != last {
            send(&[NotifyState::Status(&now)]);
            last = now;
        }
    }
}

fn status(app: &App) -> String {
    format!(
        "serving {}; {} of {} machines, {} sessions wait for one",
        app.auth.addresses.base_url(),
        app.machines.count(),
        app.config().machines.machines_max,
        app.queue.waiting_count()
    )
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(outcome = "not_notified", %error, "service manager not notified");
    }
}
