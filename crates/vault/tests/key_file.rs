//! The key file is made once, privately, and refused with a remedy when anything is wrong with it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use anteroom_vault::{KeyError, KeyRing};
use std::{
    fs,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    Place { directory, path }
}

fn write(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn base64(bytes: usize) -> String {
    serde_json::to_string(&anteroom_wire::Base64::new(vec![9; bytes])).unwrap()
}

/// The sentences of an error and its sources.
fn told(error: &KeyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn the_first_start_makes_a_private_file_and_the_second_reads_it() {
    let place = place();
    let first = KeyRing::open_or_create(&place.path).unwrap();
    assert_eq!(fs::metadata(&place.path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1, "nothing is left beside it");
    let second = KeyRing::open_or_create(&place.path).unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
}

#[test]
fn many_first_starts_at_once_agree_on_one_file() {
    let place = place();
    let prints: Vec<String> = std::thread::scope(|scope| {
        let path = &place.path;
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| KeyRing::open_or_create(path).unwrap().fingerprint())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_missing_file_is_not_replaced_by_open() {
    let place = place();
    let error = KeyRing::open(&place.path).unwrap_err();
    assert!(matches!(error, KeyError::Missing { .. }), "{error}");
    assert!(told(&error).contains("backup"));
    assert!(!place.path.exists());
}

#[test]
fn a_file_that_others_can_use_is_refused_with_the_command_that_mends_it() {
    let place = place();
    KeyRing::open_or_create(&place.path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::open_or_create(&place.path).unwrap_err();
        assert!(matches!(error, KeyError::OpenToOthers { mode: found, .. } if found == mode), "{error}");
        assert!(told(&error).contains("chmod 600"));
    }
}

#[test]
fn what_is_not_a_key_file_is_refused_by_cause_and_left_as_it_is() {
    let good = base64(32);
    let cases = [
        (String::new(), "not the expected JSON"),
        ("not json".to_owned(), "not the expected JSON"),
        (r#"{"version": 1, "keys": []}"#.to_owned(), "no key"),
        (format!(r#"{{"version": 2, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {good}}}]}}"#), "version 2"),
        (
            format!(r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {}}}]}}"#, base64(31)),
            "31 bytes",
        ),
        (format!(r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {}}}]}}"#, base64(0)), "0 bytes"),
        (r#"{"version": 1, "keys": [{"id": 1, "created_unix_ms": 0, "key": "%%SECRET%%"}]}"#.to_owned(), "line 1"),
        (
            format!(
                r#"{{"version": 1, "keys": [{{"id": 1, "created_unix_ms": 0, "key": {good}}}, {{"id": 1, "created_unix_ms": 0, "key": {good}}}]}}"#
            ),
            "two keys",
        ),
        (" ".repeat(300 * 1024), "more than"),
    ];
    for (text, cause) in cases {
        let place = place();
        write(&place.path, &text);
        let error = KeyRing::open_or_create(&place.path).unwrap_err();
        let told = told(&error);
        assert!(told.contains(cause), "{told}: expected {cause:?}");
        assert!(told.contains("backup"), "{told}: says what to do");
        assert!(!told.contains("SECRET") && !told.contains(good.trim_matches('"')), "{told}: quotes no key");
        assert_eq!(fs::read_to_string(&place.path).unwrap(), text, "nothing is repaired in silence");
    }
}

#[test]
fn a_directory_in_its_place_or_no_directory_at_all_is_told() {
    let place = place();
    fs::create_dir(&place.path).unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(told(&KeyRing::open_or_create(&place.path).unwrap_err()).contains("not a regular file"));
    let nowhere = place.directory.path().join("no/such/keys.json");
    assert!(matches!(KeyRing::open_or_create(&nowhere).unwrap_err(), KeyError::Unwritable { .. }));
}

#[test]
fn another_key_file_is_recognised_and_a_rotated_one_is_the_same() {
    let place = place();
    let ring = KeyRing::open_or_create(&place.path).unwrap();
    let stored = ring.fingerprint();
    ring.check_fingerprint(&stored).unwrap();
    let rotated = KeyRing::rotate(&place.path).unwrap();
    rotated.check_fingerprint(&stored).unwrap();
    // The old program's file against the new fingerprint: one key is shared, so it is the same family.
    ring.check_fingerprint(&rotated.fingerprint()).unwrap();

    let other = KeyRing::open_or_create(&place.directory.path().join("other.json")).unwrap();
    for (ring, stored) in
        [(&other, stored.as_str()), (&ring, other.fingerprint().as_str()), (&ring, ""), (&ring, "7:00")]
    {
        let error = ring.check_fingerprint(stored).unwrap_err();
        assert!(matches!(error, KeyError::OtherKeys { .. }), "{error}");
        assert!(told(&error).contains("put the right key file back"));
    }
}

#[test]
fn neither_ring_nor_fingerprint_shows_a_key() {
    let place = place();
    let ring = KeyRing::open_or_create(&place.path).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&fs::read(&place.path).unwrap()).unwrap();
    let key = file["keys"][0]["key"].as_str().unwrap();
    let shown = format!("{ring:?} {}", ring.fingerprint());
    assert!(!shown.contains(&key[..12]), "{shown}");
}
