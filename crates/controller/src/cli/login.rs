//! `anteroom login PROVIDER`: starts a session on the running server, shows how it goes, hands the credential over.

use super::{
    answers,
    client::Client,
    credential_files::Place,
    print_line,
    sign_in::{SignedIn, sign_in_with},
};
use crate::config::Config;
use anteroom_wire::{
    CredentialId,
    api::{CredentialMeta, Lease, ProviderList, StartRequest},
    provider::StoragePolicy,
};
use anyhow::Context;
use http::Method;
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, clap::Args)]
pub(super) struct LoginArguments {
    /// The tool: `anteroom login codex`.
    provider: String,
    /// One of its ways of signing in; see `anteroom providers list`.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Write the credential, too: one file (0600), or several below a directory by their own paths and modes.
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// With --out: put the credential in the place of files that are there.
    #[arg(long, requires = "out")]
    overwrite: bool,
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
    let LoginArguments { provider, method, out, overwrite, api_key_file, no_open, machine } = arguments;
    let place = out.map(|out| Place::new(out, overwrite));
    let key = api_key_file.as_deref().map(answers::key_from).transpose()?;
    let client = Client::new(&config.state_dir);
    if let Some(place) = &place {
        place.usable()?;
        never_comes_out(&client, &provider).await?;
    }
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
    match place {
        Some(place) => {
            let written = lease_to(&client, &credential, &place).await;
            let written = written.context("signed in, but the credential was not written")?;
            print_line(format_args!("Signed in. The credential was written to {written}."));
        }
        None => print_line(format_args!("Signed in. The credential is stored as {}.", credential.id)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Nobody shall sign in for a file that cannot be.
async fn never_comes_out(client: &Client, id: &str) -> anyhow::Result<()> {
    let list: ProviderList = client.get("/api/providers").await?;
    let provider = list.providers.into_iter().find(|provider| provider.id.as_str() == id);
    let stays = provider.filter(|provider| provider.policy == StoragePolicy::KeepInMachine);
    match stays {
        Some(it) => Err(anyhow::anyhow!("--out cannot be: {}: {}", it.name, it.policy_sentence)),
        None => Ok(()),
    }
}

/// Leases a credential and writes its files; where they are, for people.
///
/// # Errors
/// The files cannot be written there: then nothing was leased. Or the server refuses; or a file could not be written after all.
pub(super) async fn lease_to(client: &Client, credential: &CredentialMeta, place: &Place) -> anyhow::Result<String> {
    let id: &CredentialId = &credential.id;
    place.plan(&credential.files).with_context(|| {
        format!("it is stored as {id}; write it elsewhere with: anteroom credentials lease {id} --out FILE")
    })?;
    let lease: Lease = client.call(Method::POST, &format!("/api/credentials/{id}/lease"), None::<&()>).await?;
    let written = place.write(&lease.files).with_context(|| match lease.credential.policy {
        StoragePolicy::DeliverOnce => "it was handed out with this and is stored no more: sign in again".to_owned(),
        StoragePolicy::Store | StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => {
            format!("it is stored as {id}")
        }
    })?;
    Ok(written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
}
