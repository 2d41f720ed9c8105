//! How long a change and a read of a session take with and without MACs of rows: `cargo run --release -p anteroom-store --example
//! measure_session_macs [CHANGES]`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "an example that prints its results")]

use anteroom_store::{
    CreateSessionOutcome, ExpectedState, NewCaller, NewSession, NewTimelineEntry, Role, RowsWithMacs, SessionChange,
    SessionPurpose, Store, StoreSettings,
};
use anteroom_vault::KeyRing;
use anteroom_wire::{CallerId, Secret, SessionId, TimelineKind};
use std::{error::Error, time::Instant};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let changes: u32 = std::env::args().nth(1).map_or(Ok(2_000), |number| number.parse())?;
    for with_macs in [false, true, false, true] {
        let directory = tempfile::tempdir()?;
        let store = Store::open(&directory.path().join("anteroom.db"), StoreSettings::default()).await?;
        if with_macs {
            let ring = KeyRing::open_or_create(&directory.path().join("keys.json"))?;
            store.add_row_macs(&ring, RowsWithMacs::None, || ring.mark_for_row_macs()).await?;
            store.use_row_macs(ring);
        }
        let session = create_session(&store).await?;
        let (mut change_us, mut read_us) = (Vec::new(), Vec::new());
        for _ in 0..changes {
            let begun = Instant::now();
            let change = SessionChange::new().with_cli_started(true);
            store.transition(&session, ExpectedState::Active, change, entry(TimelineKind::MethodChosen)).await?;
            change_us.push(begun.elapsed().as_micros());
            let begun = Instant::now();
            store.get_session(&session).await?;
            read_us.push(begun.elapsed().as_micros());
        }
        let [change, read] = [change_us, read_us].map(|mut all| {
            all.sort_unstable();
            (all.first().copied().unwrap_or_default(), all.get(all.len() / 2).copied().unwrap_or_default())
        });
        println!("MACs: {with_macs}; least and median of a change: {change:?} µs; of a read: {read:?} µs");
        store.close().await;
    }
    Ok(())
}

async fn create_session(store: &Store) -> Result<SessionId, Box<dyn Error>> {
    let owner = CallerId::from_parts(1, [1; 10]);
    let token = Secret::new("token".to_owned());
    store.create_caller(&NewCaller::api_token(owner.clone(), Role::Backend, "Ada", &token, 1)).await?;
    let new = NewSession {
        id: SessionId::from_parts(1, [2; 10]),
        owner,
        user_id: Some("ada@example.org".to_owned()),
        provider: "codex".parse()?,
        return_url: Some("https://example.org/done".to_owned()),
        idempotency: None,
        created_at_ms: 1,
        idle_deadline_ms: None,
        deadline_ms: u64::from(u32::MAX),
        external: None,
        method: None,
        purpose: SessionPurpose::default(),
        settings: std::collections::BTreeMap::new(),
        place: anteroom_store::NewSessionPlace::ThisHost,
        machines_by_caller_max: None,
    };
    match store.create_session(&new, entry(TimelineKind::Accepted)).await? {
        CreateSessionOutcome::New(row) => Ok(row.id),
        CreateSessionOutcome::Existing(_)
        | CreateSessionOutcome::IdempotencyKeyReused(_)
        | CreateSessionOutcome::MachineInUse(_) => Err("the database is not empty".into()),
    }
}

fn entry(kind: TimelineKind) -> NewTimelineEntry {
    NewTimelineEntry::new(1, kind, "It happened.")
}
