//! Erases what is stored about a user on request, and about sessions that ended long ago.
//!
//! | what | an erasure |
//! |---|---|
//! | sessions, timelines, credentials, leases, tickets, viewers, webhook messages | deletes them; their pages are overwritten |
//! | receipts of their machines, support bundles of their sessions | deletes the files |
//! | log lines, the audit | stay: they have ids of sessions, not of users; the log is bounded by `log.files_kept_max` |
//! | what was sent to the webhook, backups of the state directory | stay: they are outside of this server |

mod of_hosts;

pub use of_hosts::erase_for;

use crate::{
    api_error::{ApiError, chain},
    backup::DATABASE_NAME,
    retention::{BUNDLE_SUFFIX, RECEIPT_SUFFIX, list_files, remove_file},
    session::{context::SessionContext, end::end_session, server_context::ServerContext},
    unix_time,
};
use anteroom_store::{ErasedRows, ErasedUser, KEPT_S_MAX, remove_migration_copies};
use anteroom_wire::{
    EndReason, Problem, SessionId,
    hosts::ErasedFiles,
    operator_reports::{EraseReport, EraseRequest},
};
use std::{path::Path, time::Duration};

/// The longest wait for the machines of the user's active sessions, and the time between two looks.
const END_WAIT_MAX: Duration = Duration::from_secs(60);
const END_POLL: Duration = Duration::from_millis(50);
/// The time between two runs of the job.
const JOB_INTERVAL: Duration = Duration::from_secs(600);
/// Sessions that one transaction of the job deletes.
const BATCH: u32 = 50;

/// What an erasure leaves, one sentence each.
const STAYS: [&str; 3] = [
    "Log lines and the audit: they name sessions, not users; the log is deleted by its own limits.",
    "What was sent to the webhook.",
    "Backups of the state directory.",
];

/// Cancels the active sessions of a user, waits until their machines are removed, and deletes everything that is stored about the user.
/// Idempotent: a repeated request deletes nothing.
///
/// # Errors
/// The user's id is empty, the machines do not end in time, or the database cannot be written: then nothing was deleted.
pub async fn erase_user(context: &SessionContext, request: &EraseRequest) -> Result<EraseReport, ApiError> {
    if request.user_id.is_empty() {
        return Err(ApiError::new(Problem::Malformed, "user_id is empty"));
    }
    let user = ErasedUser { user_id: &request.user_id, owner: request.caller.as_ref() };
    let sessions = context.store.list_sessions_of_user(user).await?;
    let active: Vec<_> =
        sessions.iter().filter(|session| session.is_active).map(|session| session.id.clone()).collect();
    // Also those that have ended: a machine that is being stopped leaves a receipt.
    let sessions: Vec<SessionId> = sessions.into_iter().map(|session| session.id).collect();
    of_hosts::end_sessions(context, &active, &sessions).await?;
    let rows = context.store.erase_user(user).await?;
    remove_copies(context, Duration::ZERO).await;
    let mut report = finish(context, &rows);
    of_hosts::remove_files(context, &rows, &mut report).await;
    // Without the user's id: this line stays.
    tracing::info!(
        outcome = "user_erased",
        sessions = report.sessions,
        credentials = report.credentials,
        timeline_entries = report.timeline_entries,
        "a user's data erased"
    );
    Ok(report)
}

/// Ends active sessions that this host holds or that wait, and waits until nothing of `all` is left here.
async fn end_own(context: &SessionContext, active: &[SessionId], all: &[SessionId]) -> Result<(), ApiError> {
    for session in active {
        end_session(context, session, EndReason::Cancelled, "The user is erased.").await?;
    }
    wait_ended(context, all).await
}

