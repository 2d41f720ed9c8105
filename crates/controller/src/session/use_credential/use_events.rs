//! What the agent tells of a use: into the credential's health, and to the session's end.

use super::super::{
    active_session::{ActiveSession, SessionState},
    status::Progress,
    timeline,
};
use crate::{app::App, clock, outbox};
use anteroom_store::{
    CompleteUse, CredentialUse, Health, HealthUpdate, MessageSubject, NewEvent, StoreError, TimelineRow, UseOutcome,
};
use anteroom_wire::{
    Problem,
    agent::{Event, UsePurpose},
    webhook::{CREDENTIAL_NEEDS_AUTH, SESSION_ENDED},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the agent may take to say what stands on the terminal, milliseconds.
const SCREEN_MS_MAX: u64 = 2_000;
/// Entries of a timeline that are looked through.
const ENTRIES_MAX: u32 = 1_000;
/// The kind of the entry that says that a check has shown nothing.
pub const NOT_CONCLUSIVE: &str = "credential_check_inconclusive";

/// An event of a use.
#[derive(Debug)]
pub enum Told {
    /// The tool was asked.
    Checked {
        /// Whether it says that it is signed in.
        signed_in: bool,
        /// What it said, or why not.
        detail: String,
        /// Whether it said that itself.
        answered: bool,
    },
    /// The command has ended.
    Over {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Whether it had changed the credential.
        changed: bool,
    },
}

impl Told {
    /// What of an event concerns a use.
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::CredentialChecked { signed_in, detail, conclusive } => {
                Some(Self::Checked { signed_in: *signed_in, detail: detail.clone(), answered: *answered })
            }
            Event::UseCompleted { code, changed } => Some(Self::Over { code: *code, changed: *changed }),
            Event::Stage(_)
            | Event::CliStarted
            | Event::CliExited { .. }
            | Event::SignInUrl(_)
            | Event::DeviceCode { .. }
            | Event::PromptOpened { .. }
            | Event::PromptClosed { .. }
            | Event::KeysPressed { .. }
            | Event::Pasted(_)
            | Event::PasteRejected { .. }
            | Event::SignInOutcome(_)
            | Event::MethodSwitched { .. }
            | Event::CredentialKeptInMachine { .. }
            | Event::BrowserOpened { .. }
            | Event::BrowserNotOpened { .. }
            | Event::CandidateRejected { .. }
            | Event::CandidateAccepted { .. }
            | Event::DeliveryRetry { .. }
            | Event::ChildExited { .. }
            | Event::CrashLoop { .. }
            | Event::CrashLoopEnded { .. }
            | Event::MemoryPressure { .. }
            | Event::OutOfMemory { .. } => None,
        }
    }

    /// Acts on it. Doing so again changes nothing.
    ///
    /// # Errors
    /// The database cannot be written: the agent tells it again.
    pub async fn take(self, app: &App, session: &ActiveSession) -> Result<(), StoreError> {
        let Some(row) = app.store.session(&session.id).await? else { return Ok(()) };
        let Some(using) = row.purpose.credential_use() else {
            tracing::warn!(outcome = "not_a_use", session = %session.id, "an agent tells of a use in a session that is none");
            return Ok(());
        };
        match self {
            // Told on the timeline, and nothing else.
            Self::Checked { answered: false, .. } => Ok(()),
            Self::Checked { signed_in, detail, answered: true } => {
                checked(app, session, using, signed_in, &detail).await
            }
            Self::Over { code, changed } => over(app, session, using, code, changed).await,
        }
    }
}

async fn checked(
    app: &App,
    session: &ActiveSession,
    using: &CredentialUse,
    signed_in: bool,
    detail: &str,
) -> Result<(), StoreError> {
    if !signed_in && egress_was_unreachable(app, session).await? {
        // What could not ask says nothing of the credential.
        let sentence = "The machine could reach nothing that it asked for: this says nothing of the credential.";
        timeline::append_durably(
            app,
            &session.id,
            NOT_CONCLUSIVE,
            sentence.to_owned(),
            json!({ "credential": using.credential }),
        )
        .await?;
        return Ok(());
    }
    let said = if detail.trim().is_empty() { String::new() } else { format!(" It said: {}", detail.trim()) };
    let (health, sentence) = if signed_in {
        // What ends soon still does.
        let known = app.store.credential(&using.credential).await?.map(|row| row.health);
        let health = known.filter(|health| *health == Health::Expiring).unwrap_or(Health::Valid);
        (health, format!("The tool agreed when it was asked.{said}"))
    } else {
        (Health::NeedsAuth, format!("The tool did not agree when it was asked.{said}"))
    };
    conclude(app, session, using, health, &sentence).await
}

/// Names were asked for that the provider's list grants, and none could be reached.
async fn egress_was_unreachable(app: &App, session: &ActiveSession) -> Result<bool, StoreError> {
    timeline::flush(app, &session.id).await;
    let timeline = app.store.timeline(&session.id, 0, ENTRIES_MAX).await?;
    let away = [Problem::EgressUnreachable, Problem::EgressTimeout].map(Problem::code);
    let is_away = |entry: &TimelineRow| entry.data["reason"].as_str().is_some_and(|reason| away.contains(&reason));
    let tried = timeline.iter().any(|entry| entry.kind == "egress_denied" && is_away(entry));
    Ok(tried && !timeline.iter().any(|entry| entry.kind == "egress_allowed"))
}

