//! `POST /api/backup` and `POST /api/database/check`: work on the whole database, for operators on other hosts. One at a time.

use super::{error_response::ErrorResponse, extract::AuthenticatedCaller};
use crate::auth::{Auth, LiveCaller};
use anteroom_audit::{Action, Subject};
use anteroom_controller::{
    api_error::{ApiError, chain},
    backup::{self, BackupError, OpenBackup},
    session::context::SessionContext,
};
use anteroom_wire::{Problem, ProblemBody, operator_reports::DatabaseReport};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncReadExt,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Bytes of a backup that are read at once.
const PART_BYTES: usize = 64 * 1_024;
/// Time within which a client reads the next part of a backup, milliseconds.
pub(super) const READ_MS_MAX: u64 = 60_000;

/// The place for what works on the whole database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Maintenance(Arc<Semaphore>);

impl Default for Maintenance {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Maintenance {
    fn begin(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            ApiError::new(
                Problem::TooManyRequests,
                "another backup or check of the database is running; there is one at a time",
            )
        })
    }
}

/// Operators only: they see the cause.
fn failed(error: BackupError) -> ApiError {
    ApiError::new(Problem::Internal, chain(&error)).with_source(error)
}

/// Makes a backup and returns it: the sealed database and the audit trail, never the key file, which opens it. Operators only.
#[utoipa::path(post, operation_id = "create_backup", path = "/api/backup", responses(
    (status = 200, description = "The backup, a .tar.gz", content_type = "application/gzip"),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 429, description = "Another backup or check is running.", body = ProblemBody),
))]
pub(super) async fn create_backup(
    State(context): State<SessionContext>,
    State(auth): State<Auth>,
    State(maintenance): State<Maintenance>,
    AuthenticatedCaller(caller): AuthenticatedCaller,
) -> Result<Response, ErrorResponse> {
    let place = maintenance.begin()?;
    context.audit.record_before(Action::BackupCreate, Subject::default()).await?;
    let config = context.config();
    // It goes on when the client disconnects, so that the next one waits for its end.
    let made = context.tasks.spawn(async move { (backup::open_new_backup(&config).await, place) });
    let (made, place) = made.await.map_err(ApiError::internal)?;
    let OpenBackup { file, bytes, manifest } = made.map_err(failed)?;
    let live_caller = auth.live_callers.connect(&caller.id);
    let (sender, receiver) = mpsc::channel(1);
    let sending = Sending { file: file.into(), live_caller, stop: context.stop.clone(), _place: place };
    context.tasks.spawn(sending.run(sender));
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, bytes.into());
    let time: String = manifest.made_at.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"anteroom-{time}Z.tar.gz\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// A backup on its way to the client.
struct Sending {
    file: tokio::fs::File,
    live_caller: LiveCaller,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    /// Until the end of the file, or the client, its caller or the server ends it: then the response is shorter than it says.
    async fn run(mut self, sender: mpsc::Sender<io::Result<Bytes>>) {
        let ended = tokio::select! {
            sent = send_parts(&mut self.file, &sender) => sent,
            _ = self.live_caller.signal().wait_closed() => Err(io::ErrorKind::PermissionDenied.into()),
            () = self.stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
        };
        if let Err(error) = ended {
            tracing::warn!(outcome = "backup_not_sent", %error, "a backup was not sent completely");
            let _ = sender.try_send(Err(error));
        }
    }
}

async fn send_parts(file: &mut tokio::fs::File, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        if (&mut *file).take(PART_BYTES as u64).read_to_end(&mut part).await? == 0 {
            return Ok(());
        }
        match timeout(Duration::from_millis(READ_MS_MAX), sender.send(Ok(part.into()))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Checks the database on a copy: pages, references, the MAC of each row, the seal of each credential. Changes nothing. Operators only.
#[utoipa::path(post, operation_id = "check_database", path = "/api/database/check", responses(
    (status = 200, description = "What is wrong, and what the database contains.", body = DatabaseReport),
    (status = 403, description = "The caller is not an operator.", body = ProblemBody),
    (status = 429, description = "Another backup or check is running.", body = ProblemBody),
))]
pub(super) async fn check_database(
    State(context): State<SessionContext>,
    State(maintenance): State<Maintenance>,
) -> Result<Json<DatabaseReport>, ErrorResponse> {
    let place = maintenance.begin()?;
    let config = context.config();
    let checked = context.tasks.spawn(async move {
        let _place = place;
        backup::check_database(&config).await
    });
    Ok(Json(checked.await.map_err(ApiError::internal)?.map_err(failed)?))
}
