//! The sign-in of `anteroom login` and `anteroom credentials renew`: start the session, print the link, show progress, wait for the
//! end.

use super::{
    client::ApiClient,
    output::print_link,
    print_line,
    prompt_responder::{PromptResponder, Question},
    qr::{self, QrMode},
    stop::{self, Run},
    watch::{self, SessionUpdate},
};
use anteroom_wire::{
    Secret, TimelineKind,
    api::{CredentialMeta, SessionStatus, SessionView, StartRequest, StartResponse},
    provider::Lane,
    situation::{PersonAction, Phase, Situation},
};
use std::{io::IsTerminal, process::Stdio};
use tokio::sync::watch as channel;

/// How the link is shown.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct LinkArguments {
    /// Print the link without opening a browser.
    #[arg(long)]
    no_open: bool,
    /// Print the link also as a QR code, for a phone.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    qr: QrMode,
}

/// Starts a sign-in and waits for its end. If this program is to stop before, the session is cancelled.
///
/// # Errors
/// The start was rejected, or the sign-in failed; the text has the reason.
pub(super) async fn sign_in(
    client: &ApiClient,
    request: &StartRequest,
    show: LinkArguments,
) -> anyhow::Result<Run<Box<CredentialMeta>>> {
    sign_in_with_key(client, request, show, None).await
}

/// As [`sign_in`]; enters `key` at the tool's first prompt for a secret.
///
/// # Errors
/// As [`sign_in`].
pub(super) async fn sign_in_with_key(
    client: &ApiClient,
    request: &StartRequest,
    show: LinkArguments,
    key: Option<Secret>,
) -> anyhow::Result<Run<Box<CredentialMeta>>> {
    stop::run_session(client, "/api/auth/start", request, async |started| {
        print_line(format_args!("Open this link to sign in to {}:\n", started.session.provider_name));
        print_link("  ", &started.viewer_url);
        print_line("");
        qr::print(&started.viewer_url, show.qr);
        print_line(format_args!("{}\n", started.session.policy_sentence));
        if !show.no_open && std::io::stdout().is_terminal() {
            open_browser(&started.viewer_url);
        }
        let view = follow_to_end(client, started, key).await?;
        match (view.status, view.credential) {
            (SessionStatus::Completed, Some(credential)) => Ok(Box::new(credential)),
            (_, _) => {
                let reason = view.reason.map_or_else(String::new, |reason| reason.sentence);
                anyhow::bail!("not signed in: {reason} See: anteroom sessions {}", view.id)
            }
        }
    })
    .await
}

/// Prints the progress of a session until it has ended, answers the tool's prompts, and returns the final state.
///
/// # Errors
/// The server rejects a request or is not reachable, or the key was rejected.
pub(super) async fn follow_to_end(
    client: &ApiClient,
    started: &StartResponse,
    key: Option<Secret>,
) -> anyhow::Result<SessionView> {
    let id = &started.session.id;
    let (prompt, prompts) = channel::channel(None);
    let mut display = SignInDisplay { prompt, ..SignInDisplay::default() };
    let responder = PromptResponder { client, session: id, key };
    tokio::select! {
        view = watch::follow_session(client, id, |update| display.update(update)) => Ok(view?),
        stopped = responder.run(prompts) => match stopped? {},
    }
}

/// Prints the changes of a sign-in and publishes what the person can answer.
#[derive(Default)]
struct SignInDisplay {
    code: Option<String>,
    url: Option<String>,
    /// The warning about a page that is not the provider's.
    warning: Option<String>,
    /// The tool is signed in and its credential stays in the machine.
    is_kept: bool,
    /// What was said last of a sign-in that stopped.
    trouble: Option<String>,
    /// How often the tool was started.
    starts: u32,
    /// The tool has ended and can be started again.
    is_stopped: bool,
    prompt: channel::Sender<Option<Question>>,
}

impl SignInDisplay {
    fn update(&mut self, update: SessionUpdate) {
        let view = match update {
            SessionUpdate::Entry(entry) if is_for_operators(entry.kind) => return,
            SessionUpdate::Entry(entry) => {
                self.starts += u32::from(entry.kind == TimelineKind::CliStarted);
                return print_line(format_args!("  {}", entry.sentence));
            }
            SessionUpdate::View(view) => view,
        };
        let question = question(&view, self.starts);
        self.prompt.send_if_modified(|open| std::mem::replace(open, question.clone()) != question);
        self.show_trouble(&view);
        if view.sign_in.kept_in_machine && !self.is_kept {
            self.is_kept = true;
            print_line(format_args!("  → {} Press Ctrl-C to end the session.", view.next_action));
        }
        let needs_browser = view.lanes.iter().any(|lane| matches!(lane, Lane::Link | Lane::DeviceCode));
        if needs_browser && view.sign_in.url != self.url {
            self.url.clone_from(&view.sign_in.url);
            if let Some(url) = &self.url {
                print_link("  → open ", url);
            }
        }
        let warning = view.sign_in.unexpected_address.as_ref().map(|unexpected| unexpected.sentence.clone());
        if warning != self.warning {
            if let Some(sentence) = &warning {
                print_line(format_args!("  → warning: {sentence}"));
            }
            self.warning = warning;
        }
        if view.sign_in.device_code != self.code {
            self.code.clone_from(&view.sign_in.device_code);
            if let Some(code) = &self.code {
                print_line(format_args!("  → enter the code {code}"));
            }
        }
    }

    /// Says what went wrong, once, and what the person can do.
    fn show_trouble(&mut self, view: &SessionView) {
        let for_person = &view.for_person;
        let is_trouble = matches!(for_person.phase, Phase::NeedsAttention | Phase::Failed)
            && for_person.situation != Situation::SavingDelayed;
        let trouble =
            is_trouble.then(|| format!("{}. {}", for_person.title.trim_end_matches('.'), for_person.sentence));
        if let Some(text) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            print_line(format_args!("  → {text}"));
            if for_person.situation == Situation::NotSaved {
                print_line(format_args!("  → The cause: anteroom diagnose {}", view.id));
            }
        }
        self.trouble = trouble;
        let is_open =
            question(view, self.starts).is_some_and(|question| matches!(question, Question::StartAgain { .. }));
        if is_open && !self.is_stopped && !std::io::stdin().is_terminal() {
            print_line("  → Go on at the link above, or press Ctrl-C to end the session.");
        }
        self.is_stopped = is_open;
    }
}

/// Entries that say nothing to a person who signs in: hosts that the machine's browser asked for of its own accord, and counters.
fn is_for_operators(kind: TimelineKind) -> bool {
    matches!(
        kind,
        TimelineKind::EgressAllowed
            | TimelineKind::EgressDenied
            | TimelineKind::EgressFull
            | TimelineKind::EgressTotals
            | TimelineKind::WebhookDelivered
            | TimelineKind::WebhookFailed
            | TimelineKind::WebhookAbandoned
    )
}

/// What the person can answer now: the tool's prompt, or whether the tool is started again.
fn question(view: &SessionView, starts: u32) -> Option<Question> {
    if let Some(prompt) = &view.sign_in.prompt {
        return Some(Question::Prompt(prompt.clone()));
    }
    let can_restart = view.for_person.actions.contains(&PersonAction::RestartTool);
    let has_stopped = matches!(view.for_person.phase, Phase::NeedsAttention | Phase::Failed) && can_restart;
    has_stopped.then(|| Question::StartAgain { tool: view.provider_name.clone(), method: view.method.clone(), starts })
}

#[expect(clippy::disallowed_methods, reason = "opens the user's browser")]
fn open_browser(url: &str) {
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
