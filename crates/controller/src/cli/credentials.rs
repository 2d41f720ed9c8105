//! `anteroom credentials …`: what is stored, whether it is good, and what can be done with it.

use super::{
    client::{Client, ClientError},
    credential_files::Place,
    login::lease_to,
    print_line,
    sign_in::{SignedIn, sign_in, until_over},
    watch::{self, Told},
};
use crate::{config::Config, session::use_credential::NOT_CONCLUSIVE};
use anteroom_wire::{
    CredentialId,
    agent::UsePurpose,
    api::{
        CredentialHealth, CredentialList, CredentialMeta, ProviderList, SessionView, StartRequest, StartResponse, Status,
        UseRequest,
    },
};
use anyhow::Context;
use clap::Subcommand;
use comfy_table::{Table, presets};
use http::Method;
use std::process::ExitCode;

/// `check` ends with this when the tool could not be asked.
const NOT_ASKED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum CredentialsCommand {
    /// All stored credentials, the newest first.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One credential: its files, how it is, when it was asked for last. Never its bytes.
    Show {
        /// Its id.
        credential: CredentialId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the tool itself, in a fresh machine, whether it is signed in. Ends with 0 when it is, 1 when not, 2 when it could not be asked.
    Check {
        /// Its id.
        credential: CredentialId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign out at the provider with the tool's own command. The stored credential stays and is worth nothing then.
    Logout {
        /// Its id.
        credential: CredentialId,
    },
    /// Delete the stored bytes for good. At the provider the credential stays good, unless the tool signs out (--logout).
    Delete {
        /// Its id.
        credential: CredentialId,
        /// Sign out at the provider first; if that fails, nothing is deleted.
        #[arg(long)]
        logout: bool,
        /// With --logout: delete even so.
        #[arg(long, requires = "logout")]
        force: bool,
    },
    /// Write the credential's files; the lease is on the record. One that is handed out once is deleted on the server with that.
    Lease {
        /// Its id.
        credential: CredentialId,
        #[command(flatten)]
        place: Place,
    },
    /// Sign in again: the credential keeps its id.
    Renew {
        /// Its id.
        credential: CredentialId,
        /// Print the link and do not open a browser.
        #[arg(long)]
        no_open: bool,
    },
}

pub(super) async fn run(config: &Config, command: CredentialsCommand) -> anyhow::Result<ExitCode> {
    let client = Client::new(&config.state_dir);
    match command {
        CredentialsCommand::List { json } => list(&client, json).await,
        CredentialsCommand::Show { credential, json } => show(&client, &credential, json).await,
        CredentialsCommand::Check { credential, json } => check(&client, &credential, json).await,
        CredentialsCommand::Logout { credential } => {
            logout(&client, &credential).await?;
            print_line("Signed out at the provider. The stored credential is worth nothing now; delete it, or sign in again.");
            Ok(ExitCode::SUCCESS)
        }
        CredentialsCommand::Delete { credential, logout, force } => delete(&client, &credential, logout, force).await,
        CredentialsCommand::Lease { credential, place } => {
            let written = lease_to(&client, &read(&client, &credential).await?, &place).await?;
            print_line(format_args!("Written: {written}"));
            Ok(ExitCode::SUCCESS)
        }
        CredentialsCommand::Renew { credential, no_open } => renew(&client, &credential, no_open).await,
    }
}

async fn list(client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let list: CredentialList = client.get("/api/credentials").await?;
    if json {
        print_line(serde_json::to_string_pretty(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["credential", "tool", "person", "health", "checked", "stored"]);
    for meta in &list.credentials {
        table.add_row([
            meta.id.to_string(),
            meta.provider.to_string(),
            meta.user_id.clone().unwrap_or_default(),
            meta.health.as_str().to_owned(),
            meta.checked_at.clone(),
            meta.stored_at.clone(),
        ]);
    }
    print_line(table);
    Ok(ExitCode::SUCCESS)
}

async fn read(client: &Client, id: &CredentialId) -> Result<CredentialMeta, ClientError> {
    client.get(&format!("/api/credentials/{id}")).await
}

async fn show(client: &Client, id: &CredentialId, json: bool) -> anyhow::Result<ExitCode> {
    let meta = read(client, id).await?;
    if json {
        print_line(serde_json::to_string_pretty(&meta)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("credential", meta.id.to_string());
    row("tool", meta.provider.to_string());
    row("person", meta.user_id.clone().unwrap_or_default());
    row("health", format!("{}: {}", meta.health.as_str(), plain(&meta.health_detail)));
    row("checked", meta.checked_at.clone());
    row("stored", meta.stored_at.clone());
    row("session", meta.session.to_string());
    row("policy", meta.policy.sentence().to_owned());
    if let Some(at) = &meta.deliver_until {
        row("waits until", at.clone());
    }
    if let Some(at) = &meta.expires_at {
        row("ends", at.clone());
    }
    for file in &meta.files {
        row("file", format!("{} ({} bytes, {:o})", file.path, file.bytes, file.mode));
    }
    print_line(table);
    Ok(ExitCode::SUCCESS)
}

/// What a tool said must not steer this terminal.
fn plain(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A session that uses the credential, from its start to its end.
async fn used(client: &Client, id: &CredentialId, purpose: UsePurpose) -> anyhow::Result<SessionView> {
    let request = UseRequest { purpose, argv: Vec::new() };
    let started: StartResponse = client.call(Method::POST, &format!("/api/credentials/{id}/use"), Some(&request)).await?;
    until_over(client, &started.session.id).await?.context("cancelled")
}

/// Why a use came to nothing.
fn why_not(view: &SessionView) -> String {
    let why = view.reason.as_ref().map_or("its end is not on record", |reason| &reason.sentence);
    format!("{why} See: anteroom diagnose {}", view.id)
}

async fn check(client: &Client, id: &CredentialId, json: bool) -> anyhow::Result<ExitCode> {
    let request = UseRequest { purpose: UsePurpose::Check, argv: Vec::new() };
    let asked = async {
        let started: StartResponse = client.call(Method::POST, &format!("/api/credentials/{id}/use"), Some(&request)).await?;
        let (mut asked, mut silent) = (false, None);
        let view = watch::follow(client, &started.session.id, |told| match told {
            Told::Entry(entry) if entry.kind == "credential_checked" => asked = true,
            Told::Entry(entry) if entry.kind == NOT_CONCLUSIVE => silent = Some(entry.sentence),
            Told::Entry(_) | Told::View(_) => {}
        });
        let view = view.await?;
        Ok::<_, ClientError>((view, asked, silent))
    };
    match asked.await {
        Ok((_, _, Some(why))) => return Ok(not_asked(&why)),
        Ok((view, true, None)) if view.status == Status::Completed => {}
        Ok((view, ..)) => return Ok(not_asked(&why_not(&view))),
        Err(error) => return Ok(not_asked(&error.to_string())),
    }
    let meta = read(client, id).await?;
    if json {
        print_line(serde_json::to_string_pretty(&meta)?);
    } else {
        print_line(format_args!("{}: {}", meta.health.as_str(), plain(&meta.health_detail)));
    }
    let is_good = meta.health != CredentialHealth::NeedsAuth;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "the command's last words")]
fn not_asked(why: &str) -> ExitCode {
    eprintln!("anteroom: the tool could not be asked: {why}");
    ExitCode::from(NOT_ASKED)
}

/// Signs out at the provider.
async fn logout(client: &Client, id: &CredentialId) -> anyhow::Result<()> {
    let view = used(client, id, UsePurpose::Logout).await?;
    match view.credential_use.as_ref().and_then(|used| used.exit_code) {
        Some(0) => Ok(()),
        Some(code) => anyhow::bail!("the tool's sign-out ended with {code}. See: anteroom diagnose {}", view.id),
        None => anyhow::bail!("the sign-out did not run to its end: {}", why_not(&view)),
    }
}

async fn delete(client: &Client, id: &CredentialId, at_provider: bool, force: bool) -> anyhow::Result<ExitCode> {
    if at_provider && let Err(error) = logout(client, id).await {
        anyhow::ensure!(
            force,
            "{error:#}\nThe credential was kept: it may still be good at the provider. --force deletes it even so."
        );
        print_line(format_args!("Not signed out at the provider: {error:#}"));
    }
    let may_be_good = if at_provider { String::new() } else { still_good(client, id).await };
    let () = client.call(Method::DELETE, &format!("/api/credentials/{id}"), None::<&()>).await?;
    print_line(format_args!("{id} was deleted.{may_be_good}"));
    Ok(ExitCode::SUCCESS)
}

/// What deleting alone leaves as it is.
async fn still_good(client: &Client, id: &CredentialId) -> String {
    let Ok(meta) = read(client, id).await else { return String::new() };
    let list = client.get::<ProviderList>("/api/providers").await.map(|list| list.providers).unwrap_or_default();
    let can = list.into_iter().any(|it| it.id == meta.provider && it.can_sign_out);
    let with = if can { "; --logout signs out there first" } else { "" };
    format!(" It may still be good at the provider{with}.")
}

async fn renew(client: &Client, id: &CredentialId, no_open: bool) -> anyhow::Result<ExitCode> {
    let meta = read(client, id).await?;
    let request = StartRequest {
        provider: meta.provider.to_string(),
        user_id: meta.user_id,
        return_url: None,
        idempotency_key: None,
        machine: None,
        method: None,
        renews: Some(id.to_string()),
    };
    let SignedIn::Yes(renewed) = sign_in(client, &request, no_open).await? else {
        return Ok(ExitCode::FAILURE);
    };
    print_line(format_args!("Signed in again. The credential is still {}.", renewed.id));
    Ok(ExitCode::SUCCESS)
}
