//! `anteroom token create | list | revoke`: uses the database directly, with or without a running server.

use super::print_line;
use anteroom_controller::{config::Config, random, unix_time};
use anteroom_store::{NewCaller, Role, Store, StoreSettings};
use anteroom_wire::CallerId;
use anyhow::Context;
use clap::Subcommand;
use comfy_table::{Table, presets};
use std::process::ExitCode;

const TOKENS_MAX: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create an API token for a backend and print it. It is not stored in plain text and cannot be printed again.
    Create {
        /// A name for the list of tokens.
        name: String,
        /// Create a token with the operator role, which permits everything.
        #[arg(long)]
        operator: bool,
    },
    /// List operators and backends.
    List,
    /// Revoke a token. Its sessions and credentials continue to exist.
    Revoke {
        /// The token's id, as printed by `anteroom token list`.
        id: CallerId,
    },
}

pub(super) async fn run(config: &Config, command: TokenCommand) -> anyhow::Result<ExitCode> {
    // The state directory is not locked: a running server holds that lock.
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("{} cannot be created", config.state_dir.display()))?;
    let store = Store::open(&config.state_dir.join("anteroom.db"), StoreSettings::default()).await?;
    let result = execute(&store, command).await;
    store.close().await;
    result
}

async fn execute(store: &Store, command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create { name, operator } => {
            let token = random::random_token("ant_");
            let (id, now) = (random::random_id(CallerId::from_parts), unix_time::now_unix_ms());
            let role = if operator { Role::Operator } else { Role::Backend };
            let caller = NewCaller::api_token(id, role, name, &token, now);
            store.create_caller(&caller).await?;
            print_line(token.expose());
        }
        TokenCommand::List => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["id", "role", "name", "created", "expires"]);
            for row in store.list_callers(TOKENS_MAX).await? {
                let revoked = row.revoked_at_ms.map(|at| format!("revoked {}", unix_time::format_rfc3339(at)));
                let expires =
                    revoked.or(row.expires_at_ms.map(unix_time::format_rfc3339)).unwrap_or_else(|| "-".into());
                let created = unix_time::format_rfc3339(row.created_at_ms);
                table.add_row([row.id.to_string(), row.role.as_str().to_owned(), row.name, created, expires]);
            }
            print_line(table);
        }
        TokenCommand::Revoke { id } => {
            let revoked = !store.revoke_caller(&id, unix_time::now_unix_ms()).await?.is_empty();
            print_line(if revoked { "Revoked." } else { "There is no such token, or it is already revoked." });
        }
    }
    Ok(ExitCode::SUCCESS)
}
