//! The servers of three hosts are stopped or killed in turn, and started again, under their viewers.

use super::{
    fixture::{TIMES, connect_viewer, provider},
    in_lab,
};
use crate::viewer::Viewer;
use anteroom_testbed::{
    ApiClient, DurationStats, TestConfig, WAIT_MAX,
    lab::{Lab, LabOptions},
    measure_recovery::current_machine,
    stats,
};
use anteroom_wire::{MachineId, SessionId, hosts::HostState};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// How soon a viewer has a picture again; builds without optimisation need about twice as long (docs/measurements.md).
const BACK_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 6 } else { 3 });

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By SIGTERM, as for an upgrade.
    Stopped,
    /// By SIGKILL.
    Killed,
}

/// A session with its viewer.
struct Viewed {
    id: SessionId,
    machine: MachineId,
    /// The number of the host that holds it; the viewer is connected to the next one.
    owner: usize,
    /// Since when the viewer has a picture; `None`: it has none.
    picture: watch::Receiver<Option<Instant>>,
}

impl Viewed {
    fn edge(&self) -> usize {
        (self.owner + 1) % 3
    }

    /// Waits until the viewer has a new picture, and returns when that was, counted from `since`.
    async fn wait_back(&mut self, since: Instant) -> Duration {
        let is_new = |picture: &Option<Instant>| picture.is_some_and(|at| at > since);
        let picture = timeout(WAIT_MAX, self.picture.wait_for(is_new)).await;
        picture.unwrap_or_else(|_| panic!("{} has no picture", self.id)).unwrap().unwrap() - since
    }
}

/// Connects until there is a picture, with the pauses of the page (`backoff_ms` in `web/src/close.ts`).
async fn connect_again(api: &ApiClient, id: &SessionId) -> Viewer {
    let mut full_ms = 400;
    loop {
        let random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        sleep(Duration::from_millis(full_ms / 2 + u64::from(random) % (full_ms / 2))).await;
        full_ms = (full_ms * 2).min(1_500);
        if let Ok(mut next) = api.connect_desktop(id).await
            && next.request_full_frame().await.is_ok()
        {
            return Viewer::reading(next.into_inner());
        }
    }
}

/// Connects again whenever the socket ends, until it is aborted.
async fn view(api: ApiClient, id: SessionId, mut viewer: Viewer, picture: watch::Sender<Option<Instant>>) {
    while viewer.wait_end(WAIT_MAX * 10).await.is_some() {
        picture.send_replace(None);
        viewer = connect_again(&api, &id).await;
        picture.send_replace(Some(Instant::now()));
    }
}

/// A lab with so many sessions, each viewed through another host than its own.
struct Restarts {
    lab: Lab,
    viewed: Vec<Viewed>,
    viewers: JoinSet<()>,
    _flags: tempfile::TempDir,
}

impl Restarts {
    async fn start(sessions: usize) -> Self {
        let flags = tempfile::tempdir().unwrap();
        let config = TestConfig::with_provider(provider("open", flags.path())).with_settings(&format!(
            "[machines]\nmachines_max = {}\n[limits.rates]\nstart = {{ per_s = 100, burst = 100 }}\n",
            sessions.div_ceil(3) + 2
        ));
        let lab = Lab::start(&LabOptions { hosts: 3, has_etcd: false, times: TIMES }, &config).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..sessions {
            ids.push(lab.operator(number % 3).unwrap().start_session("open").await.unwrap().session.id);
        }
        let mut this = Self { lab, viewed: Vec::new(), viewers: JoinSet::new(), _flags: flags };
        for id in ids {
            this.view(id).await;
        }
        this
    }

    async fn view(&mut self, id: SessionId) {
        let api = self.lab.operator(0).unwrap();
        api.wait_until(&id, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
        let machine = current_machine(&api, &id).await.unwrap();
        let owner = self.lab.hosts.iter().position(|host| host.server.list_machines().contains(&machine)).unwrap();
        let (sender, picture) = watch::channel(Some(Instant::now()));
        let viewed = Viewed { id: id.clone(), machine, owner, picture };
        let api = self.lab.operator(viewed.edge()).unwrap();
        let viewer = connect_viewer(&api, &id).await;
        self.viewers.spawn(view(api, id, viewer, sender));
        self.viewed.push(viewed);
    }

    /// Ends a server and starts it again. Returns the time from its end until each of its viewers has a picture: those of its sessions, and those
    /// that are connected to it.
    async fn restart(&mut self, host: usize, end: End) -> Vec<Duration> {
        let server = &mut self.lab.hosts[host].server;
        let since = Instant::now();
        match end {
            End::Stopped => server.stop_server().await.unwrap(),
            End::Killed => server.kill_server().await.unwrap(),
        }
        let ended = since.elapsed();
        server.start_server().await.unwrap();
        let started = since.elapsed();
        let mut back = Vec::new();
        for viewed in self.viewed.iter_mut().filter(|viewed| viewed.owner == host || viewed.edge() == host) {
            back.push(viewed.wait_back(since).await);
        }
        eprintln!(
            "host {host} {end:?}: ended after {ended:?}, answered after {started:?}; pictures: {}; {}",
            DurationStats::from(&back[..]),
            stats::host_summary()
        );
        for other in 0..3 {
            self.lab.wait_states(other, HostState::Answers, 3).await.unwrap();
        }
        back
    }

    /// No machine was replaced, and no server waited in vain for its tasks when it stopped.
    async fn finish(mut self) {
        self.viewers.shutdown().await;
        let api = self.lab.operator(0).unwrap();
        for viewed in &self.viewed {
            assert_eq!(current_machine(&api, &viewed.id).await.unwrap(), viewed.machine, "{}", viewed.id);
        }
        for host in &self.lab.hosts {
            assert!(!host.server.read_log().contains("drain_timed_out"), "a server stops at once");
        }
        let ids: BTreeSet<_> = self.viewed.into_iter().map(|viewed| viewed.id).collect();
        self.lab.finish(&Vec::from_iter(ids)).await.unwrap();
    }
}

#[test]
fn servers_are_restarted_in_turn_under_six_viewers() {
    in_lab("hosts::restarts::servers_are_restarted_in_turn_under_six_viewers", async || {
        let mut restarts = Restarts::start(6).await;
        for (host, end) in [End::Stopped, End::Killed, End::Stopped].into_iter().enumerate() {
            restarts.restart(host, end).await;
        }
        restarts.finish().await;
    });
}

#[test]
fn full_servers_are_restarted_in_turn_under_thirty_viewers() {
    let name = "hosts::restarts::full_servers_are_restarted_in_turn_under_thirty_viewers";
    in_lab(name, async || {
        let mut restarts = Restarts::start(30).await;
        for end in [End::Stopped, End::Killed] {
            for host in 0..3 {
                let back = restarts.restart(host, end).await;
                assert!(back.iter().all(|after| *after <= BACK_MAX), "{back:?}");
            }
        }
        restarts.finish().await;
    });
}
