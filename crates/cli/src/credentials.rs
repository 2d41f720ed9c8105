//! `anteroom credentials …`: lists, checks, leases, renews and deletes stored credentials.

use super::{
    client::{ApiClient, ClientError},
    confirm,
    credential_files::OutputPath,
    login::lease_to_files,
    one_line,
    output::print_json,
    print_error_line, print_line,
    progress::Wait,
    sign_in::{LinkArguments, follow_to_end, sign_in},
    stop::{self, Run},
    table::Table,
    watch::{self, SessionUpdate},
    when::when,
};
use anteroom_wire::{
    CredentialId, TimelineKind,
    agent::UsePurpose,
    api::{
        CredentialHealth, CredentialList, CredentialMeta, CredentialUseRequest, ProviderList, SessionStatus,
        SessionView, StartRequest,
    },
};
use clap::Subcommand;
use http::Method;
use std::process::ExitCode;

/// Exit code of `check` if the tool's status command could not be run.
const NOT_CHECKED: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum CredentialsCommand {
    /// List stored credentials, the newest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one credential: files, health, last check. Its content is not printed.
    Show {
        /// The credential's id.
        credential: CredentialId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the tool's status command in a new machine to check that the credential is accepted.
    ///
    /// Exits with 0 if it is accepted, 1 if it needs a new sign-in, 2 if the check could not be made.
    Check {
        /// The credential's id.
        credential: CredentialId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign out at the provider with the tool's command. The stored credential remains but is no longer valid.
    ///
    /// Some tools sign out the whole account, also on other computers: `credentials show` says so, and this command before it begins.
    Logout {
        /// The credential's id.
        credential: CredentialId,
        /// Do not ask. Without a terminal to ask at it is required.
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete the stored credential permanently. Without --logout it remains valid at the provider.
    Delete {
        /// The credential's id.
        credential: CredentialId,
        /// Sign out at the provider first. If that fails, nothing is deleted.
        #[arg(long)]
        logout: bool,
        /// With --logout: delete even if the sign-out fails.
        #[arg(long, requires = "logout")]
        force: bool,
        /// Do not ask. Without a terminal to ask at it is required.
        #[arg(long, short)]
        yes: bool,
    },
    /// Lease a credential: write its files. The lease is recorded; a deliver-once credential is deleted from the server.
    Lease {
        /// The credential's id.
        credential: CredentialId,
        #[command(flatten)]
        output: OutputPath,
        /// Print the names of the written files as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign in again to renew a credential. It keeps its id.
    Renew {
        /// The credential's id.
        credential: CredentialId,
        #[command(flatten)]
        show: LinkArguments,
    },
}

pub(super) async fn run(client: &ApiClient, command: CredentialsCommand) -> anyhow::Result<ExitCode> {
    match command {
        CredentialsCommand::List { json } => list(client, json).await,
        CredentialsCommand::Show { credential, json } => show(client, &credential, json).await,
        CredentialsCommand::Check { credential, json } => check(client, &credential, json).await,
        CredentialsCommand::Logout { credential, yes } => {
            if !yes {
                let question = question("Sign out", &credential, &read(client, &credential).await?);
                confirm::require(&format!("{question} at the provider?"), yes).await?;
            }
            if let Run::Stopped(code) = logout(client, &credential).await? {
                return Ok(ExitCode::from(code));
            }
            print_line("Signed out at the provider. The stored credential is no longer valid; delete it or renew it.");
            Ok(ExitCode::SUCCESS)
        }
        CredentialsCommand::Delete { credential, logout, force, yes } => {
            if !yes {
                let question = question("Delete", &credential, &read(client, &credential).await?);
                confirm::require(&format!("{question} for good?"), yes).await?;
            }
            delete(client, &credential, logout, force).await
        }
        CredentialsCommand::Lease { credential, output, json } => {
            let written = lease_to_files(client, &read(client, &credential).await?, &output).await?;
            if json {
                print_json(&serde_json::json!({ "credential": credential, "files": written }))?;
            } else {
                print_line(format_args!("Wrote {}", written.join(", ")));
            }
            Ok(ExitCode::SUCCESS)
        }
        CredentialsCommand::Renew { credential, show } => renew(client, &credential, show).await,
    }
}

/// The beginning of a question about a credential.
fn question(what: &str, id: &CredentialId, meta: &CredentialMeta) -> String {
    let account = meta.account.as_ref().map_or_else(String::new, |account| format!(" of {account}"));
    format!("{what} {id} ({}{account})", meta.provider)
}

async fn list(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let next_cursor = |page: &CredentialList| page.next_cursor.as_ref().map(ToString::to_string);
    let pages = client.get_pages("/api/credentials?count=true", next_cursor, |_| false).await?;
    let total = pages.first().and_then(|page| page.total);
    let credentials = pages.into_iter().flat_map(|page| page.credentials).collect();
    let list = CredentialList { credentials, next_cursor: None, total };
    if json {
        print_line(serde_json::to_string_pretty(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["credential", "tool", "account", "user", "health", "checked", "stored"]);
    for meta in &list.credentials {
        table.add_row([
            meta.id.to_string(),
            meta.provider.to_string(),
            meta.account.clone().unwrap_or_default(),
            meta.user_id.clone().unwrap_or_default(),
            meta.health.as_str().to_owned(),
            when(&meta.checked_at),
            when(&meta.stored_at),
        ]);
    }
    print_line(table);
    Ok(ExitCode::SUCCESS)
}

async fn read(client: &ApiClient, id: &CredentialId) -> Result<CredentialMeta, ClientError> {
    client.get(&format!("/api/credentials/{id}")).await
}

async fn show(client: &ApiClient, id: &CredentialId, json: bool) -> anyhow::Result<ExitCode> {
    let meta = read(client, id).await?;
    if json {
        print_line(serde_json::to_string_pretty(&meta)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::of_values();
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("credential", meta.id.to_string());
    row("tool", meta.provider.to_string());
    if let Some(account) = &meta.account {
        row("account", account.clone());
    }
    if let Some(user) = &meta.user_id {
        row("user", user.clone());
    }
    row("health", format!("{}: {}", meta.health.as_str(), one_line(&meta.health_detail)));
    row("checked", when(&meta.checked_at));
    row("stored", when(&meta.stored_at));
    row("session", meta.session.to_string());
    row("policy", meta.storage_policy.sentence().to_owned());
    if let Some(at) = &meta.deliver_until {
        row("kept until", when(at));
    }
    if let Some(at) = &meta.expires_at {
        row("expires", when(at));
    }
    if meta.refreshable {
        row("uses", "take turns: the tool may replace its tokens".to_owned());
    }
    if let Some(note) = &meta.sign_out_note {
        row("sign-out", note.clone());
    }
    for file in &meta.files {
        row("file", format!("{} ({} bytes, {:o})", file.path, file.bytes, file.mode));
    }
    print_line(table);
    Ok(ExitCode::SUCCESS)
}

/// Starts a session that uses the credential and waits for its end.
async fn run_use(client: &ApiClient, id: &CredentialId, purpose: UsePurpose) -> anyhow::Result<Run<SessionView>> {
    let request = CredentialUseRequest { purpose, argv: Vec::new(), attached: false };
    let path = format!("/api/credentials/{id}/use");
    stop::run_session(client, &path, &request, async |started| follow_to_end(client, started, None).await).await
}

/// The reason why a use failed.
fn failure_reason(view: &SessionView) -> String {
    let reason = view.reason.as_ref().map_or("The reason is not recorded.", |reason| &reason.sentence);
    format!("{reason} See: anteroom diagnose {}", view.id)
}

async fn check(client: &ApiClient, id: &CredentialId, json: bool) -> anyhow::Result<ExitCode> {
    let request = CredentialUseRequest { purpose: UsePurpose::Check, argv: Vec::new(), attached: false };
    let path = format!("/api/credentials/{id}/use");
    let checked = stop::run_session(client, &path, &request, async |started| {
        let wait = Wait::begin("Checking the credential in a new machine…");
        let (mut is_checked, mut inconclusive) = (false, None);
        let view = watch::follow_session(client, &started.session.id, |update| match update {
            SessionUpdate::Entry(entry) if entry.kind == TimelineKind::CredentialChecked => is_checked = true,
            SessionUpdate::Entry(entry) if entry.kind == TimelineKind::CredentialCheckInconclusive => {
                inconclusive = Some(entry.sentence);
            }
            SessionUpdate::Entry(entry) => wait.show(&entry.sentence),
            SessionUpdate::View(_) => {}
        });
        let view = view.await?;
        Ok((view, is_checked, inconclusive))
    });
    match checked.await {
        Ok(Run::Stopped(code)) => return Ok(ExitCode::from(code)),
        Ok(Run::Finished((_, _, Some(reason)))) => return Ok(print_not_checked(&reason)),
        Ok(Run::Finished((view, true, None))) if view.status == SessionStatus::Completed => {}
        Ok(Run::Finished((view, ..))) => return Ok(print_not_checked(&failure_reason(&view))),
        Err(error) => return Ok(print_not_checked(&error.to_string())),
    }
    let meta = read(client, id).await?;
    if json {
        print_line(serde_json::to_string_pretty(&meta)?);
    } else {
        print_line(format_args!("{}: {}", meta.health.as_str(), one_line(&meta.health_detail)));
    }
    let is_accepted = meta.health != CredentialHealth::NeedsAuth;
    Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_not_checked(reason: &str) -> ExitCode {
    print_error_line(format_args!("anteroom: the credential could not be checked: {reason}"));
    ExitCode::from(NOT_CHECKED)
}

/// Signs out at the provider.
async fn logout(client: &ApiClient, id: &CredentialId) -> anyhow::Result<Run<()>> {
    if let Some(note) = read(client, id).await?.sign_out_note {
        print_error_line(format_args!("anteroom: {note}"));
    }
    let view = match run_use(client, id, UsePurpose::Logout).await? {
        Run::Finished(view) => view,
        Run::Stopped(code) => return Ok(Run::Stopped(code)),
    };
    match view.credential_use.as_ref().and_then(|used| used.exit_code) {
        Some(0) => Ok(Run::Finished(())),
        Some(code) => {
            anyhow::bail!("the tool's sign-out command exited with {code}. See: anteroom diagnose {}", view.id)
        }
        None => anyhow::bail!("the sign-out did not finish: {}", failure_reason(&view)),
    }
}

async fn delete(client: &ApiClient, id: &CredentialId, at_provider: bool, force: bool) -> anyhow::Result<ExitCode> {
    if at_provider {
        match logout(client, id).await {
            Ok(Run::Finished(())) => {}
            Ok(Run::Stopped(code)) => return Ok(ExitCode::from(code)),
            Err(error) => {
                anyhow::ensure!(
                    force,
                    "{error:#}\nThe credential was not deleted: it may still be valid at the provider. Use --force to delete it anyway."
                );
                print_line(format_args!("Not signed out at the provider: {error:#}"));
            }
        }
    }
    let validity_note = if at_provider { String::new() } else { validity_note(client, id).await };
    let () = client.call(Method::DELETE, &format!("/api/credentials/{id}"), None::<&()>).await?;
    print_line(format_args!("{id} was deleted.{validity_note}"));
    Ok(ExitCode::SUCCESS)
}

/// A note that the deleted credential remains valid at the provider.
async fn validity_note(client: &ApiClient, id: &CredentialId) -> String {
    let Ok(meta) = read(client, id).await else { return String::new() };
    let list = client.get::<ProviderList>("/api/providers").await.map(|list| list.providers).unwrap_or_default();
    let can_sign_out = list.into_iter().any(|provider| provider.id == meta.provider && provider.can_sign_out);
    let hint = if can_sign_out { "; --logout signs out there first" } else { "" };
    format!(" It may still be valid at the provider{hint}.")
}

async fn renew(client: &ApiClient, id: &CredentialId, show: LinkArguments) -> anyhow::Result<ExitCode> {
    let meta = read(client, id).await?;
    let request = StartRequest {
        user_id: meta.user_id,
        renews: Some(id.to_string()),
        ..StartRequest::new(meta.provider.as_str())
    };
    let renewed = match sign_in(client, &request, show).await? {
        Run::Finished(renewed) => renewed,
        Run::Stopped(code) => return Ok(ExitCode::from(code)),
    };
    print_line(format_args!("Signed in again. The credential {} was renewed.", renewed.id));
    Ok(ExitCode::SUCCESS)
}
