//! How long starts of sessions take on three hosts with one database of PostgreSQL, at a steady rate: that a session begins on the host that
//! accepts it, and that a waiting one is taken by another.
//!
//! ```text
//! scripts/test_postgres.sh serve DIRECTORY -c fsync=on        # in another terminal; DIRECTORY is empty
//! cargo run --release -p anteroom-store --example measure_starts -- DIRECTORY [SECONDS]
//! ```

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "an example that prints its results")]

use anteroom_store::{
    Address, CreateSessionOutcome, NewCaller, NewHost, NewSession, NewSessionPlace, NewTimelineEntry, Role,
    RowsWithMacs, SessionPurpose, Store, StoreSettings,
};
use anteroom_vault::KeyRing;
use anteroom_wire::{CallerId, HostId, Secret, SessionId, TimelineKind};
use std::{collections::BTreeMap, error::Error, io, time::Duration};
use tokio::time::Instant;

const HOSTS: u8 = 3;
const RATES_PER_S: [u32; 2] = [50, 500];

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("the directory of the database")?;
    let seconds: u32 = arguments.next().map_or(Ok(20), |seconds| seconds.parse())?;
    let address: Address = Address::Postgres(
        format!("postgresql://anteroom@/postgres?host={directory}").parse().map_err(io::Error::other)?,
    );
    let keys = tempfile::tempdir()?;
    let ring = KeyRing::open_or_create(&keys.path().join("keys.json"))?;
    let owner = CallerId::from_parts(1, random()?);
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        let settings = StoreSettings { is_server: true, is_host_of_cluster: true, ..StoreSettings::default() };
        let store = Store::open(address.clone(), settings).await?;
        if number == 0 {
            store.add_row_macs(&ring, RowsWithMacs::None, || ring.mark_for_row_macs()).await?;
        }
        store.use_row_macs(ring.clone());
        store.hold_as(Some(store.join_host(&new_host(number)?).await?.holder));
        hosts.push(store);
    }
    let secret = Secret::new(hex(&random()?));
    let first = hosts.first().ok_or("no host")?;
    first.create_caller(&NewCaller::api_token(owner.clone(), Role::Backend, "Ada", &secret, 1)).await?;
    for rate in RATES_PER_S {
        for is_taken in [false, true] {
            measure(&hosts, &owner, rate, seconds, is_taken).await?;
        }
    }
    Ok(())
}

/// Starts at this rate, in turn on each host, and prints how long they took. `is_taken`: each is accepted by one host and taken by the next.
async fn measure(hosts: &[Store], owner: &CallerId, rate: u32, seconds: u32, is_taken: bool) -> Result<(), Failure> {
    let mut every = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut starts = Vec::new();
    for number in 0..usize::try_from(rate * seconds)? {
        // A start that is late counts from its time.
        let due = every.tick().await;
        let [accepts, takes] = [number, number + 1].map(|number| hosts.get(number % hosts.len()).cloned());
        let (Some(accepts), Some(takes), owner) = (accepts, takes, owner.clone()) else { continue };
        starts.push(tokio::spawn(async move {
            start(&accepts, is_taken.then_some(&takes), owner).await?;
            Ok::<_, Failure>(Instant::now() - due)
        }));
    }
    let mut took = Vec::new();
    for start in starts {
        took.push(start.await??);
    }
    took.sort();
    let at =
        |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    let what = if is_taken { "accepted by one host, taken by another" } else { "on the host that accepts it" };
    println!("{rate}/s, {what}: p50 {:.1?}, p95 {:.1?}, p99 {:.1?} (n = {})", at(50), at(95), at(99), took.len());
    Ok(())
}

async fn start(accepts: &Store, takes: Option<&Store>, owner: CallerId) -> Result<(), Failure> {
    let id = SessionId::from_parts(1, random()?);
    let place = match takes {
        Some(_) => NewSessionPlace::Waits { placement: None },
        None => NewSessionPlace::ThisHost,
    };
    let new = NewSession {
        id: id.clone(),
        owner,
        user_id: Some("ada@example.org".to_owned()),
        provider: "codex".parse()?,
        return_url: None,
        idempotency: None,
        created_at_ms: 1,
        idle_deadline_ms: None,
        deadline_ms: u64::from(u32::MAX),
        external: None,
        method: None,
        purpose: SessionPurpose::default(),
        settings: BTreeMap::new(),
        place,
        machines_by_caller_max: None,
    };
    let entry = NewTimelineEntry::new(1, TimelineKind::Accepted, "A session was accepted.");
    let created = accepts.create_session(&new, entry).await?;
    let is_taken = match takes {
        Some(takes) => takes.take_session(&id, None).await?,
        None => true,
    };
    let is_new = matches!(created, CreateSessionOutcome::New(_));
    if is_new && is_taken { Ok(()) } else { Err("the session was not started".into()) }
}

fn new_host(number: u8) -> Result<NewHost, Failure> {
    Ok(NewHost {
        id: HostId::from_parts(1, random()?),
        name: format!("host-{number}"),
        zone: None,
        labels: BTreeMap::new(),
        certificate: None,
        resumes: None,
        at_ms: 1,
    })
}

fn random() -> io::Result<[u8; 10]> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
