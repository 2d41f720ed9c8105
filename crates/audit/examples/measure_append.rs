//! Measures what a record costs the request that causes it, and how fast a trail is verified.
//!
//! ```text
//! cargo run --release -p anteroom-audit --example measure_append -- DIR     # DIR: on the file system to measure
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_audit::{Action, Actor, Entry, MacKeys, Subject, Trail, TrailSettings, verify};
use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

const RECORDS: usize = 2_000;
const DURABLE_RECORDS: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(Path::new(&parent))?;
    let settings = TrailSettings {
        dir: dir.path().join("audit"),
        head_copy: None,
        segment_bytes_max: 8 << 20,
        bytes_max: 1 << 30,
        age_s_max: 1 << 30,
    };
    let keys: MacKeys = [(1, [1; 32].into())].into_iter().collect();
    let trail = Trail::open(settings, keys.clone(), &[])?;
    for (name, count, durable) in [("written", RECORDS, false), ("on the disk", DURABLE_RECORDS, true)] {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            trail.append(entry(), durable).await?;
            times.push(began.elapsed());
        }
        println!("append, {name}: {}", quantiles(times));
    }
    trail.close();
    let began = Instant::now();
    let verification = verify(trail.dir(), &keys, &[])?;
    println!("verify: {} records in {:?}", verification.records, began.elapsed());
    Ok(())
}

/// An entry as a session's start writes it.
fn entry() -> Entry {
    let id = |text: &str| Some(format!("{text}_01jd8v6x0m4r7w2k9c5b3n1q8z"));
    let (role, name) = (Some("backend".to_owned()), Some("production".to_owned()));
    let actor = Actor { id: id("clr"), kind: "token".to_owned(), role, name };
    let subject = Subject { session: id("ses"), user: Some("user-4711".to_owned()), ..Subject::default() };
    let request = Some("0123456789abcdef".to_owned());
    Entry { actor, subject, request, peer: Some("192.0.2.1".to_owned()), ..Entry::new(Action::SessionStart) }
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("p50 {:?}, p99 {:?}", at(50), at(99))
}
