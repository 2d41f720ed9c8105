//! Measures snapshots of the test guest in a real Firecracker, without confinement:
//!
//! ```text
//! ANTEROOM_TEST_FIRECRACKER=$(scripts/test_firecracker.sh) cargo run --release -p anteroom-firecracker --example snapshot_times
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a measurement"
)]

#[path = "../tests/real/process.rs"]
mod process;

use process::{Process, Programs, Template};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

const LOADS: usize = 30;
const AT_ONCE: usize = 10;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.1} ms, p95 {:.1} ms, worst {:.1} ms (n = {})", at(50), at(95), at(100), times.len());
}

fn print_load(when: &str) {
    println!("load {when}: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
}

fn one_after_another(programs: &Programs, template: &Template) {
    let (mut versions, mut loads, mut lines, mut kills) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LOADS {
        let began = Instant::now();
        let mut process = Process::start(programs, None);
        versions.push(began.elapsed());
        let loading = Instant::now();
        process.client.load_snapshot(&template.load_params()).unwrap();
        loads.push(loading.elapsed());
        process.serial.next_line().unwrap();
        lines.push(began.elapsed());
        let killed = Instant::now();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        kills.push(killed.elapsed());
    }
    print("spawn to version answered", versions);
    print("load of a snapshot (the request)", loads);
    print("spawn to the loaded guest's next serial line", lines);
    print("kill to process reaped", kills);
}

/// One process's memory, KiB.
fn memory_kib(process: &Process, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn at_once(programs: &Programs, template: &Template) {
    let began = Instant::now();
    let start = || {
        let mut process = Process::clone(programs, template);
        process.serial.next_line().unwrap();
        (began.elapsed(), process)
    };
    let (times, processes): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).unzip()
    });
    print(&format!("{AT_ONCE} at once, each to its serial line"), times);
    let mean = |name: &str| processes.iter().map(|process| memory_kib(process, name)).sum::<u64>() / AT_ONCE as u64;
    let private = mean("Private_Clean:") + mean("Private_Dirty:");
    let (proportional, resident) = (mean("Pss:"), mean("Rss:"));
    println!("memory of each: {proportional} KiB proportional, {private} KiB private, {resident} KiB resident");
}

fn main() {
    let programs = Programs::find().expect("Firecracker can be started");
    print_load("before");
    let template = Template::make(&programs);
    one_after_another(&programs, &template);
    for _ in 0..3 {
        at_once(&programs, &template);
    }
    print_load("after");
}
