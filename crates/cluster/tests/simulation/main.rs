//! The rules of the crate in virtual time: hosts with their own clocks, two registers in memory, messages that are late, lost or repeated,
//! and hosts that fail. The same seed gives the same run.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test")]

mod events;
mod faults;
mod host;
mod liveness;
mod registers;
mod sessions;
mod world;

use anteroom_cluster::{ClusterTimes, Liveness};
use world::{Figures, Setting, World};

fn small(liveness: Liveness) -> Setting {
    Setting {
        times: ClusterTimes::new(500, 3, 5).expect("the times are safe"),
        liveness,
        hosts: 5,
        machines_max: 3,
        sessions: 60,
        arrivals_ms: 60_000,
        first: (1_000, 5),
        mean_duration_ms: 8_000,
        unreliable: true,
        observer_every: 1,
        limit_ms: 600_000,
    }
}

fn run_small(liveness: Liveness, seed: u64) -> Figures {
    let mut world = World::new(small(liveness), seed);
    world.plan_faults(10, 8_000, 60_000);
    world.run();
    assert!(world.database.sessions.iter().all(|session| session.ends == 1), "each session ends once");
    world.figures
}

/// Sums of what many runs have shown.
fn run_seeds(seeds: std::ops::Range<u64>) -> Figures {
    let mut sum = Figures::default();
    for seed in seeds {
        let liveness = if seed % 3 == 0 { Liveness::Database } else { Liveness::Etcd };
        let figures = std::panic::catch_unwind(|| run_small(liveness, seed));
        let figures = figures.unwrap_or_else(|_| panic!("seed {seed}, {liveness:?}"));
        sum.events += figures.events;
        sum.fences += figures.fences;
        sum.fences_of_living += figures.fences_of_living;
        sum.self_stops += figures.self_stops;
        sum.waited += figures.waited;
        sum.digest ^= figures.digest;
    }
    println!("{sum:?}");
    sum
}

#[test]
fn a_seed_repeats_exactly() {
    let first = run_small(Liveness::Etcd, 7);
    assert_eq!(first, run_small(Liveness::Etcd, 7));
    assert_ne!(first.digest, run_small(Liveness::Etcd, 8).digest);
}

/// In each run the checks of [`World`] hold: the host that acts for a session holds it, and no session is lost.
#[test]
fn five_hosts_with_faults_of_all_kinds_run_each_session_once_at_a_time_and_lose_none() {
    let sum = run_seeds(0..1_000);
    assert!(sum.fences > 100 && sum.fences_of_living > 0 && sum.self_stops > 100 && sum.waited > 100, "{sum:?}");
}

#[test]
fn full_ten_thousand_seeds_of_five_hosts() {
    run_seeds(0..10_000);
}

/// A thousand hosts of 50 machines at 90 % load, 100,000 sessions; 2 % of the hosts lose power in an hour.
fn run_large(seed: u64) -> Figures {
    let sessions = 100_000;
    let setting = Setting {
        times: ClusterTimes::ETCD,
        hosts: 1_000,
        machines_max: 50,
        sessions,
        arrivals_ms: 760_000,
        first: (60_000, 47_000),
        mean_duration_ms: 600_000,
        unreliable: false,
        observer_every: 50,
        limit_ms: 20_000_000,
        ..small(Liveness::Etcd)
    };
    let mut world = World::new(setting, seed);
    world.plan_power_losses(2, setting.arrivals_ms);
    world.measure();
    world.run();
    world.figures
}

#[test]
fn full_a_thousand_hosts_at_ninety_percent() {
    let seeds = std::env::var("ANTEROOM_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    for seed in 0..seeds {
        let figures = run_large(seed);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let full = figures.asks_of_full_hosts as f64 * 100.0 / figures.asks as f64;
        let (load, spread) = (mean(&figures.loads), mean(&figures.spreads));
        println!("seed {seed}: load {load:.1} %, spread {spread:.1} %, full {full:.2} %, waited {}", figures.waited);
        println!(
            "  fences {}, statements at most {}, {} events",
            figures.fences, figures.statements_max, figures.events
        );
        assert!(spread <= 8.0 && full <= 1.0 && figures.statements_max <= 4, "{figures:?}");
    }
}
