//! The one writer of a machine's state.
//!
//! It hears the keeper, the connection's task and the callers, turns what they say into events, and gives the keeper its
//! orders. That a machine is dead its keeper says; it is gone when its keeper's socket has closed, and at no other moment.

use super::{Born, Machines, Order as Asked, Seat, connect, pulse::Patience};
use crate::{
    keeper::{
        control::{CONTROL_PROTOCOL, Order, Phase, Report},
        link::Link,
    },
    process::{self, ProcessId},
    receipt::{Because, Checks, End, Receipt},
    run_dir::RunDir,
    spec::Brief,
    state::{Event, GoneReason, State, StopReason},
};
use anteroom_wire::{MachineId, channel::ECHO_MS_MAX};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Events of the connection's task that may wait.
const EVENTS_MAX: usize = 64;
/// How long the process of a keeper that was killed may take to die with it, milliseconds.
const DIE_MS_MAX: u64 = 2_000;
/// From hanging up to saving, milliseconds: the guest shall have noticed, so that its copies begin without a connection.
const HANG_UP_MS: u64 = 100;
/// How long the saving of a state may take, milliseconds: it is a few hundred kB.
const SAVE_MS_MAX: u64 = 120_000;
/// Between two looks at a dying process, milliseconds.
const LOOK_EVERY_MS: u64 = 5;

/// The state and what is needed to change it.
struct Driver {
    machines: Machines,
    id: MachineId,
    state: watch::Sender<State>,
    began: Instant,
    /// How long it may still take to be ready (anew when the channel is lost), or its keeper to end it or to clear away.
    patience: Patience,
    born: Arc<OnceLock<Born>>,
    /// Whether it was ready once, under this server or one before it.
    was_ready: bool,
    keeper: Option<ProcessId>,
    /// The keeper's last word on how it ended.
    ended: Option<(End, Option<Because>)>,
}

/// Drives a machine from its request to its end.
pub(super) async fn start(machines: Machines, seat: Seat, brief: Brief) {
    let began = Instant::now();
    let path = machines.run_dir_of(&seat.id);
    let program = machines.inner.settings.keeper_program.clone();
    let spawned = tokio::task::spawn_blocking(move || spawn(&path, &program, &brief)).await;
    let link = spawned.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (driver, asked, image_hash) = Driver::new(machines, seat, began);
    match link {
        Ok(link) => {
            driver.apply(Event::KeeperFound);
            let first_wait = Duration::from_millis(driver.machines.inner.settings.first_echo_ms);
            driver.drive(link, asked, image_hash, first_wait).await;
        }
        Err(error) => driver.gone(GoneReason::NeverStarted { error: error.to_string() }, None),
    }
}

/// Drives a machine that outlived its server; `unknown`: why it cannot be this server's and is ended.
pub(super) async fn adopt(machines: Machines, seat: Seat, mut link: Link, unknown: Option<StopReason>) {
    let (mut driver, asked, image_hash) = Driver::new(machines, seat, Instant::now());
    let path = driver.machines.run_dir_of(&driver.id);
    driver.was_ready = tokio::task::spawn_blocking(move || RunDir::was_ready(&path)).await.unwrap_or_default();
    if driver.was_ready {
        driver.patience = driver.patience_with_a_silent_one();
    }
    if let Some(why) = unknown {
        driver.stop(&mut link, why).await;
    }
    // It has been running: whatever it has to say, it says at once, or there are stale bytes in the way.
    driver.drive(link, asked, image_hash, Duration::from_millis(ECHO_MS_MAX)).await;
}

fn spawn(path: &Path, program: &Path, brief: &Brief) -> io::Result<Link> {
    let run_dir = RunDir::create(path.to_owned())?;
    Link::spawn(program, &run_dir, brief).inspect_err(|_| {
        // Nothing was started; what cannot be removed now is removed at the server's next start.
        let _ = RunDir::remove(path);
    })
}

impl Driver {
    fn new(machines: Machines, seat: Seat, began: Instant) -> (Self, mpsc::Receiver<Asked>, String) {
        let Seat { id, image_hash, state, orders, born } = seat;
        let patience = Patience::new(Duration::from_millis(machines.inner.settings.ready_ms_max));
        let (was_ready, keeper, ended) = (false, None, None);
        (Self { machines, id, state, began, patience, born, was_ready, keeper, ended }, orders, image_hash)
    }

