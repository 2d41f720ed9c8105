//! The key file is created once with private permissions; every fault is an error with a remedy.
#![allow(clippy::unwrap_used, reason = "a test reports errors by failing")]

use anteroom_vault::{KeyError, KeyRing};
use std::{
    fs,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

struct TestDirectory {
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn test_directory() -> TestDirectory {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    TestDirectory { directory, path }
}

fn write(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn base64(bytes: usize) -> String {
    serde_json::to_string(&anteroom_wire::Base64::new(vec![9; bytes])).unwrap()
}

/// The text of an error and its sources.
fn message(error: &KeyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn the_first_start_creates_a_private_file_and_the_second_reads_it() {
    let test = test_directory();
    let first = KeyRing::open_or_create(&test.path).unwrap();
    assert_eq!(fs::metadata(&test.path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(test.directory.path()).unwrap().count(), 1, "no temporary file is left");
    let second = KeyRing::open_or_create(&test.path).unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
}

#[test]
fn concurrent_first_starts_share_one_file() {
    let test = test_directory();
    let fingerprints: Vec<String> = std::thread::scope(|scope| {
        let path = &test.path;
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(move || KeyRing::open_or_create(path).unwrap().fingerprint())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]), "{fingerprints:?}");
    assert_eq!(fs::read_dir(test.directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_missing_file_is_not_replaced_by_open() {
    let test = test_directory();
    let error = KeyRing::open(&test.path).unwrap_err();
    assert!(matches!(error, KeyError::Missing { .. }), "{error}");
    assert!(message(&error).contains("backup"));
    assert!(!test.path.exists());
}

#[test]
fn a_file_with_wrong_permissions_is_rejected_with_a_remedy() {
    let test = test_directory();
    KeyRing::open_or_create(&test.path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&test.path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::open_or_create(&test.path).unwrap_err();
        assert!(matches!(error, KeyError::WrongPermissions { mode: found, .. } if found == mode), "{error}");
        assert!(message(&error).contains("chmod 600"));
    }
}

#[test]
fn a_malformed_file_is_rejected_with_the_cause_and_not_changed() {
    let valid_key = base64(32);
    let cases = [
        (String::new(), "not the expected JSON"),
        ("not json".to_owned(), "not the expected JSON"),
        (r#"{"version": 1, "keys": []}"#.to_owned(), "no key"),
        (format!(r#"{{"version": 3, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {valid_key}}}]}}"#), "version 3"),
        (
            format!(r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {}}}]}}"#, base64(31)),
            "31 bytes",
        ),
        (format!(r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {}}}]}}"#, base64(0)), "0 bytes"),
        (r#"{"version": 1, "keys": [{"id": 1, "created_unix_ms": 0, "key": "%%SECRET%%"}]}"#.to_owned(), "line 1"),
        (
            format!(
                r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {valid_key}}}, {{"id": 1, "created_unix_ms": 0, "key": {valid_key}}}]}}"#
            ),
            "two keys",
        ),
        (" ".repeat(300 * 1024), "more than"),
    ];
    for (text, cause) in cases {
        let test = test_directory();
        write(&test.path, &text);
        let error = KeyRing::open_or_create(&test.path).unwrap_err();
        let message = message(&error);
        assert!(message.contains(cause), "{message}: expected {cause:?}");
        assert!(message.contains("backup"), "{message}: has no remedy");
        assert!(
            !message.contains("SECRET") && !message.contains(valid_key.trim_matches('"')),
            "{message}: contains a key"
        );
        assert_eq!(fs::read_to_string(&test.path).unwrap(), text, "the file must not change");
    }
}

#[test]
fn a_directory_at_the_path_or_a_missing_directory_is_an_error() {
    let test = test_directory();
    fs::create_dir(&test.path).unwrap();
    fs::set_permissions(&test.path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(message(&KeyRing::open_or_create(&test.path).unwrap_err()).contains("not a regular file"));
    let nowhere = test.directory.path().join("no/such/keys.json");
    assert!(matches!(KeyRing::open_or_create(&nowhere).unwrap_err(), KeyError::Unwritable { .. }));
}

#[test]
fn another_key_file_is_recognised_and_a_rotated_one_is_accepted() {
    let test = test_directory();
    let ring = KeyRing::open_or_create(&test.path).unwrap();
    let stored = ring.fingerprint();
    ring.check_fingerprint(&stored).unwrap();
    let rotated = KeyRing::open(&test.path).unwrap();
    rotated.install(rotated.add_key().unwrap());
    rotated.check_fingerprint(&stored).unwrap();
    // The old key file with the new fingerprint: they share a key, so it is accepted.
    ring.check_fingerprint(&rotated.fingerprint()).unwrap();

    let other = KeyRing::open_or_create(&test.directory.path().join("other.json")).unwrap();
    for (ring, stored) in
        [(&other, stored.as_str()), (&ring, other.fingerprint().as_str()), (&ring, ""), (&ring, "7:00")]
    {
        let error = ring.check_fingerprint(stored).unwrap_err();
        assert!(matches!(error, KeyError::FingerprintMismatch { .. }), "{error}");
        assert!(message(&error).contains("restore the right key file"));
    }
}

#[test]
fn debug_output_and_fingerprint_reveal_no_key() {
    let test = test_directory();
    let ring = KeyRing::open_or_create(&test.path).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&fs::read(&test.path).unwrap()).unwrap();
    let key = file["keys"][0]["key"].as_str().unwrap();
    let shown = format!("{ring:?} {}", ring.fingerprint());
    assert!(!shown.contains(&key[..12]), "{shown}");
}
