//! What the agent reports of an unhealthy guest: crash loops and low memory.

use crate::fixture::*;
use anteroom_wire::agent::{AgentEvent, MachineEvent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

/// Starts a claimed agent whose tmux is a symbolic link in the fixture's directory, which a test can remove.
async fn start_with_replaceable_tmux() -> AgentFixture {
    let fixture = AgentFixture::start_with(|dir| {
        fs::create_dir(dir.join("bin")).unwrap();
        for name in ["tmux", "cat"] {
            symlink(Path::new("/usr/bin").join(name), dir.join("bin").join(name)).unwrap();
        }
        json!({ "exec_search_path": dir.join("bin") })
    })
    .await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider(IDLE)).await;
    fixture
}

fn tmux_server(fixture: &AgentFixture) -> Option<u32> {
    let is_server = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = line.split(|&byte| byte == 0).collect();
        arguments.iter().any(|argument| argument.ends_with(b"tmux")) && arguments.contains(&&b"-D"[..])
    };
    fixture.descendants().into_iter().find(is_server)
}

/// Kills the running tmux server and waits until its exit is reported.
async fn kill_tmux(fixture: &AgentFixture, after: usize) {
    let pid = eventually("a tmux server", async || tmux_server(fixture)).await;
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    eventually("its exit", async || (tmux_exits(fixture) > after).then_some(())).await;
}

fn tmux_exits(fixture: &AgentFixture) -> usize {
    let controller = fixture.controller.lock().unwrap();
    controller
        .events
        .iter()
        .filter(
            |event| matches!(&event.event, AgentEvent::Machine(MachineEvent::ChildExited { name, .. }) if name == "tmux"),
        )
        .count()
}

#[tokio::test]
async fn crash_loop_is_reported_once_with_its_start_and_end() {
    let fixture = start_with_replaceable_tmux().await;
    for after in 0..5 {
        kill_tmux(&fixture, after).await;
    }
    let (exits, window_s, code) = fixture
        .wait_event("crash loop", |event| match event {
            AgentEvent::Machine(MachineEvent::CrashLoop { name, exits, window_s, code, .. }) if name == "tmux" => {
                Some((*exits, *window_s, *code))
            }
            _ => None,
        })
        .await;
    assert_eq!((exits, code), (5, Some(137)));
    assert!(window_s > 0);
    let over = |event: &AgentEvent| {
        matches!(event, AgentEvent::Machine(MachineEvent::CrashLoopEnded { name }) if name == "tmux").then_some(())
    };
    fixture.wait_event("end of the crash loop", over).await;
    let controller = fixture.controller.lock().unwrap();
    let loops = controller
        .events
        .iter()
        .filter(|event| matches!(event.event, AgentEvent::Machine(MachineEvent::CrashLoop { .. })))
        .count();
    assert_eq!(loops, 1, "reported once");
}

#[tokio::test]
async fn start_failure_is_reported_differently_from_an_exit() {
    let fixture = start_with_replaceable_tmux().await;
    fs::remove_file(fixture.path("bin/tmux")).unwrap();
    kill_tmux(&fixture, 0).await;
    let lines = fixture
        .wait_event("crash loop", |event| match event {
            AgentEvent::Machine(MachineEvent::CrashLoop { name, code: None, last_lines, .. }) if name == "tmux" => {
                Some(last_lines.join("\n"))
            }
            _ => None,
        })
        .await;
    assert!(lines.contains("could not be started") && lines.contains("No such file"), "{lines}");
    let controller = fixture.controller.lock().unwrap();
    let codes: Vec<_> = controller
        .events
        .iter()
        .filter_map(|event| match &event.event {
            AgentEvent::Machine(MachineEvent::ChildExited { name, code, .. }) if name == "tmux" => Some(*code),
            _ => None,
        })
        .collect();
    assert_eq!(codes[..3], [Some(137), None, None], "the kill, then the missing program");
}

/// Writes the memory files as the kernel would show them.
fn write_memory_files(dir: &Path, available_mib: u64, avg10: &str, oom_kills: u64) {
    let write = |name: &str, text: String| {
        fs::write(dir.join(format!("{name}.new")), text).unwrap();
        fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
    };
    write("meminfo", format!("MemTotal: 1048576 kB\nMemFree: 1 kB\nMemAvailable: {} kB\n", available_mib * 1024));
    write("pressure", format!("some avg10={avg10} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 total=0\n"));
    write("vmstat", format!("nr_free_pages 1\noom_kill {oom_kills}\n"));
}

fn memory_pressure(event: &AgentEvent, low_wanted: bool) -> Option<(u64, Option<f64>)> {
    match event {
        AgentEvent::Machine(MachineEvent::MemoryPressure { low, available_mib, some_avg10 }) if *low == low_wanted => {
            Some((*available_mib, *some_avg10))
        }
        _ => None,
    }
}

#[tokio::test]
async fn low_memory_and_the_oom_victim_are_reported() {
    let fixture = AgentFixture::start_with(|dir| {
        write_memory_files(dir, 600, "0.00", 3);
        fs::write(dir.join("kmsg"), "3,1,1,-;Out of memory: Killed process 1 (before) total-vm:1kB\n").unwrap();
        let file = |name: &str| dir.join(name);
        let memory = json!({
            "meminfo": file("meminfo"), "pressure": file("pressure"), "vmstat": file("vmstat"), "kmsg": file("kmsg"),
        });
        json!({ "memory": memory })
    })
    .await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider(IDLE)).await;
    write_memory_files(fixture.dir.path(), 40, "3.25", 3);
    assert_eq!(fixture.wait_event("low memory", |event| memory_pressure(event, true)).await, (40, Some(3.25)));
    let mut kmsg = fs::File::options().append(true).open(fixture.path("kmsg")).unwrap();
    kmsg.write_all(b"3,2,2,-;Out of memory: Killed process 77 (chromium) total-vm:9kB, anon-rss:9kB\n").unwrap();
    write_memory_files(fixture.dir.path(), 500, "3.25", 5);
    let killed = fixture
        .wait_event("kill", |event| match event {
            AgentEvent::Machine(MachineEvent::OutOfMemory { victim, kills }) => Some((victim.clone(), *kills)),
            _ => None,
        })
        .await;
    assert_eq!(killed, (Some("chromium".into()), 2));
    assert_eq!(fixture.wait_event("enough memory", |event| memory_pressure(event, false)).await, (500, Some(3.25)));
    let controller = fixture.controller.lock().unwrap();
    let changes = controller
        .events
        .iter()
        .filter(|event| matches!(event.event, AgentEvent::Machine(MachineEvent::MemoryPressure { .. })))
        .count();
    assert_eq!(changes, 2, "each change is reported once");
}
