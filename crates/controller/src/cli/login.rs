//! `anteroom login PROVIDER`: starts a session on the running server, shows how it goes, hands the credential over.

use super::{
    answers,
    client::Client,
    credential_files, say,
    sign_in::{SignedIn, sign_in_with},
};
use crate::config::Config;
use anteroom_wire::{
    CredentialId,
    api::{Lease, StartRequest},
};
use http::Method;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub(super) struct LoginArguments {
    /// The tool: `anteroom login codex`.
    provider: String,
    /// One of its ways of signing in; see `anteroom providers list`.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Write the credential here instead of only storing it: one file (0600), or several below a directory by their own paths and modes.
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// Answer the tool's question for a key with what is in this file; `-`: standard input.
    #[arg(long, value_name = "FILE|-")]
    api_key_file: Option<PathBuf>,
    /// Print the link and do not open a browser.
    #[arg(long)]
    no_open: bool,
    /// Sign in at this external machine of the configuration instead of a new one.
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
}

pub(super) async fn run(config: &Config, arguments: LoginArguments) -> anyhow::Result<ExitCode> {
    let LoginArguments { provider, method, out, api_key_file, no_open, machine } = arguments;
    if let Some(out) = &out {
        credential_files::writable(out)?;
    }
    let key = api_key_file.as_deref().map(answers::key_from).transpose()?;
    let client = Client::new(&config.state_dir);
    let request = StartRequest {
        provider,
        user_id: None,
        return_url: None,
        idempotency_key: None,
        machine,
        method,
        renews: None,
    };
    let SignedIn::Yes(credential) = sign_in_with(&client, &request, no_open, key).await? else {
        return Ok(ExitCode::FAILURE);
    };
    match out {
        Some(out) => {
            let written = lease_to(&client, &credential.id, &out).await?;
            say(format_args!("Signed in. The credential was written to {written} (0600)."));
        }
        None => say(format_args!("Signed in. The credential is stored as {}.", credential.id)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Leases a credential and writes its files; where they are, for people.
///
/// # Errors
/// The server refuses, or a file cannot be written.
pub(super) async fn lease_to(client: &Client, id: &CredentialId, out: &Path) -> anyhow::Result<String> {
    let lease: Lease = client.call(Method::POST, &format!("/api/credentials/{id}/lease"), None::<&()>).await?;
    let written = credential_files::write_all(out, &lease.files)?;
    Ok(written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
}