async fn conclude(
    app: &App,
    session: &ActiveSession,
    using: &CredentialUse,
    health: Health,
    detail: &str,
) -> Result<(), StoreError> {
    let known = app.store.credential(&using.credential).await?;
    // Told once, not at each check.
    let is_news = health == Health::NeedsAuth && known.is_some_and(|row| row.health != Health::NeedsAuth);
    let about = (CREDENTIAL_NEEDS_AUTH, MessageSubject::Both(session.id.clone(), using.credential.clone()));
    let messages = if is_news { outbox::messages(app, &[about]) } else { Vec::new() };
    let update = HealthUpdate {
        credential: &using.credential,
        revision: using.revision,
        health,
        detail,
        checked_at_ms: Some(clock::now()),
        messages: &messages,
    };
    let written = app.store.set_health(&update).await?;
    outbox::wake_sender(app);
    tracing::info!(outcome = "credential_checked", credential = %using.credential, health = health.as_str(), written, "a credential's tool was asked");
    Ok(())
}

async fn over(
    app: &App,
    session: &ActiveSession,
    using: &CredentialUse,
    code: i32,
    changed: bool,
) -> Result<(), StoreError> {
    let state = session.state();
    let Some(token) = &state.agent_token else { return Ok(()) };
    let screen = match using.purpose {
        UsePurpose::Exec | UsePurpose::Logout => last_screen(&state).await,
        UsePurpose::Check => None,
    };
    if using.purpose == UsePurpose::Logout && code == 0 {
        conclude(app, session, using, Health::NeedsAuth, "It was signed out at the provider, as was requested.")
            .await?;
    }
    // A check tells what it finds; that it was done is nobody's news.
    let about = (SESSION_ENDED, MessageSubject::Both(session.id.clone(), using.credential.clone()));
    let messages = match using.purpose {
        UsePurpose::Exec | UsePurpose::Logout => outbox::messages(app, &[about]),
        UsePurpose::Check => Vec::new(),
    };
    let end = CompleteUse {
        session: &session.id,
        generation: state.generation,
        agent_token: token,
        exit_code: code,
        messages: &messages,
        at_ms: clock::now(),
    };
    let event = NewEvent::new(clock::now(), "completed", outcome_sentence(using.purpose, code))
        .with(json!({ "credential": using.credential, "code": code, "changed": changed }));
    timeline::flush(app, &session.id).await;
    match app.store.complete_use(&end, event).await? {
        UseOutcome::Completed { .. } => {
            outbox::wake_sender(app);
            app.exec_cache.over(&session.id, screen);
            tracing::info!(outcome = "completed", session = %session.id, credential = %using.credential, purpose = ?using.purpose, code, changed, "the use of a credential ended");
            session.close(Problem::UseCompleted);
        }
        UseOutcome::Ignored(row) => {
            if let Some(end) = row.end() {
                session.close(end.reason.problem);
            }
        }
        UseOutcome::WrongToken => {
            tracing::warn!(outcome = "not_the_machine", session = %session.id, "a machine that was replaced tells of the end of a use");
        }
    }
    Ok(())
}

/// Kind, sentence and data for the timeline of what the agent says of the tool where it is a command that uses a credential; `None`: it
/// is said as always. What a command of the owner's printed stays out of the database: it may be the credential itself.
///
/// # Errors
/// The database cannot be read.
pub async fn words(
    app: &App,
    session: &ActiveSession,
    event: &Event,
) -> Result<Option<(&'static str, String, Value)>, StoreError> {
    let ended = if let Event::CliExited { code, last_lines } = event { Some((code, last_lines)) } else { None };
    if ended.is_none() && *event != Event::CliStarted {
        return Ok(None);
    }
    let row = app.store.session(&session.id).await?;
    let Some(purpose) = row.and_then(|row| row.purpose.credential_use().map(|using| using.purpose)) else {
        return Ok(None);
    };
    let Some((code, last_lines)) = ended else {
        return Ok(Some(("cli_started", "The command was started.".to_owned(), Value::Null)));
    };
    let data = match purpose {
        UsePurpose::Exec => json!({ "code": code }),
        UsePurpose::Check | UsePurpose::Logout => json!({ "code": code, "last_lines": last_lines }),
    };
    Ok(Some(("cli_exited", format!("The command has ended with exit code {code}."), data)))
}

/// How a use ended, one sentence.
pub fn outcome_sentence(purpose: UsePurpose, code: i32) -> String {
    match (purpose, code) {
        (UsePurpose::Exec, _) => format!("The command with the stored credential ended with exit code {code}."),
        (UsePurpose::Check, 126 | 127 | 129..=192) => "The tool could not be asked whether it is signed in.".to_owned(),
        (UsePurpose::Check, _) => "The tool was asked whether it is signed in.".to_owned(),
        (UsePurpose::Logout, 0) => "The tool signed out at the provider.".to_owned(),
        (UsePurpose::Logout, _) => format!("The tool's sign-out ended with exit code {code}."),
    }
}

/// What the command printed, as the agent kept it.
async fn last_screen(state: &SessionState) -> Option<Vec<String>> {
    let Progress::Open { channels } = &state.progress else { return None };
    let asked = tokio::time::timeout(Duration::from_millis(SCREEN_MS_MAX), channels.agent.screen()).await;
    Some(asked.ok()?.ok()?.lines)
}
