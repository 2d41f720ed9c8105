//! A full disk. In a separate program, because the file size limit that simulates it applies to the whole process.
#![allow(clippy::unwrap_used, reason = "a test reports errors by failing")]

use anteroom_audit::{Action, Entry, MacKeys, Trail, TrailSettings, verify};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// `SIGXFSZ` on Linux: sent with the failed write, ends the process unless it is handled (setrlimit(2)).
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn full_disk_loses_no_earlier_record_and_the_gap_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let settings = TrailSettings {
        dir: dir.path().join("audit"),
        head_copy: None,
        segment_bytes_max: 1 << 20,
        bytes_max: 1 << 30,
        age_s_max: 1 << 20,
    };
    let keys: MacKeys = [(1, [1; 32].into())].into_iter().collect();
    let trail = Trail::open(settings, keys.clone(), &[]).unwrap();
    for _ in 0..5 {
        trail.append(Entry::new(Action::SessionStart), true).await.unwrap();
    }
    let _handler = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let before = getrlimit(Resource::Fsize);
    let bytes = std::fs::metadata(trail.dir().join("audit-000001.jsonl")).unwrap().len();
    // Half of a record fits.
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes + 100), ..before }).unwrap();
    trail.append(Entry::new(Action::CredentialLease), true).await.unwrap_err();
    trail.append(Entry::new(Action::SessionStart), false).await.unwrap_err();
    assert!(trail.verify(Vec::new()).await.unwrap().intact, "no half record is left");
    setrlimit(Resource::Fsize, before).unwrap();
    trail.append(Entry::new(Action::SessionStart), false).await.unwrap();
    assert_eq!((trail.counters().records, trail.counters().failures), (8, 2));
    trail.close();
    let verification = verify(trail.dir(), &keys, &[]).unwrap();
    assert!(verification.intact && verification.last_seq == 8, "{verification:?}");
    let text = std::fs::read_to_string(trail.dir().join("audit-000001.jsonl")).unwrap();
    assert!(text.contains("credential.lease 1, session.start 1"), "{text}");
}
