//! `anteroom token create | list | rotate | revoke`: asks the running server; uses the database while no server runs.

use super::{
    client::{ApiClient, ClientError},
    one_line,
    output::{is_printed, print_json},
    print_line,
    table::Table,
    when::when,
};
use anteroom_controller::{api_error::ApiError, api_tokens, caller::Caller, config::Config, keys};
use anteroom_server::StateDir;
use anteroom_store::{CallerFilter, Store, StoreSettings};
use anteroom_wire::{
    CallerId, Scope,
    api_tokens::{
        CreateTokenRequest, CreatedToken, RevokeTokenRequest, RevokedToken, RotateTokenRequest, TokenList, TokenRole,
        TokenView,
    },
};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use std::{process::ExitCode, time::Duration};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create an API token and print it. It is not stored in plain text and cannot be printed again.
    Create {
        /// A name for the list of tokens. No two valid tokens of one role have the same name.
        name: String,
        /// What the token's holder is.
        #[arg(long, value_enum, default_value_t = RoleArgument::Backend)]
        role: RoleArgument,
        /// The same as `--role operator`.
        #[arg(long, conflicts_with = "role")]
        operator: bool,
        /// What the token permits: start, read, lease, operate, metrics, audit. Repeatable. Default: all that the role has.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
        /// How long the token is valid, for example 12h or 90d. Default: until it is revoked.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<Duration>,
        /// Print JSON: the secret, and the token as `list` has it.
        #[arg(long)]
        json: bool,
    },
    /// List tokens and the browsers of operators, with scopes, expiry and last use.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create the successor of a token and print it. The old token ends after the overlap.
    Rotate {
        /// The token's id, as printed by `anteroom token list`.
        id: CallerId,
        /// How long the old token, and the links and cookies that were made with it, remain valid.
        #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
        overlap: Duration,
        /// Print JSON: the secret, and the token as `list` has it.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token and everything that was made with it. Open sockets and event streams are closed.
    Revoke {
        /// The token's id, as printed by `anteroom token list`.
        id: CallerId,
        /// Also cancel its active sessions. Credentials continue to exist.
        #[arg(long)]
        end_sessions: bool,
        /// Print JSON: how many callers and sessions have ended.
        #[arg(long)]
        json: bool,
    },
}

/// The role of a token.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleArgument {
    /// Operates the server and may do everything.
    Operator,
    /// Reads the audit log, the tokens and the metrics.
    Auditor,
    /// Starts sessions and owns their credentials.
    Backend,
}