async fn wait_ended(context: &SessionContext, sessions: &[SessionId]) -> Result<(), ApiError> {
    let ended = async {
        while sessions.iter().any(|id| context.sessions.get(id).is_some()) {
            tokio::time::sleep(END_POLL).await;
        }
        for session in sessions {
            context.timeline.wait_written(session).await;
        }
    };
    let ended = tokio::time::timeout(END_WAIT_MAX, ended).await;
    ended.map_err(|_| {
        ApiError::new(Problem::NotReady, "the machines of the user's sessions have not ended in time; try again")
    })
}

/// Removes copies of the database from before a migration, which have what is erased.
async fn remove_copies(context: &SessionContext, age_min: Duration) {
    let path = context.config().state_dir.join(DATABASE_NAME);
    let removed = tokio::task::spawn_blocking(move || remove_migration_copies(&path, age_min)).await;
    match removed.map_err(std::io::Error::other).flatten() {
        Ok(0) => {}
        Ok(removed) => tracing::info!(
            outcome = "migration_copies_removed",
            removed,
            "copies of the database from before a migration removed"
        ),
        Err(error) => {
            tracing::warn!(outcome = "migration_copies_kept", %error, "copies of the database from before a migration not removed")
        }
    }
}

/// Deletes the files that belong to erased rows.
fn finish(context: &SessionContext, rows: &ErasedRows) -> EraseReport {
    let machines: Vec<String> = rows.machines.iter().map(ToString::to_string).collect();
    let sessions: Vec<String> = rows.sessions.iter().map(ToString::to_string).collect();
    let ErasedFiles { receipts, bundles } = remove_own_files(context, &machines, &sessions);
    EraseReport {
        sessions: rows.sessions.len() as u64,
        timeline_entries: rows.timeline_entries,
        credentials: rows.credentials,
        leases: rows.leases,
        tickets: rows.tickets,
        viewers: rows.viewers,
        messages: rows.messages,
        receipts,
        bundles,
        stays: STAYS.map(str::to_owned).to_vec(),
    }
}

fn remove_own_files(context: &SessionContext, machines: &[String], sessions: &[String]) -> ErasedFiles {
    ErasedFiles {
        receipts: remove_files(&context.config().receipts_dir(), RECEIPT_SUFFIX, machines),
        bundles: remove_files(&context.config().bundles_dir(), BUNDLE_SUFFIX, sessions),
    }
}

/// Removes the files whose names contain one of these ids; returns how many.
fn remove_files(dir: &Path, suffix: &str, ids: &[String]) -> u64 {
    let files = match list_files(dir, suffix) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(outcome = "files_not_erased", dir = %dir.display(), %error, "files of an erased session not listed");
            return 0;
        }
    };
    let mut removed = 0;
    for file in files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            match remove_file(&file) {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(outcome = "file_not_erased", file = name, %error, "file of an erased session not removed");
                }
            }
        }
    }
    removed
}

/// Deletes sessions that ended `retention.sessions_s_max` ago. Runs until the server stops.
pub async fn run_retention_job(server_context: ServerContext) {
    loop {
        let age_ms = server_context.config().retention.sessions_s_max.saturating_mul(1_000);
        let before_ms = unix_time::now_unix_ms().saturating_sub(age_ms);
        match server_context.store.erase_ended_sessions(before_ms, BATCH).await {
            Ok(rows) if rows.sessions.is_empty() => {}
            Ok(rows) => {
                let report = finish(&server_context, &rows);
                tracing::info!(
                    outcome = "sessions_erased",
                    sessions = report.sessions,
                    timeline_entries = report.timeline_entries,
                    "sessions that ended long ago erased"
                );
                continue;
            }
            Err(error) => {
                tracing::warn!(outcome = "retention_delayed", error = %chain(&error), "deletion of old sessions delayed");
            }
        }
        remove_copies(&server_context, Duration::from_secs(KEPT_S_MAX)).await;
        tokio::select! {
            () = tokio::time::sleep(JOB_INTERVAL) => {}
            () = server_context.stop.cancelled() => return,
        }
    }
}
