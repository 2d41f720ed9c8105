//! Which server a command uses, and how it is reached.
//!
//! ```text
//!  --server, --profile, --state-dir ─▶ ANTEROOM_SERVER, ANTEROOM_PROFILE, ANTEROOM_STATE_DIR ─▶ the profile in use ─▶ this user's server
//!  (the first that is given counts)                                                            (auth use)            (Unix socket)
//! ```

pub(crate) mod profiles;
mod proxy;
pub(crate) mod server_url;
mod stream;
pub(crate) mod token_file;

pub(crate) use stream::{Access, ApiStream, ConnectError, connect_local};

use crate::{client::ApiClient, output::print_error_line};
use anteroom_controller::config::Config;
use anteroom_wire::Secret;
use clap::{ArgMatches, Args, parser::ValueSource};
use profiles::{LOCAL, Profile, Profiles};
use server_url::ServerUrl;
use std::path::{Path, PathBuf};

/// The variable with the token of the server that `--server` or `ANTEROOM_SERVER` names.
const TOKEN_VARIABLE: &str = "ANTEROOM_TOKEN";

/// Options of every command that uses a server.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArguments {
    /// Use the server at this address instead of this user's own. Its token: --token-file, ANTEROOM_TOKEN, or a profile of this address.
    /// Through the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name, unless it is on this host.
    #[arg(long, global = true, env = "ANTEROOM_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Use the server of this profile (see `anteroom auth`); `local`: this user's own server.
    #[arg(long, global = true, env = "ANTEROOM_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// File with the token; `-` reads standard input. A token is never an argument: other users of this host can list arguments.
    #[arg(long, global = true, alias = "token", value_name = "FILE|-")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust the certificate authorities in this file (PEM) instead of the system's.
    #[arg(long, global = true, env = "ANTEROOM_CACERT", value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Send the token to an http:// address of another host, where others on the way can read it.
    #[arg(long, global = true)]
    pub(crate) plain_http: bool,
}

/// How the choices of a server were given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenOptions {
    server: Option<Given>,
    profile: Option<Given>,
    state_dir: Option<Given>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Flag,
    Variable,
}

impl GivenOptions {
    /// Reads how the options were given.
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let given = |id: &str| match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Some(Given::Flag),
            Some(ValueSource::EnvVariable) => Some(Given::Variable),
            Some(_) | None => None,
        };
        let state_dir = match (given("state_dir"), given("config")) {
            (Some(Given::Flag), _) | (_, Some(Given::Flag)) => Some(Given::Flag),
            (one, other) => one.or(other),
        };
        Self { server: given("server"), profile: given("profile"), state_dir }
    }
}

/// The choice of a server.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Server,
    Profile,
    /// This user's own, because its state directory or configuration is named.
    Local,
    /// Nothing is given: the profile in use, or this user's own.
    Default,
}

fn choose(given: GivenOptions) -> anyhow::Result<Choice> {
    let GivenOptions { server, profile, state_dir } = given;
    anyhow::ensure!(
        (server, profile) != (Some(Given::Flag), Some(Given::Flag)),
        "--server and --profile both name a server: leave one out"
    );
    for way in [Given::Flag, Given::Variable] {
        let choices = [(server, Choice::Server), (profile, Choice::Profile), (state_dir, Choice::Local)];
        if let Some((_, choice)) = choices.into_iter().find(|(given, _)| *given == Some(way)) {
            return Ok(choice);
        }
    }
    Ok(Choice::Default)
}

impl ServerArguments {
    /// The client of the chosen server. No connection is made yet.
    ///
    /// # Errors
    /// The address is invalid, there is no such profile, there is no token, or a file cannot be read.
    pub(crate) fn open(&self, config: &Config, given: GivenOptions) -> anyhow::Result<ApiClient> {
        let access = match choose(given)? {
            Choice::Local => None,
            Choice::Server => Some(self.named_server()?),
            Choice::Profile => self.named_profile()?,
            Choice::Default => Profiles::read()?.current().map(|(_, profile)| self.of_profile(profile)).transpose()?,
        };
        if access.is_none() && self.token_file.is_some() {
            anyhow::bail!("--token-file needs a server: name it with --server URL");
        }
        Ok(ApiClient::new(access.unwrap_or_else(|| local_access(config))))
    }

