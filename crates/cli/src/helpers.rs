//! `anteroom helpers list | end`: the helpers who watch a session.

use super::{client::ApiClient, one_line, print_line, table::Table, when::when};
use anteroom_wire::{
    CallerId, SessionId,
    api::{HelperList, HelperStatus, HelperView},
};
use clap::Subcommand;
use http::Method;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum HelpersCommand {
    /// List the helpers of a session and the invitations that were not used yet.
    List {
        /// The session's id.
        session: SessionId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the access of a helper, or an invitation that was not used yet. Its connections are closed at once.
    End {
        /// The session's id.
        session: SessionId,
        /// The helper's id, as printed by `anteroom helpers list`.
        helper: CallerId,
    },
}

pub(super) async fn run(client: &ApiClient, command: HelpersCommand) -> anyhow::Result<ExitCode> {
    match command {
        HelpersCommand::List { session, json } => {
            let list: HelperList = client.get(&format!("/api/auth/session/{session}/helpers")).await?;
            if json {
                print_line(serde_json::to_string_pretty(&list)?);
            } else {
                print_line(table(list));
            }
        }
        HelpersCommand::End { session, helper } => {
            let path = format!("/api/auth/session/{session}/helpers/{helper}");
            client.call::<(), ()>(Method::DELETE, &path, None).await?;
            print_line(format_args!("{helper} ended"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(list: HelperList) -> Table {
    let mut table = Table::new(["id", "name", "status", "joined", "last seen", "expires", "address"]);
    for helper in list.helpers {
        let HelperView { id, name, status, joined_at, last_seen_at, expires_at, address } = helper;
        let status = match status {
            HelperStatus::Invited => "invited",
            HelperStatus::Connected => "connected",
            HelperStatus::Away => "away",
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let [joined_at, last_seen_at, expires_at] =
            [joined_at, last_seen_at, expires_at].map(|at| at.as_deref().map(when));
        let [joined_at, last_seen_at, expires_at, address] =
            [joined_at, last_seen_at, expires_at, address].map(or_dash);
        table.add_row([
            id.to_string(),
            one_line(&name),
            status.to_owned(),
            joined_at,
            last_seen_at,
            expires_at,
            address,
        ]);
    }
    table
}
