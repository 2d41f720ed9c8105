//! A credential's plaintext is nowhere on the host after its delivery and after its lease.

use crate::{
    fake_agent::FakeAgent,
    stored_credentials::{content, lease, rotate, start_server},
};
use anteroom_testbed::{TestServer, eventually};
use anteroom_wire::{CredentialId, SessionId, api::SessionStatus};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// How long after a request something of it may be left in memory.
const WINDOW: Duration = Duration::from_secs(10);
/// Bytes of a process's memory that are searched at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A text in the spellings in which it may lie somewhere.
struct Canary {
    text: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    fn new() -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).unwrap();
        let text = format!("canary-{}", hex::encode(random));
        let bytes = text.as_bytes();
        let mut forms = vec![
            ("plain", bytes.to_vec()),
            ("reversed", bytes.iter().rev().copied().collect()),
            ("hexadecimal", hex::encode(bytes).into_bytes()),
            ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ];
        for (offset, name) in ["base64 at 0", "base64 at 1", "base64 at 2"].into_iter().enumerate() {
            let encoded = STANDARD_NO_PAD.encode([vec![0; offset], bytes.to_vec()].concat()).into_bytes();
            // The characters at both ends also depend on the neighbouring bytes.
            forms.push((name, encoded[if offset == 0 { 0 } else { offset + 1 }..encoded.len() - 2].to_vec()));
        }
        Self { text, forms }
    }

    /// The spellings that these bytes contain.
    fn find(&self, bytes: &[u8]) -> Vec<&'static str> {
        let mut is_first = [false; 256];
        for (_, form) in &self.forms {
            is_first[usize::from(form[0])] = true;
        }
        let mut found = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            if is_first[usize::from(*byte)] {
                let here = self.forms.iter().filter(|(_, form)| bytes[at..].starts_with(form));
                found.extend(here.map(|(name, _)| *name));
            }
        }
        found
    }

    fn find_in_dir(&self, dir: &Path, hits: &mut Vec<String>) {
        // Files of a machine that is being removed may vanish during the search.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.find_in_dir(&path, hits),
                Ok(kind) if kind.is_file() => {
                    let found = self.find(&fs::read(&path).unwrap_or_default());
                    hits.extend(found.iter().map(|form| format!("{}: {form}", path.display())));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Passes the process's memory to grep(1), which is many times faster than an unoptimised build of this test.
    fn find_in_memory(&self, pid: i32, hits: &mut Vec<String>) {
        let Ok(mut memory) = File::open(format!("/proc/{pid}/mem")) else { return };
        let mut grep = Command::new("grep");
        grep.args(["-a", "-o", "-F"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        for (_, form) in self.forms.iter().filter(|(_, form)| !form.contains(&0)) {
            grep.arg("-e").arg(OsStr::from_bytes(form));
        }
        let mut grep = grep.spawn().unwrap();
        let mut input = grep.stdin.take().unwrap();
        let mut chunk = vec![0; CHUNK_BYTES];
        for mapping in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().lines() {
            let range = mapping.split(' ').next().and_then(|range| range.split_once('-'));
            let bound = |text: &str| u64::from_str_radix(text, 16).ok();
            let Some((Some(mut at), Some(end))) = range.map(|(from, to)| (bound(from), bound(to))) else { continue };
            while at < end {
                let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
                // Special mappings such as [vvar] cannot be read.
                if memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read_exact(&mut chunk[..wanted])).is_err() {
                    break;
                }
                input.write_all(&chunk[..wanted]).unwrap();
                at += wanted as u64;
            }
            input.write_all(b"\n").unwrap();
        }
        drop(input);
        let found = grep.wait_with_output().unwrap().stdout;
        hits.extend(String::from_utf8_lossy(&found).lines().map(|form| format!("memory of {pid}: {form}")));
    }
}

/// Everything on the host that could hold it: all files below the server's directory (database, write-ahead log, logs, receipts, run
/// directories, bundles), command lines, environments and memory of all its processes, metrics and what the API shows.
async fn search(server: &TestServer, canary: &Canary, session: &SessionId) -> Vec<String> {
    let mut hits = Vec::new();
    canary.find_in_dir(server.path(), &mut hits);
    let server_pid = server.server_pid().unwrap().as_raw_nonzero().get();
    let processes = server.leak_scan().find_processes();
    for pid in processes.iter().map(|process| process.pid).chain([server_pid]) {
        for name in ["cmdline", "environ"] {
            let found = canary.find(&fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default());
            hits.extend(found.iter().map(|form| format!("{name} of {pid}: {form}")));
        }
        if rustix::process::geteuid().is_root() {
            canary.find_in_memory(pid, &mut hits);
        }
    }
    let api = server.operator_client().unwrap();
    let of_session = ["", "/events", "/diagnosis"].map(|part| format!("/api/auth/session/{session}{part}"));
    let others = ["/metrics", "/health", "/api/credentials", "/api/keys", "/api/webhook"].map(str::to_owned);
    for path in of_session.into_iter().chain(others) {
        let answer = api.get(&path).await.unwrap();
        hits.extend(canary.find(answer.text.as_bytes()).iter().map(|form| format!("GET {path}: {form}")));
    }
    hits
}

async fn assert_found_nowhere(server: &TestServer, canary: &Canary, session: &SessionId, when: &str) {
    let mut last = Vec::new();
    let nowhere = async || {
        last = search(server, canary, session).await;
        Ok(last.is_empty().then_some(()))
    };
    let found = eventually("nothing is left", WINDOW, nowhere).await;
    assert!(found.is_ok(), "{when}: {last:#?}");
}

async fn bundle_content(server: &TestServer, session: &SessionId) -> Vec<u8> {
    let file = server.path().join("bundle.tar.gz");
    server.run_anteroom(&["bundle", session.as_str(), "--out", file.to_str().unwrap()]).await.unwrap();
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(File::open(file).unwrap()).read_to_end(&mut content).unwrap();
    content
}

#[tokio::test]
async fn s15_plaintext_is_nowhere_on_the_host_after_delivery_lease_and_rotation() {
    let canary = Canary::new();
    let (_flags, server) = start_server("[log]\nlevel = 'trace'\n").await;
    let agent = FakeAgent::start(&server).await;
    let session = agent.session.clone();
    let marker = server.path().join("marker");
    fs::write(&marker, hex::encode(&canary.text)).unwrap();
    assert_eq!(search(&server, &canary, &session).await.len(), 1, "the search finds what is there");
    fs::remove_file(marker).unwrap();
    if rustix::process::geteuid().is_root() {
        let (mut own, pid) = (Vec::new(), i32::try_from(std::process::id()).unwrap());
        canary.find_in_memory(pid, &mut own);
        assert!(!own.is_empty(), "the search finds what is in the memory of this test");
    }
    assert_eq!(agent.deliver(&agent.delivery(&content(&canary.text))).await.status, 200);
    drop(agent);
    let api = server.backend_client().unwrap();
    let view = api.wait_status(&session, SessionStatus::Completed).await.unwrap();
    let credential: CredentialId = view.credential.unwrap().id;
    assert_found_nowhere(&server, &canary, &session, "after the delivery").await;
    assert!(lease(&server, &credential).await.contains(&canary.text));
    assert_found_nowhere(&server, &canary, &session, "after the lease").await;
    rotate(&server).await;
    assert_found_nowhere(&server, &canary, &session, "after the rotation").await;
    assert_eq!(canary.find(&bundle_content(&server, &session).await), Vec::<&str>::new(), "in a bundle");
    server.stop_and_check_leaks().await.unwrap();
}
