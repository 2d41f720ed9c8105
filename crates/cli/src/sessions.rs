//! `anteroom sessions` and `anteroom login-link`.

use super::{client::ApiClient, print_line};
use anteroom_controller::config::Config;
use anteroom_wire::{
    SessionId,
    api::{SessionList, SessionView, Timeline},
};
use comfy_table::{Table, presets};
use http::Method;
use std::process::ExitCode;

pub(super) async fn run(config: &Config, session: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&config.state_dir);
    match session {
        None => {
            let list: SessionList = client.get("/api/sessions").await?;
            if json {
                print_line(serde_json::to_string_pretty(&list)?);
            } else {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(["session", "tool", "status", "started", "reason"]);
                for view in &list.sessions {
                    table.add_row(row(view));
                }
                print_line(table);
            }
        }
        Some(id) => {
            let id: SessionId = id.parse()?;
            let view: SessionView = client.get(&format!("/api/auth/session/{id}")).await?;
            let timeline: Timeline = client.get(&format!("/api/auth/session/{id}/events")).await?;
            if json {
                print_line(serde_json::to_string_pretty(
                    &serde_json::json!({ "session": view, "timeline": timeline }),
                )?);
            } else {
                print_line(row(&view).join("  "));
                for entry in timeline.entries {
                    print_line(format_args!("  {}  {:<20} {}", entry.at, entry.kind, entry.sentence));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(view: &SessionView) -> [String; 5] {
    let status = serde_json::to_value(view.status).ok().and_then(|status| status.as_str().map(str::to_owned));
    [
        view.id.to_string(),
        view.provider_name.clone(),
        status.unwrap_or_default(),
        view.created_at.clone(),
        view.reason.as_ref().map_or_else(String::new, |reason| reason.sentence.clone()),
    ]
}

pub(super) async fn login_link(config: &Config) -> anyhow::Result<ExitCode> {
    let link: anteroom_server::http::LoginLink =
        ApiClient::new(&config.state_dir).call(Method::POST, "/api/links", None::<&()>).await?;
    print_line(link.url);
    Ok(ExitCode::SUCCESS)
}
