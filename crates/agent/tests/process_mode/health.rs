//! What the agent tells of a place that does badly: programs that crash again and again, memory that runs out.

use crate::fixture::*;
use anteroom_wire::agent::Event;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

/// Runs a claimed agent whose tmux is a link in the world's own directory.
async fn with_own_tmux() -> World {
    let world = World::start_with(|dir| {
        fs::create_dir(dir.join("bin")).unwrap();
        for name in ["tmux", "cat"] {
            symlink(Path::new("/usr/bin").join(name), dir.join("bin").join(name)).unwrap();
        }
        json!({ "path": dir.join("bin") })
    })
    .await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider(IDLE)).await;
    world
}

fn tmux_server(world: &World) -> Option<u32> {
    let is_server = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|&byte| byte == 0).collect();
        words.iter().any(|word| word.ends_with(b"tmux")) && words.contains(&&b"-D"[..])
    };
    world.descendants().into_iter().find(is_server)
}

/// Kills the tmux server that runs, and waits until it is told.
async fn kill_tmux(world: &World, after: usize) {
    let pid = until("a tmux server", async || tmux_server(world)).await;
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    until("its end", async || (ends(world) > after).then_some(())).await;
}

fn ends(world: &World) -> usize {
    let heard = world.heard.lock().unwrap();
    heard
        .events
        .iter()
        .filter(|event| matches!(&event.event, Event::ChildExited { name, .. } if name == "tmux"))
        .count()
}

#[tokio::test]
async fn crash_loop_is_reported_once_with_its_start_and_end() {
    let world = with_own_tmux().await;
    for after in 0..5 {
        kill_tmux(&world, after).await;
    }
    let (exits, window_s, code) = world
        .event("the loop", |event| match event {
            Event::CrashLoop { name, exits, window_s, code, .. } if name == "tmux" => Some((*exits, *window_s, *code)),
            _ => None,
        })
        .await;
    assert_eq!((exits, code), (5, Some(137)));
    assert!(window_s > 0);
    let over = |event: &Event| matches!(event, Event::CrashLoopOver { name } if name == "tmux").then_some(());
    world.event("the loop's end", over).await;
    let heard = world.heard.lock().unwrap();
    let loops = heard.events.iter().filter(|event| matches!(event.event, Event::CrashLoop { .. })).count();
    assert_eq!(loops, 1, "told once");
}

#[tokio::test]
async fn start_failure_is_reported_differently_from_an_exit() {
    let world = with_own_tmux().await;
    fs::remove_file(world.path("bin/tmux")).unwrap();
    kill_tmux(&world, 0).await;
    let lines = world
        .event("the loop", |event| match event {
            Event::CrashLoop { name, code: None, last_lines, .. } if name == "tmux" => Some(last_lines.join("\n")),
            _ => None,
        })
        .await;
    assert!(lines.contains("could not be started") && lines.contains("No such file"), "{lines}");
    let heard = world.heard.lock().unwrap();
    let codes: Vec<_> = heard
        .events
        .iter()
        .filter_map(|event| match &event.event {
            Event::ChildExited { name, code, .. } if name == "tmux" => Some(*code),
            _ => None,
        })
        .collect();
    assert_eq!(codes[..3], [Some(137), None, None], "the kill, then what is not there");
}

/// Writes what the kernel would show.
fn memory(dir: &Path, available_mib: u64, avg10: &str, oom_kills: u64) {
    let write = |name: &str, text: String| {
        fs::write(dir.join(format!("{name}.new")), text).unwrap();
        fs::rename(dir.join(format!("{name}.new")), dir.join(name)).unwrap();
    };
    write("meminfo", format!("MemTotal: 1048576 kB\nMemFree: 1 kB\nMemAvailable: {} kB\n", available_mib * 1024));
    write("pressure", format!("some avg10={avg10} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 total=0\n"));
    write("vmstat", format!("nr_free_pages 1\noom_kill {oom_kills}\n"));
}

fn pressure(event: &Event, wanted: bool) -> Option<(u64, Option<f64>)> {
    match event {
        Event::MemoryPressure { low, available_mib, some_avg10 } if *low == wanted => {
            Some((*available_mib, *some_avg10))
        }
        _ => None,
    }
}

#[tokio::test]
async fn low_memory_and_the_oom_victim_are_reported() {
    let world = World::start_with(|dir| {
        memory(dir, 600, "0.00", 3);
        fs::write(dir.join("kmsg"), "3,1,1,-;Out of memory: Killed process 1 (before) total-vm:1kB\n").unwrap();
        let file = |name: &str| dir.join(name);
        let memory = json!({
            "meminfo": file("meminfo"), "pressure": file("pressure"), "vmstat": file("vmstat"), "kmsg": file("kmsg"),
        });
        json!({ "memory": memory })
    })
    .await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider(IDLE)).await;
    memory(world.dir.path(), 40, "3.25", 3);
    assert_eq!(world.event("low memory", |event| pressure(event, true)).await, (40, Some(3.25)));
    let mut kmsg = fs::File::options().append(true).open(world.path("kmsg")).unwrap();
    kmsg.write_all(b"3,2,2,-;Out of memory: Killed process 77 (chromium) total-vm:9kB, anon-rss:9kB\n").unwrap();
    memory(world.dir.path(), 500, "3.25", 5);
    let killed = world
        .event("the kill", |event| match event {
            Event::OutOfMemory { victim, kills } => Some((victim.clone(), *kills)),
            _ => None,
        })
        .await;
    assert_eq!(killed, (Some("chromium".to_owned()), 2));
    assert_eq!(world.event("enough memory", |event| pressure(event, false)).await, (500, Some(3.25)));
    let heard = world.heard.lock().unwrap();
    let words = heard.events.iter().filter(|event| matches!(event.event, Event::MemoryPressure { .. })).count();
    assert_eq!(words, 2, "each once");
}