    async fn drive(
        mut self,
        mut link: Link,
        mut asked: mpsc::Receiver<Asked>,
        image_hash: String,
        first_wait: Duration,
    ) {
        let (events, mut heard) = mpsc::channel(EVENTS_MAX);
        let stop = self.machines.inner.stop.clone();
        // Ends with this function, whatever way: the connection must not outlive its driver.
        let over = stop.child_token();
        let _guard = over.clone().drop_guard();
        let (began, born, was_ready) = (self.began, self.born.clone(), self.was_ready);
        let plan = connect::Plan { image_hash, began, born, first_wait, was_ready };
        connect::spawn(&self.machines, &self.id, plan, events, &over);
        loop {
            tokio::select! {
                biased;
                report = link.next() => match report {
                    Some(report) => self.hear_keeper(&mut link, report).await,
                    None => break,
                },
                Some(asked) = asked.recv() => match asked {
                    Asked::Stop(why) => self.stop(&mut link, why).await,
                    Asked::Save(state) => {
                        over.cancel();
                        self.save(&mut link, state).await;
                    }
                },
                Some(event) = heard.recv() => self.hear_connection(&mut link, event).await,
                () = tokio::time::sleep_until(self.patience.next_look()), if !self.is_ready() => {
                    if self.patience.is_over() {
                        self.give_up(&mut link).await;
                    }
                }
                // A machine that ends is seen to its end; the others live on for the next server.
                () = stop.cancelled(), if !self.is_ending() => return,
            }
        }
        link.reap(self.keeper).await;
        self.keeper_gone().await;
    }

