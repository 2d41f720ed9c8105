//! `anteroom top`: the active sessions and the machines, again and again.

use super::{
    client::{ApiClient, ClientError},
    output::{self, one_line},
    print_line,
    stop::Stops,
    table::Table,
    terminal,
    terminal_input::Keys,
    when::when,
};
use anteroom_wire::{
    Problem, ProblemBody,
    api::{MachineList, MachineState, SessionList},
};
use clap::Args;
use std::{process::ExitCode, time::Duration};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Sessions that are asked for.
const SESSIONS_MAX: usize = 100;
/// Clears the terminal's second screen and shows it.
const ENTER_SCREEN: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// Shows the first screen as it was.
const LEAVE_SCREEN: &str = "\u{1b}[?25h\u{1b}[?1049l";

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// Time between two looks, seconds.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Look once, also on a terminal.
    #[arg(long)]
    once: bool,
    /// Look once and print JSON.
    #[arg(long)]
    json: bool,
}

/// What one look has found.
struct Look {
    sessions: SessionList,
    /// Absent for a caller that is no operator.
    machines: Option<MachineList>,
}

pub(super) async fn run(client: &ApiClient, arguments: TopArguments) -> anyhow::Result<ExitCode> {
    if arguments.json {
        let Look { sessions, machines } = look(client).await?;
        let all = serde_json::json!({ "sessions": sessions.sessions, "machines": machines.map(|list| list.machines) });
        print_line(serde_json::to_string_pretty(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.once || terminal::size().is_none() {
        print_line(text(&look(client).await?));
        return Ok(ExitCode::SUCCESS);
    }
    // The first look fails before the screen is changed.
    let first = look(client).await?;
    let _screen = Screen::enter();
    let keys = Keys::open()?;
    let mut stops = Stops::new()?;
    let mut shown = text(&first);
    let mut looks = tokio::time::interval(Duration::from_secs(arguments.interval));
    looks.tick().await;
    loop {
        show(client, &shown);
        tokio::select! {
            code = stops.next() => return Ok(ExitCode::from(code)),
            () = keys.quit() => return Ok(ExitCode::SUCCESS),
            _ = looks.tick() => {}
        }
        shown = match look(client).await {
            Ok(look) => text(&look),
            Err(error @ (ClientError::Api(_) | ClientError::TokenRefused { .. })) => return Err(error.into()),
            Err(error) => format!("{error}\n"),
        };
    }
}

async fn look(client: &ApiClient) -> Result<Look, ClientError> {
    let sessions = client.get(&format!("/api/sessions?state=active&limit={SESSIONS_MAX}")).await?;
    let machines = match client.get("/api/machines").await {
        Ok(machines) => Some(machines),
        Err(ClientError::Api(problem)) if is_for_operators(&problem) => None,
        Err(error) => return Err(error),
    };
    Ok(Look { sessions, machines })
}

fn is_for_operators(problem: &ProblemBody) -> bool {
    [Problem::NotOwner, Problem::MissingScope].iter().any(|refusal| refusal.code() == problem.code)
}

fn text(look: &Look) -> String {
    let mut sessions = Table::new(["session", "tool", "user", "status", "started", "machine", ""]);
    for view in &look.sessions.sessions {
        sessions.add_row([
            view.id.to_string(),
            view.provider_name.clone(),
            view.user_id.clone().unwrap_or_default(),
            super::sessions::status(view),
            when(&view.created_at),
            format!("no. {}", view.generation),
            one_line(&view.next_action),
        ]);
    }
    let count = look.sessions.sessions.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!("{count} active session{plural}\n\n{sessions}\n");
    if let Some(list) = &look.machines {
        let mut machines = Table::new(["machine", "state", "requested", "memory", "session"]);
        for machine in &list.machines {
            let state = match machine.state {
                MachineState::Starting => "starting",
                MachineState::Ready => "ready",
                MachineState::Stopping => "stopping",
            };
            machines.add_row([
                machine.id.to_string(),
                state.to_owned(),
                when(&machine.requested_at),
                machine.memory_mib.map(|mib| format!("{mib} MiB")).unwrap_or_default(),
                machine.session.as_ref().map(ToString::to_string).unwrap_or_default(),
            ]);
        }
        text.push_str(&format!("\n{} machines\n\n{machines}\n", list.machines.len()));
    }
    text
}

/// The terminal's second screen; dropping it returns to the first.
struct Screen;

impl Screen {
    fn enter() -> Self {
        output::print_raw(ENTER_SCREEN);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::print_raw(LEAVE_SCREEN);
    }
}

/// Draws one look over the one before: what does not fit is cut.
fn show(client: &ApiClient, text: &str) {
    let (columns, rows) = terminal::size().unwrap_or((80, 24));
    let head = format!("anteroom top: {}. q quits.", client.server_name());
    let mut frame = "\u{1b}[H".to_owned();
    for line in [head.as_str(), ""].into_iter().chain(text.lines()).take(usize::from(rows).saturating_sub(1)) {
        frame.push_str(&cut(&one_line(line), usize::from(columns)));
        frame.push_str("\u{1b}[K\r\n");
    }
    frame.push_str("\u{1b}[J");
    output::print_raw(&frame);
}

fn cut(line: &str, columns: usize) -> String {
    if line.width() <= columns {
        return line.to_owned();
    }
    let mut width = 0;
    let fits = |char: &char| {
        width += char.width().unwrap_or_default();
        width < columns
    };
    line.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_is_cut_at_the_edge() {
        assert_eq!(super::cut("four", 4), "four");
        assert_eq!(super::cut("a line that is long", 6), "a lin…");
        assert_eq!(super::cut("日本語", 4), "日…");
    }
}
