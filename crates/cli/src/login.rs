//! `anteroom login PROVIDER`: starts a session on the running server, shows its progress and writes the credential if requested.

use super::{
    client::ApiClient,
    credential_files::OutputPath,
    output::{keep_for_data, print_json},
    print_error_line, print_line,
    sign_in::{LinkArguments, sign_in_with_key},
    stop::Run,
    terminal_input,
};
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
    /// The tool's id, such as `codex`; see `anteroom providers list`.
    provider: String,
    /// The sign-in method; see `anteroom providers list`. Default: the tool's preferred method.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Also write the credential to this file (mode 0600), or to this directory with the files' own paths and modes.
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// With --out: overwrite existing files.
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// A value that the tool needs for some accounts, such as `google_cloud_project=my-project-123` of Gemini CLI; repeatable. Without it,
    /// the tool asks when it needs the value.
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// A label that the host must have on which the session runs, such as `zone=north`; repeatable. Only in a cluster.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_setting)]
    labels: Vec<(String, String)>,
    /// File with the API key to enter when the tool prompts for one; `-` reads standard input.
    #[arg(long, value_name = "FILE|-")]
    api_key_file: Option<PathBuf>,
    #[command(flatten)]
    show: LinkArguments,
    /// Name of a configured external machine to sign in on, instead of a new machine.
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Print the stored credential as JSON, without its content; messages go to standard error.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(client: &ApiClient, arguments: LoginArguments) -> anyhow::Result<ExitCode> {
    let LoginArguments { provider, method, out, overwrite, settings, labels, api_key_file, show, machine, json } =
        arguments;
    if json {
        keep_for_data();
    }
    let output = out.map(|out| OutputPath::new(out, overwrite));
    let key = api_key_file.as_deref().map(terminal_input::read_key_file).transpose()?;
    if let Some(output) = &output {
        output.check_overwrite()?;
        ensure_leasable(client, &provider).await?;
    }
    let (settings, labels) = (settings.into_iter().collect(), labels.into_iter().collect());
    let request = StartRequest { machine, method, settings, labels, ..StartRequest::new(&provider) };
    let credential = match sign_in_with_key(client, &request, show, key).await? {
        Run::Finished(credential) => credential,
        Run::Stopped(code) => return Ok(ExitCode::from(code)),
    };
    match output {
        Some(output) => {
            let written = lease_to_files(client, &credential, &output).await;
            let written = written.context("signed in, but the credential was not written")?;
            print_line(format_args!(
                "Signed in. The credential is stored as {}, and was written to {}.",
                credential.id,
                written.join(", ")
            ));
        }
        None => print_line(format_args!("Signed in. The credential is stored as {}.", credential.id)),
    }
    if json {
        print_json(&credential)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

/// Checks before the sign-in that the provider's policy allows a lease.
async fn ensure_leasable(client: &ApiClient, id: &str) -> anyhow::Result<()> {
    let list: ProviderList = client.get("/api/providers").await?;
    let provider = list.providers.into_iter().find(|provider| provider.id.as_str() == id);
    match provider.filter(|provider| provider.storage_policy == StoragePolicy::KeepInMachine) {
        Some(provider) => {
            Err(anyhow::anyhow!("--out is not possible for {}: {}", provider.name, provider.policy_sentence))
        }
        None => Ok(()),
    }
}

/// Leases a credential, writes its files, and returns their paths.
///
/// # Errors
/// The files cannot be written (checked before the lease); the server rejects the lease; writing failed after the lease.
pub(super) async fn lease_to_files(
    client: &ApiClient,
    credential: &CredentialMeta,
    output: &OutputPath,
) -> anyhow::Result<Vec<String>> {
    let id: &CredentialId = &credential.id;
    output.plan_paths(&credential.files).map_err(|cause| {
        anyhow::anyhow!("{cause:#}. The credential is stored as {id}: anteroom credentials lease {id} --out FILE")
    })?;
    let lease: Lease = client.call(Method::POST, &format!("/api/credentials/{id}/lease"), None::<&()>).await?;
    if let Some(notice) = &lease.notice {
        print_error_line(format_args!("anteroom: {notice}"));
    }
    let written = output.write_files(&lease.files).with_context(|| match lease.credential.storage_policy {
        StoragePolicy::DeliverOnce => "this lease deleted it from the server; sign in again".to_owned(),
        StoragePolicy::Store | StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => {
            format!("it is stored as {id}")
        }
    })?;
    Ok(written.iter().map(|path| path.display().to_string()).collect())
}
