//! The files of an audit trail that was tampered with.
#![no_main]

use anteroom_audit::{Filter, MacKeys, Order, list_records, verify};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::LazyLock};

/// The key of the seeds' MACs.
const KEY: [u8; 32] = [7; 32];
const FINDINGS_MAX: usize = 100;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("anteroom-fuzz-audit-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("the directory can be made");
    dir
});

fuzz_target!(|data: &[u8]| {
    // A zero byte separates two files.
    let mut files = data.splitn(2, |byte| *byte == 0);
    for number in 1..=2 {
        let path = DIR.join(format!("audit-{number:06}.jsonl"));
        fs::write(path, files.next().unwrap_or_default()).expect("the file can be written");
    }
    let keys: MacKeys = [(1, KEY.into())].into_iter().collect();
    let found = verify(&DIR, &keys, &[]).expect("the files can be read");
    assert_eq!(found.intact, found.findings.is_empty());
    assert!(found.findings.len() <= FINDINGS_MAX);
    if found.intact {
        assert_eq!(found.authenticated_to, found.last_seq, "a record that is not authenticated passes");
    }
    let records = list_records(&DIR, &Filter::default(), Order::Newest, 1_000).expect("the files can be read");
    for record in records {
        assert!(!record.to_csv().is_empty());
    }
});
