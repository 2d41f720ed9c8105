use super::*;
use crate::{Action, Entry, TrailSettings, segments::file_name, writer::Writer};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn keys() -> MacKeys {
    [(1, [1; 32].into())].into_iter().collect()
}

fn settings(dir: &Path) -> TrailSettings {
    let (segment_bytes_max, bytes_max, age_s_max) = (1_500, 1 << 30, 1 << 20);
    TrailSettings { dir: dir.to_owned(), head_copy: None, segment_bytes_max, bytes_max, age_s_max }
}

fn append(writer: &mut Writer, count: usize) {
    for _ in 0..count {
        writer.append(vec![Entry::new(Action::SessionStart)], false).unwrap();
    }
}

/// A trail of several files.
fn trail() -> (tempfile::TempDir, PathBuf, Head) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let mut writer = Writer::open(settings(&path), keys(), &[]).unwrap();
    append(&mut writer, 10);
    let head = writer.head().clone();
    (dir, path, head)
}

fn lines(dir: &Path, number: u64) -> Vec<String> {
    fs::read_to_string(dir.join(file_name(number))).unwrap().lines().map(str::to_owned).collect()
}

fn write(dir: &Path, number: u64, lines: &[String]) {
    fs::write(dir.join(file_name(number)), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

/// The kinds of the findings, with file, line and records.
fn places(dir: &Path, known: &[KnownHead]) -> Vec<String> {
    let found = verify(dir, &keys(), known).unwrap().findings;
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let text = |found: Finding| {
        let file = found.file.unwrap_or_default();
        format!("{} {file}:{} {}..{}", found.kind, number(found.line), number(found.from_seq), number(found.to_seq))
    };
    found.into_iter().map(text).collect()
}

#[test]
fn untouched_trail_is_intact_over_several_files() {
    let (_dir, path, head) = trail();
    let verified = verify(&path, &keys(), &[]).unwrap();
    assert!(verified.intact && verified.files > 2, "{verified:?}");
    assert_eq!((verified.records, verified.last_seq, &verified.last_hash), (head.seq, head.seq, &head.hash));
    assert_eq!((verified.first_seq, verified.authenticated_to), (1, head.seq));
}

#[test]
fn changed_byte_is_named() {
    let (_dir, path, _) = trail();
    let mut changed = lines(&path, 2);
    changed[1] = changed[1].replace("session.start", "session.stash");
    let seq = Record::seq_of(&changed[1]);
    write(&path, 2, &changed);
    assert_eq!(places(&path, &[]), [format!("changed audit-000002.jsonl:2 {seq}..{seq}")]);
}

#[test]
fn removed_and_swapped_rows_are_named() {
    let (_dir, path, _) = trail();
    let original = lines(&path, 2);
    let seq = Record::seq_of(&original[1]);
    let mut removed = original.clone();
    removed.remove(1);
    write(&path, 2, &removed);
    assert_eq!(places(&path, &[]), [format!("removed audit-000002.jsonl:2 {seq}..{seq}")]);
    let mut swapped = original.clone();
    swapped.swap(0, 1);
    write(&path, 2, &swapped);
    assert_eq!(places(&path, &[]), [format!("order audit-000002.jsonl:2 {}..{seq}", seq - 1)]);
    let mut repeated = original.clone();
    repeated.insert(1, original[0].clone());
    write(&path, 2, &repeated);
    assert_eq!(places(&path, &[]), [format!("order audit-000002.jsonl:2 {}..{}", seq - 1, seq - 1)]);
}

#[test]
fn cut_end_is_named_even_if_the_head_file_was_cut_too() {
    let (_dir, path, head) = trail();
    let number = u64::try_from(fs::read_dir(&path).unwrap().count()).unwrap() - 2;
    let mut cut = lines(&path, number);
    let last = Record::seq_of(&cut.pop().unwrap());
    assert_eq!(last, head.seq);
    write(&path, number, &cut);
    assert_eq!(places(&path, &[]), [format!("end_missing :- {last}..{last}")]);
    // Without the key no head can be made; an older one must be had from an older copy.
    let older = Head { seq: last - 1, hash: verify(&path, &keys(), &[]).unwrap().last_hash };
    older.write(&path.join(HEAD_FILE), &keys()).unwrap();
    assert_eq!(places(&path, &[]), [""; 0], "nothing else knows");
    let database = KnownHead { place: "the database".into(), head: Some(head) };
    assert_eq!(places(&path, &[database]), [format!("end_missing :- {last}..{last}")]);
}

#[test]
fn missing_file_and_missing_beginning_are_named() {
    let (_dir, path, _) = trail();
    let (first, last) = (lines(&path, 2), lines(&path, 2).pop().unwrap());
    let missing = format!("{}..{}", Record::seq_of(&first[0]), Record::seq_of(&last));
    fs::remove_file(path.join(file_name(2))).unwrap();
    let found = places(&path, &[]);
    assert_eq!(found, ["file_missing :- -..-".to_owned(), format!("removed audit-000003.jsonl:1 {missing}")]);
    fs::remove_file(path.join(file_name(1))).unwrap();
    let found = places(&path, &[]);
    assert_eq!(found, [format!("beginning_missing audit-000003.jsonl:1 1..{}", Record::seq_of(&last))]);
}

#[test]
fn head_file_that_is_older_missing_or_forged_is_named() {
    let (_dir, path, head) = trail();
    let older = Head { seq: 3, hash: lines(&path, 1)[2].split("\"hash\":\"").nth(1).unwrap()[..64].to_owned() };
    older.write(&path.join(HEAD_FILE), &keys()).unwrap();
    assert_eq!(places(&path, &[]), [format!("head_older :- 3..{}", head.seq)]);
    fs::write(path.join(HEAD_FILE), head.encode(&[(1, [2; 32].into())].into_iter().collect())).unwrap();
    assert_eq!(places(&path, &[]), ["head_forged :- -..-"]);
    fs::remove_file(path.join(HEAD_FILE)).unwrap();
    assert_eq!(places(&path, &[]), ["head_missing :- -..-"]);
}

#[test]
fn trail_that_was_written_without_the_key_is_forged() {
    let (_dir, path, head) = trail();
    let forger: MacKeys = [(1, [9; 32].into())].into_iter().collect();
    let other = path.with_file_name("other");
    let mut writer = Writer::open(settings(&other), forger, &[]).unwrap();
    append(&mut writer, 10);
    drop(writer);
    let found = verify(&other, &keys(), &[]).unwrap();
    assert!(found.findings.iter().all(|found| ["forged", "head_forged"].contains(&found.kind.as_str())));
    assert_eq!((found.findings.len(), found.authenticated_to), (usize::try_from(head.seq).unwrap() + 1, 0));
    // The same with the number of a key that is unknown, as if it had been retired.
    let retired: MacKeys = [(7, [9; 32].into())].into_iter().collect();
    let unknown = path.with_file_name("unknown");
    let mut writer = Writer::open(settings(&unknown), retired, &[]).unwrap();
    append(&mut writer, 1);
    assert_eq!(places(&unknown, &[]), ["not_authenticated :- 1..2"]);
}

#[test]
fn records_of_a_retired_key_are_authenticated_by_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(settings(dir.path()), [(7, [9; 32].into())].into_iter().collect(), &[]).unwrap();
    append(&mut writer, 3);
    writer.set_keys(keys());
    append(&mut writer, 1);
    assert_eq!(places(dir.path(), &[]), [""; 0]);
}

#[test]
fn retention_removes_whole_files_and_the_rest_is_intact() {
    let dir = tempfile::tempdir().unwrap();
    let settings = TrailSettings { bytes_max: 4_000, ..settings(dir.path()) };
    let mut writer = Writer::open(settings, keys(), &[]).unwrap();
    for _ in 0..10 {
        append(&mut writer, 5);
        writer.prune().unwrap();
        assert_eq!(places(dir.path(), &[]), [""; 0]);
    }
    let verified = verify(dir.path(), &keys(), &[]).unwrap();
    assert!(verified.first_seq > 1 && verified.files < 6, "{verified:?}");
    assert!(!dir.path().join(file_name(1)).exists());
}

#[test]
fn unfinished_line_is_removed_at_the_next_start_and_reported() {
    let (_dir, path, head) = trail();
    let number = u64::try_from(fs::read_dir(&path).unwrap().count()).unwrap() - 2;
    let file = path.join(file_name(number));
    let before = fs::read(&file).unwrap();
    fs::write(&file, [&before[..], b"{\"seq\":99,\"at"].concat()).unwrap();
    assert_eq!(places(&path, &[])[0].split(' ').next(), Some("unfinished"));
    let writer = Writer::open(settings(&path), keys(), &[]).unwrap();
    assert!(writer.head().seq > head.seq);
    assert_eq!(places(&path, &[]), [""; 0]);
    let reported = fs::read_to_string(file.with_file_name(file_name(number))).unwrap()
        + &fs::read_to_string(path.join(file_name(number + 1))).unwrap_or_default();
    assert!(reported.contains("trail.recovered") && reported.contains("\"unfinished_bytes\":\"13\""), "{reported}");
}

#[test]
fn end_that_was_cut_before_a_start_stays_named() {
    let (_dir, path, head) = trail();
    let number = u64::try_from(fs::read_dir(&path).unwrap().count()).unwrap() - 2;
    let mut cut = lines(&path, number);
    cut.pop();
    write(&path, number, &cut);
    let mut writer = Writer::open(settings(&path), keys(), &[]).unwrap();
    append(&mut writer, 3);
    let found = places(&path, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("removed") && found[0].ends_with(&format!(" {}..{}", head.seq, head.seq)),
        "{found:?}"
    );
}

#[test]
fn file_that_is_replaced_under_the_writer_is_reported_and_later_records_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let settings = TrailSettings { segment_bytes_max: 1 << 20, ..settings(dir.path()) };
    let mut writer = Writer::open(settings, keys(), &[]).unwrap();
    append(&mut writer, 3);
    let file = dir.path().join(file_name(1));
    let copy = fs::read(&file).unwrap();
    append(&mut writer, 2);
    fs::remove_file(&file).unwrap();
    fs::write(&file, copy).unwrap();
    append(&mut writer, 1);
    assert!(lines(dir.path(), 2).iter().any(|line| line.contains("trail.damaged")));
    assert_eq!(places(dir.path(), &[]), ["removed audit-000002.jsonl:1 5..6"]);
}

#[test]
fn second_writer_is_refused() {
    let (_dir, path, _) = trail();
    let _writer = Writer::open(settings(&path), keys(), &[]).unwrap();
    assert!(matches!(Writer::open(settings(&path), keys(), &[]), Err(crate::OpenError::InUse { .. })));
}

impl Record {
    fn seq_of(line: &str) -> u64 {
        serde_json::from_str::<Self>(line).unwrap().seq
    }
}

use crate::Record;
