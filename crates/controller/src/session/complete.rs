//! A delivery: check, seal, store and complete in one transaction, read back, and only then let the machine go.

use super::{live::Live, note, shape};
use crate::{app::App, clock, random, refusal::Refusal, refusal::chain, webhook};
use anteroom_store::{Completed, Completion, Kept, NewCredential, NewEvent, SessionRow, Sha256Hex};
use anteroom_vault::Binding;
use anteroom_wire::{
    CredentialId, Problem, Secret,
    agent::{Delivered, DeliveredFile, Delivery},
    api::CredentialFile,
};
use zeroize::Zeroizing;

/// Files of one delivery.
const FILES_MAX: usize = 8;

/// Takes a delivery. A second one is ignored. An error of the database leaves everything as it was: the agent keeps the
/// bytes and tries again.
///
/// # Errors
/// Unknown session, wrong token, wrong shape, or the database cannot be written.
pub async fn complete(app: &App, token: &Secret, delivery: &Delivery) -> Result<Delivered, Refusal> {
    let row = app.store.session(&delivery.session).await?.ok_or(Problem::UnknownSession)?;
    let token = Sha256Hex::of_secret(token);
    if row.agent_token.as_ref() != Some(&token) || row.generation != delivery.generation {
        return Err(Problem::WrongAgentToken.into());
    }
    let live = app.sessions.get(&row.id);
    // As long as this is held, nobody stops the machine that waits for the answer.
    let _receiving = live.as_ref().and_then(Live::receive);
    let answer = take(app, row, &token, delivery).await;
    if let Some(live) = &live {
        live.change(|facts| facts.offered = !is_final(&answer));
    }
    answer
}

/// Whether the agent will not send it again.
fn is_final(answer: &Result<Delivered, Refusal>) -> bool {
    match answer {
        Ok(Delivered::Stored { .. } | Delivered::Ignored) => true,
        Err(refusal) => {
            let status = refusal.problem.http_status();
            (400..500).contains(&status) && !matches!(status, 408 | 429)
        }
    }
}

async fn take(app: &App, row: SessionRow, token: &Sha256Hex, delivery: &Delivery) -> Result<Delivered, Refusal> {
    if !row.is_active() {
        return ignore(app, &row).await;
    }
    check(app, &row, delivery)?;
    let id = random::id(CredentialId::from_parts);
    // Permission bits and no others: a leased file must not bring a set-user-id bit along.
    let files: Vec<DeliveredFile> =
        delivery.files.iter().map(|file| DeliveredFile { mode: file.mode & 0o777, ..file.clone() }).collect();
    let plaintext = Zeroizing::new(serde_json::to_vec(&files).map_err(|_| Problem::Internal)?);
    let binding = Binding { record: &id, owner: &row.owner, provider: &row.provider, session: &row.id };
    let sealed = app.vault.seal(&binding, &plaintext).map_err(|error| seal_failed(&row, &error))?;
    let files: Vec<CredentialFile> = files.iter().map(described).collect();
    let messages = webhook::completion(app, &row.id, &id);
    let completion = Completion {
        session: &row.id,
        generation: delivery.generation,
        agent_token: token,
        credential: NewCredential {
            id: &id,
            sealed: &sealed,
            files: &files,
            kept: Kept::UntilDeleted,
            ends_at_ms: None,
        },
        messages: &messages,
        at_ms: clock::now(),
    };
    let sentence = format!("The credential was sealed and stored ({} file(s)).", files.len());
    let event = NewEvent::new(clock::now(), "completed", sentence).with(serde_json::json!({ "credential": id }));
    note::settled(app, &row.id).await;
    match app.store.complete_with_credential(&completion, event).await? {
        Completed::Ignored(row) => ignore(app, &row).await,
        Completed::WrongToken => Err(Problem::WrongAgentToken.into()),
        Completed::NothingToRenew => Err(Problem::UnknownCredential.into()),
        Completed::Stored { credential, .. } => {
            verify(app, &binding, &plaintext).await?;
            webhook::ring(app);
            tracing::info!(outcome = "completed", session = %row.id, credential = %credential.id, "a credential was sealed, stored and read back");
            if let Some(live) = app.sessions.get(&row.id) {
                live.close(Problem::CompletedAlready);
            }
            Ok(Delivered::Stored { credential: credential.id })
        }
    }
}

/// A second delivery changes nothing. If the first one's record could not be read back then, it is now, before anybody
/// lets the machine go.
async fn ignore(app: &App, row: &SessionRow) -> Result<Delivered, Refusal> {
    let (Some(end), Some(live)) = (row.end(), app.sessions.get(&row.id)) else { return Ok(Delivered::Ignored) };
    if let Some(id) = row.credential() {
        let binding = Binding { record: id, owner: &row.owner, provider: &row.provider, session: &row.id };
        if let Some(sealed) = app.store.read_back(id).await? {
            app.vault.unseal(&binding, &sealed).map_err(|error| seal_failed(row, &error))?;
        }
    }
    live.close(end.reason.problem);
    Ok(Delivered::Ignored)
}

fn check(app: &App, row: &SessionRow, delivery: &Delivery) -> Result<(), Refusal> {
    let wrong = |detail: String| Refusal::new(Problem::WrongShape, detail);
    if delivery.provider != row.provider {
        return Err(wrong(format!("the session is for {}", row.provider)));
    }
    let provider = app.providers.get(&row.provider).ok_or(Problem::UnknownProvider)?;
    let first = delivery.files.first().ok_or_else(|| wrong("no file".into()))?;
    if delivery.files.len() > FILES_MAX {
        return Err(wrong(format!("more than {FILES_MAX} files")));
    }
    // Whoever leases the credential may write the files where they say: nothing but the provider's own paths, each once.
    for (at, file) in delivery.files.iter().enumerate() {
        if !provider.credential.paths.contains(&file.path) {
            return Err(wrong(format!("the path of file {} is not one of the provider's", at + 1)));
        }
        if delivery.files[..at].iter().any(|before| before.path == file.path) {
            return Err(wrong(format!("file {} is there twice", at + 1)));
        }
    }
    shape::check(&provider.credential, first.content.expose()).map_err(wrong)
}

fn described(file: &DeliveredFile) -> CredentialFile {
    CredentialFile { path: file.path.clone(), bytes: file.content.expose().len() as u64, mode: file.mode }
}

/// The record as the database has it now, opened again: the same bytes. Until this is so the machine stays, and the agent
/// is not told that it is done.
async fn verify(app: &App, binding: &Binding<'_>, plaintext: &[u8]) -> Result<(), Refusal> {
    let back = app.store.read_back(binding.record).await?;
    let opened = back.as_ref().map(|sealed| app.vault.unseal(binding, sealed));
    if matches!(&opened, Some(Ok(bytes)) if bytes.as_slice() == plaintext) {
        return Ok(());
    }
    let why = match &opened {
        Some(Err(error)) => chain(error),
        Some(Ok(_)) => "other bytes came back".into(),
        None => "the record is not there".into(),
    };
    tracing::error!(outcome = "read_back_failed", credential = %binding.record, why, "a stored credential does not read back");
    Err(Problem::Internal.into())
}

fn seal_failed(row: &SessionRow, error: &anteroom_vault::SealError) -> Refusal {
    tracing::error!(outcome = "seal_failed", session = %row.id, error = %chain(error), "a credential could not be sealed");
    Problem::Internal.into()
}
