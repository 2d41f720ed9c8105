//! What other programs of the host can find in the server's process.

use crate::{Flags, command_line::sign_in};
use anteroom_testbed::{TestConfig, TestServer, plain_process::built_program};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

/// Bytes of a process's memory that are searched at once.
const CHUNK_BYTES: usize = 1 << 20;

/// `text` as it is, and its part in base64 at each of the three offsets.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let encoded = [0, 1, 2].map(|offset| {
        let padded = [vec![0; offset], text.as_bytes().to_vec()].concat();
        let encoded = STANDARD_NO_PAD.encode(padded).into_bytes();
        // The characters at both ends also depend on the neighbouring bytes.
        encoded[if offset == 0 { 0 } else { offset + 1 }..encoded.len() - 2].to_vec()
    });
    [vec![text.as_bytes().to_vec()], encoded.to_vec()].concat()
}

/// The mappings of a process whose content contains one of `needles`, one line each.
fn find_in_memory(pid: i32, needles: &[Vec<u8>]) -> io::Result<Vec<String>> {
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let overlap = needles.iter().map(Vec::len).max().unwrap_or(0);
    let mut found = Vec::new();
    for mapping in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().filter(|line| line.contains(" r")) {
        let range = mapping.split(' ').next().and_then(|range| range.split_once('-'));
        let bound = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((Some(mut at), Some(end))) = range.map(|(from, to)| (bound(from), bound(to))) else { continue };
        let mut chunk = vec![0; CHUNK_BYTES + overlap];
        while at < end {
            // Special mappings such as [vvar] cannot be read.
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
            if memory.seek(SeekFrom::Start(at)).and_then(|_| memory.read_exact(&mut chunk[..wanted])).is_err() {
                break;
            }
            for needle in needles {
                if let Some(offset) = chunk[..wanted].windows(needle.len()).position(|window| window == needle) {
                    let around = &chunk[offset.saturating_sub(60)..(offset + needle.len() + 40).min(wanted)];
                    found.push(format!("{mapping} at {:x}: {}", at + offset as u64, String::from_utf8_lossy(around)));
                }
            }
            at += CHUNK_BYTES as u64;
        }
    }
    Ok(found)
}

#[tokio::test]
async fn credential_is_not_in_the_servers_memory_after_it_was_delivered_sealed_and_leased() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only the superuser may read the memory of the server");
    }
    let flags = Flags::new();
    let canary = format!("canary-{:032x}", u128::from_ne_bytes(rand_bytes()));
    let provider = flags.provider(&format!("{{\"token\": \"{canary}\"}}"));
    let server = TestServer::start(TestConfig::with_provider(provider)).await.unwrap();
    let credential = sign_in(&flags, &server).await;
    server.wait_machines_removed().await.unwrap();
    let pid = server.server_pid().unwrap().as_raw_nonzero().get();
    let state_dir = server.state_dir().to_str().unwrap().as_bytes().to_vec();
    assert!(!find_in_memory(pid, &[state_dir]).unwrap().is_empty(), "the search finds what is in memory");
    let needles = forms(&canary);
    assert_eq!(find_in_memory(pid, &needles).unwrap(), Vec::<String>::new(), "after the delivery");
    let api = server.backend_client().unwrap();
    let lease = api.post(&format!("/api/credentials/{credential}/lease"), serde_json::json!({})).await.unwrap();
    assert_eq!(lease.status, 200);
    assert_eq!(find_in_memory(pid, &needles).unwrap(), Vec::<String>::new(), "after the lease");
    server.stop_and_check_leaks().await.unwrap();
}

fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn server_is_undumpable_writes_no_core_file_and_is_spared_when_memory_runs_out() {
    let mut server = TestServer::start(TestConfig::with_clis(&[])).await.unwrap();
    let pid = server.server_pid().unwrap().as_raw_nonzero().get();
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let score: i32 = read("oom_score_adj").trim().parse().unwrap();
    // The superuser of a container may lack the capability to lower it.
    let may_lower = fs::write("/proc/self/oom_score_adj", "-900").is_ok();
    fs::write("/proc/self/oom_score_adj", own.to_string()).unwrap();
    let expected = if may_lower { -900 } else { own };
    assert_eq!(score, expected);

    // A process with more capabilities than its reader is protected in any case, so this server has none.
    if rustix::process::geteuid().is_root() {
        server.stop_server().await.unwrap();
        let program = server.path().join("server-without-capabilities");
        install_without_capabilities(&program);
        server.set_program(program);
        server.start_server().await.unwrap();
    }
    let mut dumpable = without_capabilities("cat").stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let dumpable_pid = dumpable.id().unwrap().cast_signed();
    let inspected = async { while !can_inspect(dumpable_pid).await {} };
    let inspected = tokio::time::timeout(Duration::from_secs(20), inspected).await;
    inspected.expect("a dumpable process of the same user can be inspected");
    assert!(!can_inspect(server.server_pid().unwrap().as_raw_nonzero().get()).await);
    dumpable.kill().await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

/// Writes a script that runs the server's program without capabilities.
fn install_without_capabilities(script: &Path) {
    let program = built_program("anteroom-testbed").unwrap();
    fs::write(script, format!("#!/bin/sh\nexec {WITHOUT_CAPABILITIES} '{}' \"$@\"\n", program.display())).unwrap();
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
}

const WITHOUT_CAPABILITIES: &str = "setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all";

/// A program with this user and without capabilities. (An ordinary user has none, and may not change the sets.)
fn without_capabilities(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut words = WITHOUT_CAPABILITIES.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether a process of this user without capabilities can read another one's environment.
async fn can_inspect(pid: i32) -> bool {
    without_capabilities("cat").arg(format!("/proc/{pid}/environ")).status().await.unwrap().success()
}
