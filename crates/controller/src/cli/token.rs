//! `anteroom token create | list | revoke`: on the database itself, whether or not a server runs.

use super::print_line;
use crate::{clock, config::Config, random};
use anteroom_store::{NewCaller, Role, Settings, Sha256Hex, Store};
use anteroom_wire::CallerId;
use anyhow::Context;
use clap::Subcommand;
use comfy_table::{Table, presets};
use std::process::ExitCode;

const TOKENS_MAX: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; it is shown once.
    Create {
        /// For people: whom it is for.
        name: String,
        /// For an operator's program instead: it sees and may do everything.
        #[arg(long)]
        operator: bool,
    },
    /// List operators and backends.
    List,
    /// Revoke one; what it started stays its own.
    Revoke {
        /// Its id, from the list.
        id: CallerId,
    },
}

pub(super) async fn run(config: &Config, command: TokenCommand) -> anyhow::Result<ExitCode> {
    // Only the directory: the server, if one runs, keeps its lock.
    std::fs::create_dir_all(&config.state_dir).with_context(|| config.state_dir.display().to_string())?;
    let store = Store::open(&config.state_dir.join("anteroom.db"), Settings::default()).await?;
    let done = carry_out(&store, command).await;
    store.close().await;
    done
}

async fn carry_out(store: &Store, command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create { name, operator } => {
            let token = random::token("ant_");
            let caller = NewCaller {
                id: random::id(CallerId::from_parts),
                role: if operator { Role::Operator } else { Role::Backend },
                name,
                token: Sha256Hex::of_secret(&token),
                created_at_ms: clock::now(),
                expires_at_ms: None,
            };
            store.create_caller(&caller).await?;
            print_line(token.expose());
        }
        TokenCommand::List => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["id", "role", "name", "made", "ends"]);
            for row in store.callers(TOKENS_MAX).await? {
                let ends = row.revoked_at_ms.map(|at| format!("revoked {}", clock::rfc3339(at)));
                let ends = ends.or(row.expires_at_ms.map(clock::rfc3339)).unwrap_or_else(|| "-".into());
                let made = clock::rfc3339(row.created_at_ms);
                table.add_row([row.id.to_string(), row.role.as_str().to_owned(), row.name, made, ends]);
            }
            print_line(table);
        }
        TokenCommand::Revoke { id } => {
            let revoked = store.revoke_caller(&id, clock::now()).await?;
            print_line(if revoked { "Revoked." } else { "There is no such caller, or it was revoked before." });
        }
    }
    Ok(ExitCode::SUCCESS)
}
