//! `anteroom login PROVIDER`: starts a session on the running server, shows how it goes, hands the credential over.

use super::{client::Client, say};
use crate::config::Config;
use anteroom_wire::{
    api::{Lease, SessionView, StartRequest, Started, Status, TimelineEntry},
    provider::Lane,
};
use anyhow::Context;
use http::Method;
use std::{
    io::{IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{ExitCode, Stdio},
};

pub(super) async fn run(
    config: &Config,
    provider: &str,
    out: Option<&Path>,
    no_open: bool,
    machine: Option<String>,
) -> anyhow::Result<ExitCode> {
    if let Some(out) = out {
        writable(out)?;
    }
    let client = Client::new(&config.state_dir);
    let request = StartRequest {
        provider: provider.to_owned(),
        user_id: None,
        return_url: None,
        idempotency_key: None,
        machine,
        method: None,
        renews: None,
    };
    let started: Started = client.call(Method::POST, "/api/auth/start", Some(&request)).await?;
    say(format_args!("Sign in to {} here:\n\n  {}\n", started.session.provider_name, started.viewer_url));
    if !no_open && std::io::stdout().is_terminal() {
        open_browser(&started.viewer_url);
    }
    let path = format!("/api/auth/session/{}", started.session.id);
    let mut shown = Shown::default();
    let events = format!("{path}/events");
    let follow = client.follow(&events, |name, data| shown.take(name, data));
    tokio::select! {
        followed = follow => followed?,
        _ = tokio::signal::ctrl_c() => {
            let _: SessionView = client.call(Method::POST, &format!("{path}/cancel"), None::<&()>).await?;
            say("Cancelled.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let view: SessionView = client.get(&path).await?;
    let (Status::Completed, Some(credential)) = (view.status, &view.credential) else {
        let why = view.reason.map_or_else(String::new, |reason| reason.sentence);
        anyhow::bail!("not signed in: {why} See: anteroom sessions {}", view.id);
    };
    match out {
        Some(out) => {
            let lease: Lease =
                client.call(Method::POST, &format!("/api/credentials/{}/lease", credential.id), None::<&()>).await?;
            let file = lease.files.first().context("the credential has no file")?;
            write(out, file.content.expose())?;
            say(format_args!("Signed in. The credential was written to {} (0600).", out.display()));
        }
        None => say(format_args!("Signed in. The credential is stored as {}.", credential.id)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is new and knows when it is over.
#[derive(Default)]
struct Shown {
    code: Option<String>,
    url: Option<String>,
}

impl Shown {
    fn take(&mut self, name: &str, data: &str) -> bool {
        if name == "timeline" {
            if let Ok(entry) = serde_json::from_str::<TimelineEntry>(data) {
                say(format_args!("  {}", entry.sentence));
            }
            return true;
        }
        let Ok(view) = serde_json::from_str::<SessionView>(data) else { return true };
        let by_hand = view.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode));
        if by_hand && view.sign_in.url != self.url {
            self.url.clone_from(&view.sign_in.url);
            if let Some(url) = &self.url {
                say(format_args!("  → open {url}"));
            }
        }
        if view.sign_in.device_code != self.code {
            self.code.clone_from(&view.sign_in.device_code);
            if let Some(code) = &self.code {
                say(format_args!("  → enter the code {code}"));
            }
        }
        !view.status.is_terminal()
    }
}

/// Finds out before anybody signs in whether the file could be written.
fn writable(out: &Path) -> anyhow::Result<()> {
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    tempfile::Builder::new()
        .prefix(".anteroom-")
        .tempfile_in(dir)
        .map(|_| ())
        .with_context(|| format!("{} cannot be written", dir.display()))
}

/// Whole or not at all, readable by its owner alone.
fn write(out: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let temporary = dir.join(format!(".anteroom-{}", crate::random::hex(&crate::random::bytes::<8>())));
    let written = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, out));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{} cannot be written; the credential is stored on the server", out.display()))
}

#[expect(clippy::disallowed_methods, reason = "the person's own browser, started for them by their own command")]
fn open_browser(url: &str) {
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