impl From<RoleArgument> for TokenRole {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Auditor => Self::Auditor,
            RoleArgument::Backend => Self::Backend,
        }
    }
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create { name, role, operator, scopes, expires, json } => {
            let role = if operator { TokenRole::Operator } else { role.into() };
            let scopes = (!scopes.is_empty()).then_some(scopes);
            let request = CreateTokenRequest { name, role, scopes, expires_in_s: expires.map(|time| time.as_secs()) };
            print_created(&create(config, client, &request).await?, json)?;
        }
        TokenCommand::List { json } => {
            let list = list(config, client).await?;
            if json {
                print_line(serde_json::to_string_pretty(&list)?);
            } else {
                print_line(table(list));
            }
        }
        TokenCommand::Rotate { id, overlap, json } => {
            print_created(&rotate(config, client, &id, overlap.as_secs()).await?, json)?;
        }
        TokenCommand::Revoke { id, end_sessions, json } => {
            let revoked = revoke(config, client, &id, end_sessions).await?;
            if json {
                print_json(&revoked)?;
                return Ok(ExitCode::SUCCESS);
            }
            let RevokedToken { callers, sessions } = revoked;
            print_line(format_args!(
                "Revoked, with {} cookies of its links. Sessions cancelled: {sessions}.",
                callers - 1
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a new token. It is the only time.
fn print_created(created: &CreatedToken, json: bool) -> anyhow::Result<()> {
    let id = &created.token.id;
    anyhow::ensure!(
        is_printed(if json { serde_json::to_string_pretty(created)? } else { created.secret.clone() }),
        "the token was made and could not be printed; revoke it: anteroom token revoke {id}"
    );
    Ok(())
}

/// All tokens.
async fn list(config: &Config, client: &ApiClient) -> anyhow::Result<TokenList> {
    let next_cursor = |page: &TokenList| page.next_cursor.as_ref().map(ToString::to_string);
    match client.get_pages("/api/tokens?limit=500", next_cursor, |_| false).await {
        Ok(pages) => {
            let tokens = pages.into_iter().flat_map(|page: TokenList| page.tokens).collect();
            Ok(TokenList { tokens, next_cursor: None, total: None })
        }
        Err(ClientError::NoServer { .. }) => {
            let offline = Offline::open(config).await?;
            offline.close(api_tokens::list_tokens(&offline.store, &CallerFilter::default(), u32::MAX, None).await).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn create(config: &Config, client: &ApiClient, request: &CreateTokenRequest) -> anyhow::Result<CreatedToken> {
    if let Some(created) = ask_server(client, Method::POST, "/api/tokens", Some(request)).await? {
        return Ok(created);
    }
    let offline = Offline::open(config).await?;
    offline.close(api_tokens::create_token(&offline.store, &Caller::command_line(), request).await).await
}

async fn rotate(config: &Config, client: &ApiClient, id: &CallerId, overlap_s: u64) -> anyhow::Result<CreatedToken> {
    let path = format!("/api/tokens/{id}/rotate");
    if let Some(created) = ask_server(client, Method::POST, &path, Some(&RotateTokenRequest { overlap_s })).await? {
        return Ok(created);
    }
    let offline = Offline::open(config).await?;
    offline.close(api_tokens::rotate_token(&offline.store, &Caller::command_line(), id, overlap_s).await).await
}

async fn revoke(
    config: &Config,
    client: &ApiClient,
    id: &CallerId,
    end_sessions: bool,
) -> anyhow::Result<RevokedToken> {
    let path = format!("/api/tokens/{id}/revoke");
    if let Some(revoked) = ask_server(client, Method::POST, &path, Some(&RevokeTokenRequest { end_sessions })).await? {
        return Ok(revoked);
    }
    if end_sessions {
        bail!(
            "sessions can be cancelled only by a running server: start it with `anteroom serve`, or leave out --end-sessions"
        );
    }
    let offline = Offline::open(config).await?;
    let callers = offline.close(api_tokens::revoke_token(&offline.store, &Caller::command_line(), id).await).await?;
    Ok(RevokedToken { callers, sessions: 0 })
}

/// The answer of the server; `None`: none runs with this state directory.
async fn ask_server<B: Serialize, T: DeserializeOwned>(
    client: &ApiClient,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> anyhow::Result<Option<T>> {
    match client.call(method, path, body).await {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::NoServer { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The database, while no server holds the state directory.
struct Offline {
    store: Store,
    _state: StateDir,
}

impl Offline {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let state = StateDir::lock_existing(&config.state_dir)?;
        let store = Store::open(&config.database_address()?, StoreSettings::default()).await?;
        keys::open_key_ring(config, &store).await?;
        Ok(Self { store, _state: state })
    }

    /// Closes the database and returns the result.
    async fn close<T>(&self, result: Result<T, ApiError>) -> anyhow::Result<T> {
        self.store.close().await;
        result.map_err(|error| ClientError::Api(error.body()).into())
    }
}

fn table(list: TokenList) -> Table {
    let mut table = Table::new(["id", "kind", "role", "name", "scopes", "created", "last used", "expires"]);
    for token in list.tokens {
        let TokenView { id, kind, role, name, scopes, created_at, expires_at, last_used_at, revoked_at } = token;
        let scopes: Vec<_> = scopes.into_iter().map(Scope::as_str).collect();
        let never = || "-".to_owned();
        let revoked = revoked_at.map(|at| format!("revoked {}", when(&at)));
        let expires = revoked.or_else(|| expires_at.as_deref().map(when)).unwrap_or_else(never);
        let last_used = last_used_at.as_deref().map_or_else(never, when);
        table.add_row([
            id.to_string(),
            kind,
            role,
            one_line(&name),
            scopes.join(" "),
            when(&created_at),
            last_used,
            expires,
        ]);
    }
    table
}

/// Parses a duration such as `90s`, `30m`, `12h` or `90d`.
fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let parsed = UNITS.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    parsed.map(Duration::from_secs).context("expected a number with a unit: 90s, 30m, 12h or 90d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("90d", 7_776_000), ("0s", 0)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds));
        }
        for text in ["", "1", "h", "-1h", "1.5h", "1w", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