    /// Says that the server that a flag names is not used; `why` completes "it ".
    pub(crate) fn note_unused(given: GivenOptions, why: &str) {
        if [given.server, given.profile].contains(&Some(Given::Flag)) {
            print_error_line(format_args!("anteroom: note: this command uses no server: it {why}"));
        }
    }

    /// Requires that no other server is named than that of this host.
    ///
    /// # Errors
    /// `--server`, `--profile` or one of their variables is given; `why` completes "it ".
    pub(crate) fn require_this_host(&self, given: GivenOptions, why: &str) -> anyhow::Result<()> {
        let named = match choose(given)? {
            Choice::Server => "--server (or ANTEROOM_SERVER)",
            Choice::Profile if self.profile.as_deref() != Some(LOCAL) => "--profile (or ANTEROOM_PROFILE)",
            Choice::Profile | Choice::Local | Choice::Default => return Ok(()),
        };
        anyhow::bail!(
            "this command does not work with {named}: it {why}. Run it on the server's host, as the server's user"
        )
    }

    fn named_server(&self) -> anyhow::Result<Access> {
        let url: ServerUrl = self.server.as_deref().unwrap_or_default().parse()?;
        let profiles = Profiles::read()?;
        let known = profiles.of_server(&url);
        let token = match (&self.token_file, std::env::var(TOKEN_VARIABLE), known) {
            (Some(file), ..) => token_file::read(file)?,
            (None, Ok(token), _) if !token.is_empty() => Secret::new(token),
            (None, _, Some(profile)) => profile.token.clone(),
            (None, _, None) => anyhow::bail!(
                "there is no token for {url}: run `anteroom auth login {url}` once, set {TOKEN_VARIABLE}, or name a file with --token-file"
            ),
        };
        let cacert = self.cacert.clone().or_else(|| known?.cacert.clone());
        let plain_http = self.plain_http || known.is_some_and(|profile| profile.plain_http);
        Access::remote(url, token, cacert.as_deref(), plain_http)
    }

    /// `None`: this user's own server.
    fn named_profile(&self) -> anyhow::Result<Option<Access>> {
        let name = self.profile.as_deref().unwrap_or_default();
        if name == LOCAL {
            return Ok(None);
        }
        Profiles::read()?.get(name).and_then(|profile| self.of_profile(profile)).map(Some)
    }

    fn of_profile(&self, profile: &Profile) -> anyhow::Result<Access> {
        let token = self.token_file.as_deref().map_or_else(|| Ok(profile.token.clone()), token_file::read)?;
        let cacert = self.cacert.as_deref().or(profile.cacert.as_deref());
        Access::remote(profile.server.parse()?, token, cacert, self.plain_http || profile.plain_http)
    }
}

/// Access to the server of this user with the configured state directory.
pub(crate) fn local_access(config: &Config) -> Access {
    Access::Local { state_dir: Path::to_owned(&config.state_dir) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_count_before_variables_and_a_named_server_before_a_state_directory() {
        const FLAG: Option<Given> = Some(Given::Flag);
        const VARIABLE: Option<Given> = Some(Given::Variable);
        for (server, profile, state_dir, expected) in [
            (None, None, None, Choice::Default),
            (FLAG, None, FLAG, Choice::Server),
            (FLAG, VARIABLE, VARIABLE, Choice::Server),
            (VARIABLE, FLAG, None, Choice::Profile),
            (VARIABLE, VARIABLE, FLAG, Choice::Local),
            (VARIABLE, VARIABLE, VARIABLE, Choice::Server),
            (None, VARIABLE, VARIABLE, Choice::Profile),
            (None, None, VARIABLE, Choice::Local),
        ] {
            assert_eq!(choose(GivenOptions { server, profile, state_dir }).unwrap(), expected);
        }
        assert!(choose(GivenOptions { server: FLAG, profile: FLAG, state_dir: None }).is_err());
    }
}
