//! `anteroom webhook list | test | resend`.

use super::{client::ApiClient, one_line, print_line, table::Table, when::when};
use anteroom_wire::{
    MessageId,
    operator_reports::{WebhookReport, WebhookTestRequest, WebhookTestResults},
};
use clap::Subcommand;
use http::Method;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// List the receivers, and the messages that are pending or were abandoned in the last seven days.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a message of the type `webhook.test` once. Exits with 1 if a receiver does not accept it.
    Test {
        /// Only the receiver of this name.
        #[arg(long, value_name = "NAME")]
        receiver: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a message of the last seven days again, with the same id.
    Resend {
        /// The message's id (`webhook-id`).
        message: MessageId,
    },
}

pub(super) async fn run(client: &ApiClient, command: WebhookCommand) -> anyhow::Result<ExitCode> {
    match command {
        WebhookCommand::List { json } => list(client, json).await,
        WebhookCommand::Test { receiver, json } => test(client, receiver, json).await,
        WebhookCommand::Resend { message } => {
            let path = format!("/api/webhook/messages/{message}/resend");
            client.call::<_, ()>(Method::POST, &path, Some(&serde_json::json!({}))).await?;
            print_line(format_args!("{message} is pending."));
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let report: WebhookReport = client.get("/api/webhook").await?;
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut receivers = Table::new(["receiver", "url", "types", "delivered", "failed", "abandoned"]);
    for receiver in &report.receivers {
        let types = if receiver.types.is_empty() { "all".to_owned() } else { receiver.types.join(" ") };
        let [delivered, failed, abandoned] =
            [receiver.delivered, receiver.failed, receiver.abandoned].map(|count| count.to_string());
        receivers.add_row([receiver.name.clone(), one_line(&receiver.url), types, delivered, failed, abandoned]);
    }
    print_line(receivers);
    let mut messages = Table::new(["message", "type", "receiver", "state", "attempts", "error"]);
    for pending in &report.pending {
        let error = pending.last_error.clone().unwrap_or_default();
        messages.add_row([
            pending.id.to_string(),
            pending.kind.clone(),
            pending.receiver.clone(),
            format!("due {}", when(&pending.due_at)),
            pending.attempts.to_string(),
            one_line(&error),
        ]);
    }
    for abandoned in &report.abandoned_messages {
        messages.add_row([
            abandoned.id.to_string(),
            abandoned.kind.clone(),
            abandoned.receiver.clone(),
            format!("abandoned {}", when(&abandoned.abandoned_at)),
            abandoned.attempts.to_string(),
            one_line(&abandoned.last_error),
        ]);
    }
    print_line(messages);
    Ok(ExitCode::SUCCESS)
}

async fn test(client: &ApiClient, receiver: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let request = WebhookTestRequest { receiver };
    let tested: WebhookTestResults = client.call(Method::POST, "/api/webhook/test", Some(&request)).await?;
    if json {
        print_line(serde_json::to_string_pretty(&tested)?);
    } else {
        for result in &tested.results {
            let outcome = result.error.as_deref().map_or_else(|| "accepted".to_owned(), one_line);
            print_line(format_args!("{} {}: {outcome} ({})", result.receiver, one_line(&result.url), result.id));
        }
    }
    let all_accepted = tested.results.iter().all(|result| result.error.is_none());
    Ok(if all_accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