    /// Whether nothing is waited for.
    fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), State::Ready { .. })
    }

    fn is_ending(&self) -> bool {
        matches!(*self.state.borrow(), State::Stopping { .. } | State::Dead { .. })
    }

    fn apply(&self, event: Event) -> bool {
        let next = self.state.borrow().on(event);
        match next {
            Ok(next) => {
                tracing::debug!(machine = %self.id, state = next.name(), "machine");
                self.state.send_replace(next);
                true
            }
            Err(refused) => {
                tracing::trace!(machine = %self.id, %refused, "no effect");
                false
            }
        }
    }

    async fn hear_keeper(&mut self, link: &mut Link, report: Report) {
        let phase = match report {
            Report::Greeting { protocol: CONTROL_PROTOCOL, phase, keeper, .. } => {
                self.keeper = Some(keeper);
                phase
            }
            Report::Phase { phase } => phase,
            Report::Greeting { protocol, .. } => {
                let (expected, found) = (format!("keeper protocol {CONTROL_PROTOCOL}"), format!("protocol {protocol}"));
                return self.stop(link, StopReason::Mismatch { expected, found }).await;
            }
        };
        match phase {
            Phase::Starting => {}
            Phase::Running { process } => {
                // Set once; a greeting repeats what is known.
                let after_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let _ = self.born.set(Born { process, after_ms });
                self.apply(Event::ProcessRuns);
            }
            Phase::Clearing { how, because } => self.died(how, because),
            Phase::Ended { how, because, unwritten } => {
                if let Some(error) = unwritten {
                    tracing::warn!(machine = %self.id, error, "the keeper could not write the machine's receipt");
                }
                self.ended = Some((how, because));
            }
        }
    }

    /// The process has ended. The keeper has as long to clear away as it would have to end it.
    fn died(&mut self, how: End, because: Option<Because>) {
        if self.apply(Event::Died { how: how.told(because.as_ref()) }) {
            self.patience = Patience::new(Duration::from_millis(self.machines.inner.settings.keeper_ms_max));
            if let State::Dead { why } = &*self.state.borrow() {
                tracing::info!(machine = %self.id, outcome = "dead", cause = %why, "a machine's process has ended");
            }
        }
        self.ended = Some((how, because));
    }

    async fn hear_connection(&mut self, link: &mut Link, event: connect::Heard) {
        match event {
            connect::Heard::Event(event) => {
                let lost = matches!(event, Event::ChannelLost { .. });
                if self.apply(event) && lost {
                    self.patience = self.patience_with_a_silent_one();
                }
                let ready_ms = self.state.borrow().channels().map(|channels| channels.timings.ready_ms);
                if let Some(ready_ms) = ready_ms {
                    tracing::info!(machine = %self.id, outcome = "ready", waited_ms = ready_ms, "a machine is ready");
                    self.note_ready().await;
                }
            }
            connect::Heard::Mismatch { expected, found } => {
                self.stop(link, StopReason::Mismatch { expected, found }).await;
            }
            connect::Heard::Hung { unanswered_ms } => {
                tracing::warn!(machine = %self.id, outcome = "hung", waited_ms = unanswered_ms, "a machine gives no sign of life");
                self.stop(link, StopReason::Hung { unanswered_ms }).await;
            }
        }
    }

    /// A machine that stays silent has hung; one that is heard again has as long as a new one.
    fn patience_with_a_silent_one(&self) -> Patience {
        let settings = &self.machines.inner.settings;
        Patience::new(Duration::from_millis(settings.hung_ms_max.saturating_add(settings.ready_ms_max)))
    }

    /// For the server that may take the machine over: its silence is another thing than that of one that was never ready.
    async fn note_ready(&mut self) {
        if self.was_ready {
            return;
        }
        self.was_ready = true;
        let path = self.machines.run_dir_of(&self.id);
        let noted = tokio::task::spawn_blocking(move || RunDir::note_ready(&path)).await;
        if let Err(error) = noted.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(machine = %self.id, %error, "that a machine was ready could not be written down");
        }
    }

    async fn stop(&mut self, link: &mut Link, why: StopReason) {
        let order = Order::Stop { why: why.name().to_owned(), because: Because::of(&why) };
        if !self.apply(Event::StopAsked(why)) {
            return;
        }
        self.patience = Patience::new(Duration::from_millis(self.machines.inner.settings.keeper_ms_max));
        if link.order(&order).await.is_err() {
            tracing::debug!(machine = %self.id, "the keeper is gone already");
        }
    }

    async fn save(&mut self, link: &mut Link, state: PathBuf) {
        if !self.apply(Event::StopAsked(StopReason::Completed)) {
            return;
        }
        self.patience = Patience::new(Duration::from_millis(SAVE_MS_MAX));
        tokio::time::sleep(Duration::from_millis(HANG_UP_MS)).await;
        if link.order(&Order::Save { state }).await.is_err() {
            tracing::debug!(machine = %self.id, "the keeper is gone already");
        }
    }

    /// What was waited for did not come in time.
    async fn give_up(&mut self, link: &mut Link) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let why = match &*self.state.borrow() {
            State::Waiting { stage, last_error, attempts } => {
                StopReason::NotReady { stage: *stage, last_error: last_error.clone(), attempts: *attempts, elapsed_ms }
            }
            State::Requested | State::Cloning => {
                let stage = anteroom_wire::agent::Stage::Process;
                StopReason::NotReady { stage, last_error: None, attempts: 1, elapsed_ms }
            }
            // Its keeper was told to end it, or to clear away after it, and does not: it hangs itself. Its process dies with it.
            State::Stopping { .. } | State::Dead { .. } => {
                // One that has hung since before this server began has not said what it keeps, nor who it is.
                self.keeper = self.keeper.or_else(|| link.keeper());
                if let (None, Some(keeper)) = (self.born.get(), self.keeper)
                    && let Some(&process) = process::descendants(keeper.pid).first()
                {
                    let after_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let _ = self.born.set(Born { process, after_ms });
                }
                let pid = self.keeper.map(|keeper| keeper.pid);
                tracing::warn!(machine = %self.id, outcome = "keeper_hung", pid, "a keeper does not end and is killed");
                link.kill(self.keeper);
                self.patience = Patience::new(Duration::from_millis(self.machines.inner.settings.keeper_ms_max));
                return;
            }
            State::Ready { .. } | State::Gone { .. } => return,
        };
        self.stop(link, why).await;
    }

    /// The keeper's socket has closed: reads its last words, or finds out that there are none.
    async fn keeper_gone(mut self) {
        let receipts_dir = self.machines.inner.settings.receipts_dir.clone();
        let receipt = match Receipt::read(&receipts_dir, &self.id) {
            Ok(receipt) => receipt,
            Err(error) => {
                tracing::warn!(machine = %self.id, %error, "the machine's receipt cannot be read");
                None
            }
        };
        let receipt = match receipt {
            Some(receipt) => receipt,
            None => {
                // A keeper that died while it cleared away has said before how its machine ended.
                let (how, because) = self.ended.take().unwrap_or((End::KeeperLost, None));
                let receipt = self.clear_after_lost_keeper(how, because).await;
                if let Err(error) = receipt.write(&receipts_dir) {
                    tracing::warn!(machine = %self.id, %error, "the machine's receipt cannot be written");
                }
                receipt
            }
        };
        self.gone(receipt.reason(), Some(Box::new(receipt)));
    }

    /// Does what the keeper no longer could, and looks whether the process died with it.
    async fn clear_after_lost_keeper(&self, how: End, because: Option<Because>) -> Receipt {
        let mut checks = Checks::default();
        if let Some(Born { process, .. }) = self.born.get() {
            let until = Instant::now() + Duration::from_millis(DIE_MS_MAX);
            while process.is_alive() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
            }
            process.kill();
            checks.pids.push(process.pid);
            if process.is_alive() {
                checks.left.push(format!("pid {}", process.pid));
            }
        }
        let path = self.machines.run_dir_of(&self.id);
        let away = path.clone();
        let removed = tokio::task::spawn_blocking(move || RunDir::remove(&away)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            checks.left.push(format!("{}: {error}", path.display()));
        }
        checks.paths.push(path);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ended_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let lived_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Receipt {
            machine: self.id.clone(),
            began_unix_ms: ended_unix_ms.saturating_sub(lived_ms),
            ended_unix_ms,
            how,
            because,
            console_tail: String::new(),
            output_tail: String::new(),
            checks,
        }
    }

    /// The last state. Room is made first, so that whoever sees the end can start another.
    fn gone(self, how: GoneReason, receipt: Option<Box<Receipt>>) {
        self.machines.leave(&self.id);
        self.apply(Event::Ended { how, receipt });
        if let State::Gone { why, .. } = &*self.state.borrow() {
            tracing::info!(machine = %self.id, outcome = "gone", cause = %why, "a machine is gone");
        }
    }
}
