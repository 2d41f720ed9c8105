//! `anteroom login PROVIDER`: starts a session on the running server, shows how it goes, hands the credential over.

use super::{
    client::Client,
    credential_files, say,
    sign_in::{SignedIn, sign_in},
};
use crate::config::Config;
use anteroom_wire::{
    CredentialId,
    api::{Lease, StartRequest},
};
use http::Method;
use std::{path::Path, process::ExitCode};

pub(super) async fn run(
    config: &Config,
    provider: &str,
    out: Option<&Path>,
    no_open: bool,
    machine: Option<String>,
) -> anyhow::Result<ExitCode> {
    if let Some(out) = out {
        credential_files::writable(out)?;
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
    let SignedIn::Yes(credential) = sign_in(&client, &request, no_open).await? else {
        return Ok(ExitCode::FAILURE);
    };
    match out {
        Some(out) => {
            let written = lease_to(&client, &credential.id, out).await?;
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
