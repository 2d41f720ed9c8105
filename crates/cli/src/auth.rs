//! `anteroom auth login | list | use | logout | status`: the servers that this user uses, and the tokens for them.

use super::{
    client::{ApiClient, ClientError},
    connection::{
        Access, GivenOptions, ServerArguments,
        profiles::{LOCAL, Profile, Profiles},
        server_url::ServerUrl,
        token_file,
    },
    one_line, print_error_line, print_line,
    table::Table,
};
use anteroom_controller::config::Config;
use anteroom_wire::api::CurrentCaller;
use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum AuthCommand {
    /// Use a server on another host: check its token and keep both in a profile, which is used from now on.
    ///
    /// The token is read from --token-file, or asked for without echo. An operator makes it with `anteroom token create NAME`. The
    /// profile is named --profile NAME, or as the server's host. The file with the profiles can be read only by you (mode 0600).
    Login {
        /// The server's address, such as https://anteroom.example.
        #[arg(value_name = "URL")]
        url: String,
    },
    /// List the profiles; `*` marks the one in use.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Use a profile from now on; `local` is your own server on this host.
    Use {
        /// The profile's name.
        name: String,
    },
    /// Remove a profile with its token. The token stays valid until `anteroom token revoke`.
    Logout {
        /// The profile's name. Default: the one in use.
        name: Option<String>,
    },
    /// Print which server commands use, and as whom. Exits with 1 if it does not answer or does not accept the token.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(
    config: &Config,
    server: &ServerArguments,
    given: GivenOptions,
    command: AuthCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        AuthCommand::Login { url } => login(server, &url).await,
        AuthCommand::List { json } => list(json),
        AuthCommand::Use { name } => {
            Profiles::update(|profiles| profiles.set_current(&name))?;
            print_line(format_args!("Commands use {} now.", one_line(&name)));
            Ok(ExitCode::SUCCESS)
        }
        AuthCommand::Logout { name } => logout(name),
        AuthCommand::Status { json } => status(&server.open(config, given)?, json).await,
    }
}

async fn login(server: &ServerArguments, url: &str) -> anyhow::Result<ExitCode> {
    let url: ServerUrl = url.parse()?;
    let name = server.profile.clone().unwrap_or_else(|| url.authority());
    let cacert = server.cacert.as_deref().map(std::path::absolute).transpose()?;
    // Before the token is asked for, which may then not be sent.
    Access::remote(url.clone(), anteroom_wire::Secret::new(String::new()), cacert.as_deref(), server.plain_http)?;
    let token = match &server.token_file {
        Some(file) => token_file::read(file)?,
        None => token_file::ask(&url.to_string()).await?,
    };
    let access = Access::remote(url.clone(), token.clone(), cacert.as_deref(), server.plain_http)?;
    let caller: CurrentCaller = ApiClient::new(access).get("/api/me").await?;
    let profile = Profile { server: url.to_string(), token, cacert, plain_http: server.plain_http };
    Profiles::update(|profiles| profiles.insert(&name, profile))?;
    print_line(format_args!("{url} accepts the token: {}.", describe(&caller)));
    print_line(format_args!("Commands use the profile {name} now; `anteroom auth use {LOCAL}` returns to this host."));
    Ok(ExitCode::SUCCESS)
}

fn describe(caller: &CurrentCaller) -> String {
    format!("{} ({})", one_line(&caller.name), one_line(&caller.role))
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let profiles = Profiles::read()?;
    let current = profiles.current().map_or(LOCAL, |(name, _)| name);
    if json {
        let listed = profiles.iter().map(|(name, profile)| {
            json!({ "name": name, "server": profile.server, "cacert": profile.cacert, "plain_http": profile.plain_http })
        });
        let all = json!({ "current": current, "profiles": listed.collect::<Vec<_>>() });
        print_line(serde_json::to_string_pretty(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["", "profile", "server"]);
    let of_this_host = (LOCAL, "your own server on this host");
    for (name, server) in profiles.iter().map(|(name, profile)| (name, profile.server.as_str())).chain([of_this_host]) {
        let mark = if name == current { "*" } else { "" };
        table.add_row([mark.to_owned(), one_line(name), one_line(server)]);
    }
    print_line(table);
    Ok(ExitCode::SUCCESS)
}

fn logout(name: Option<String>) -> anyhow::Result<ExitCode> {
    let (name, profile) = Profiles::update(|profiles| {
        let in_use = || profiles.current().map(|(name, _)| name.to_owned());
        let name = name.or_else(in_use).context("no profile is in use; name one of `anteroom auth list`")?;
        let removed = profiles.remove(&name)?;
        Ok((name, removed))
    })?;
    print_line(format_args!(
        "The profile {} and its token are removed. The token is still valid at {}: an operator revokes it with `anteroom token revoke ID`.",
        one_line(&name),
        one_line(&profile.server)
    ));
    Ok(ExitCode::SUCCESS)
}

async fn status(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let caller: Result<CurrentCaller, ClientError> = client.get("/api/me").await;
    let server = client.server_name();
    if json {
        let status = match &caller {
            Ok(caller) => json!({ "server": server, "accepted": true, "name": caller.name, "role": caller.role }),
            Err(error) => json!({ "server": server, "accepted": false, "error": error.to_string() }),
        };
        print_line(serde_json::to_string_pretty(&status)?);
        return Ok(if caller.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    print_line(format_args!("Server: {server}"));
    match caller {
        Ok(caller) => {
            print_line(format_args!("You are {}.", describe(&caller)));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            print_error_line(format_args!("anteroom: {error}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
