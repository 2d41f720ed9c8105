//! A session with everything around it as a model: its row, its owner (this very [`Lifecycle`]), its machines (the machine
//! crate's own `State::on`), the deliveries of their agents, and a server that crashes. What the model adds is only what
//! the world may do at each moment. The check visits every order of events within the [`Bounds`].

#![allow(
    clippy::expect_used,
    clippy::unreachable,
    clippy::wildcard_enum_match_arm,
    reason = "a model that is used wrongly shall say so at once"
)]

mod check;
mod supervisor;

use super::{Command, Event, InitialState, Lifecycle, initial_state};
use anteroom_machine::{Event as MachineEvent, State, StopReason};
use anteroom_wire::Problem;
use std::collections::VecDeque;

/// How often the world may do what would otherwise have no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) restarts_max: u32,
    pub(super) crashes: u8,
    pub(super) stops: u8,
    pub(super) wishes: u8,
    pub(super) channel_losses: u8,
    pub(super) database_faults: u8,
    pub(super) hangs: u8,
}

/// The session and everything around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) row: Row,
    pub(super) server: Option<Server>,
    pub(super) machines: Vec<Machine>,
    pub(super) left: Bounds,
    /// The first promise that was broken.
    pub(super) broken: Option<&'static str>,
}

/// The database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) ended: Option<Problem>,
    pub(super) ends: u8,
    pub(super) stored: u8,
    pub(super) generation: u32,
    pub(super) machine: Option<usize>,
}

/// A running server, as far as this session goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub(super) owner: Option<Owner>,
    /// The row was ended by somebody who has not told the owner yet.
    pub(super) untold: Option<Problem>,
    pub(super) stopping: bool,
}

/// The owner's task and what it shares with others (`SessionState`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) life: Lifecycle,
    pub(super) orders: VecDeque<Command>,
    pub(super) due: VecDeque<Event>,
    pub(super) job: Option<Job>,
    /// The machine in the facts.
    pub(super) asked: Option<usize>,
    pub(super) held: Option<usize>,
    /// Whether the held machine's state changed since it was looked at.
    pub(super) news: bool,
    pub(super) ending: Option<Problem>,
    pub(super) told: bool,
    pub(super) wish: bool,
    pub(super) offered: bool,
    pub(super) shut: bool,
    pub(super) must_be_gone: bool,
    /// Whether the end of the held machine is on the timeline.
    pub(super) noted: bool,
}

/// What takes time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Stand,
    Ask(usize),
    Claim(usize),
    SetBack,
    Pause,
    End(Problem),
    /// Done; the owner has not heard.
    Done(Event),
}

/// A machine: the server's record of it, and the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Machine {
    pub(super) record: Option<State<()>>,
    pub(super) alive: bool,
    /// It is dead, and its keeper has not finished.
    pub(super) clears: bool,
    pub(super) began: bool,
    pub(super) told: bool,
    /// A keeper that does not obey.
    pub(super) hangs: bool,
    pub(super) claimed: bool,
    pub(super) credential: Credential,
}

/// What the machine's agent has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Credential {
    #[default]
    None,
    /// Written by the tool; to be sent, again if need be.
    Whole,
    /// At the server. `counted`: the owner waits for it.
    Sent { counted: bool },
    /// The server has made up its mind; the answer is on its way.
    Decided { counted: bool },
    /// Answered for good.
    Answered,
}

/// What may happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    // The server.
    Boot,
    Crash,
    StopServer,
    ServerEnds,
    Resume,
    StopUnowned(usize),
    Tell,
    // The owner.
    CarryOut,
    HearDue,
    HearDelivery,
    HearEnd,
    HearMachine,
    HearWish,
    HearOverdue { hold_expired: bool },
    HearGoneOverdue,
    HearUnwatched,
    WorkOn,
    ClaimFails,
    HearJob,
    // The machine.
    ProcessStarted(usize),
    BecomesReady(usize),
    LosesChannel(usize),
    Dies(usize),
    Obeys(usize),
    Hangs(usize),
    SaysDead(usize),
    ClearsUnseen(usize),
    SeenGone(usize),
    // The agent and its delivery.
    Writes(usize),
    Offers(usize),
    Sends(usize),
    Decides(usize),
    DatabaseFails(usize),
    Answers(usize),
    // People.
    Wishes,
    Cancels,
}

impl World {
    /// A session that was just accepted by a server.
    pub(super) fn new(bounds: Bounds) -> Self {
        let (life, orders) = Lifecycle::begin(InitialState::Queued, 1, bounds.restarts_max);
        let owner = Owner::new(life, orders);
        Self {
            row: Row { generation: 1, ..Row::default() },
            server: Some(Server { owner: Some(owner), ..Server::default() }),
            machines: Vec::new(),
            left: bounds,
            broken: None,
        }
    }

    /// Nothing is left to be done: the row has ended and no machine lives.
    pub(super) fn is_settled(&self) -> bool {
        self.row.ended.is_some() && !self.machines.iter().any(|machine| machine.alive)
    }

    pub(super) fn living(&self) -> usize {
        self.machines.iter().filter(|machine| machine.alive).count()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.server_steps(&mut steps);
        self.owner_steps(&mut steps);
        for (at, machine) in self.machines.iter().enumerate() {
            self.machine_steps(at, machine, &mut steps);
        }
        steps
    }

    fn server_steps(&self, steps: &mut Vec<Step>) {
        let Some(server) = &self.server else {
            if !self.is_settled() {
                steps.push(Step::Boot);
            }
            return;
        };
        if self.left.crashes > 0 {
            steps.push(Step::Crash);
        }
        if self.left.stops > 0 && !server.stopping {
            steps.push(Step::StopServer);
        }
        if server.stopping && server.owner.is_none() {
            steps.push(Step::ServerEnds);
        }
        if server.owner.is_none() && self.row.ended.is_none() && !server.stopping {
            steps.push(Step::Resume);
        }
        if server.untold.is_some() {
            steps.push(Step::Tell);
        }
        if self.row.ended.is_none() {
            steps.push(Step::Cancels);
        }
        if self.left.wishes > 0 && server.owner.as_ref().is_some_and(|owner| !owner.wish) {
            steps.push(Step::Wishes);
        }
        // The sweep first takes up what it can, then stops what nobody owns.
        let swept = self.row.ended.is_some() || server.owner.is_some();
        for (at, machine) in self.machines.iter().enumerate() {
            let listed = machine
                .record
                .as_ref()
                .is_some_and(|record| !matches!(record, State::Exited { .. } | State::Removed { .. }));
            let owned = server.owner.as_ref().is_some_and(|owner| owner.asked == Some(at));
            if swept && listed && !owned && !machine.told && !server.stopping {
                steps.push(Step::StopUnowned(at));
            }
        }
    }

    fn machine_steps(&self, at: usize, machine: &Machine, steps: &mut Vec<Step>) {
        let up = self.server.is_some();
        if machine.alive {
            steps.push(Step::Dies(at));
            if machine.told && !machine.hangs {
                steps.push(Step::Obeys(at));
            }
            if self.left.hangs > 0 && !machine.hangs {
                steps.push(Step::Hangs(at));
            }
            match &machine.record {
                Some(State::Cloning) => steps.push(Step::ProcessStarted(at)),
                Some(State::Waiting { .. }) => steps.push(Step::BecomesReady(at)),
                Some(State::Ready { .. }) if self.left.channel_losses > 0 => steps.push(Step::LosesChannel(at)),
                Some(
                    State::Requested
                    | State::Ready { .. }
                    | State::Stopping { .. }
                    | State::Exited { .. }
                    | State::Removed { .. },
                )
                | None => {}
            }
        } else if machine.clears && !up {
            steps.push(Step::ClearsUnseen(at));
        } else if machine.clears && machine.record.as_ref().is_some_and(|record| !record.is_removed()) {
            // A keeper of an older version does not say so first.
            if !matches!(machine.record, Some(State::Exited { .. })) {
                steps.push(Step::SaysDead(at));
            }
            steps.push(Step::SeenGone(at));
        }
        match machine.credential {
            Credential::None if machine.alive && machine.claimed => steps.push(Step::Writes(at)),
            // What it had sent before it died is read until it is gone.
            Credential::Whole if up && (machine.alive || machine.clears && machine.record.is_some()) => {
                let owner = self.server.as_ref().and_then(|server| server.owner.as_ref());
                if owner.is_some_and(|owner| owner.asked == Some(at) && !owner.offered) {
                    steps.push(Step::Offers(at));
                }
                steps.push(Step::Sends(at));
            }
            // What the server has in its hands it can decide on, whatever became of the machine.
            Credential::Sent { .. } => {
                steps.push(Step::Decides(at));
                if self.left.database_faults > 0 {
                    steps.push(Step::DatabaseFails(at));
                }
            }
            Credential::Decided { .. } => steps.push(Step::Answers(at)),
            Credential::None | Credential::Whole | Credential::Answered => {}
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Boot => self.boot(),
            Step::Crash => {
                self.left.crashes -= 1;
                self.server_is_gone();
            }
            Step::StopServer => {
                self.left.stops -= 1;
                self.server_mut().stopping = true;
            }
            Step::ServerEnds => self.server_is_gone(),
            Step::Resume => self.resume(),
            Step::StopUnowned(at) => self.stop(*at, StopReason::Orphaned),
            Step::Tell => {
                let server = self.server_mut();
                let why = server.untold.take();
                if let Some(owner) = &mut server.owner {
                    owner.ending = owner.ending.or(why);
                }
            }
            Step::Wishes => {
                self.left.wishes -= 1;
                self.owner_mut().wish = true;
            }
            Step::Cancels => self.end_row(Problem::Cancelled),
            Step::ProcessStarted(at) => self.machine_on(*at, MachineEvent::ProcessStarted),
            Step::BecomesReady(at) => self.machine_on(*at, MachineEvent::BecameReady(())),
            Step::LosesChannel(at) => {
                self.left.channel_losses -= 1;
                self.machine_on(*at, MachineEvent::ChannelLost { error: String::new() });
            }
            Step::Dies(at) | Step::Obeys(at) => {
                self.machines[*at].alive = false;
                self.machines[*at].clears = true;
            }
            Step::Hangs(at) => {
                self.left.hangs -= 1;
                self.machines[*at].hangs = true;
            }
            Step::SaysDead(at) => {
                let reason = anteroom_machine::ExitReason::KeeperLost;
                self.machine_on(*at, MachineEvent::ProcessExited { reason });
            }
            Step::ClearsUnseen(at) => self.machines[*at].clears = false,
            Step::SeenGone(at) => {
                self.machines[*at].clears = false;
                let reason = anteroom_machine::ExitReason::KeeperLost;
                self.machine_on(*at, MachineEvent::Removed { reason, receipt: None });
            }
            Step::Writes(at) => self.machines[*at].credential = Credential::Whole,
            Step::Offers(_) => self.owner_mut().offered = true,
            Step::Sends(at) => self.send(*at),
            Step::Decides(at) => self.decide(*at),
            Step::DatabaseFails(at) => {
                self.left.database_faults -= 1;
                if let Some(owner) = self.owner_of(*at) {
                    owner.offered = true;
                }
                self.machines[*at].credential = Credential::Whole;
            }
            Step::Answers(at) => {
                if let Some(owner) = self.owner_of(*at) {
                    owner.offered = false;
                }
                self.machines[*at].credential = Credential::Answered;
            }
            owner_step => self.owner_takes(owner_step),
        }
    }

    pub(super) fn server_mut(&mut self) -> &mut Server {
        self.server.as_mut().expect("a server runs")
    }

    pub(super) fn owner_mut(&mut self) -> &mut Owner {
        self.server_mut().owner.as_mut().expect("an owner lives")
    }

    fn owner_of(&mut self, at: usize) -> Option<&mut Owner> {
        self.server.as_mut()?.owner.as_mut().filter(|owner| owner.asked == Some(at))
    }

    pub(super) fn break_promise(&mut self, which: &'static str) {
        self.broken = self.broken.or(Some(which));
    }

    fn boot(&mut self) {
        self.server = Some(Server::default());
        for at in 0..self.machines.len() {
            if self.machines[at].alive || self.machines[at].clears {
                self.machines[at].record = Some(State::Requested);
                self.machine_on(at, MachineEvent::KeeperFound);
            }
        }
    }

    fn server_is_gone(&mut self) {
        self.server = None;
        for machine in &mut self.machines {
            machine.record = None;
            // The connection went with the server: an agent that got no answer sends it again.
            if let Credential::Sent { .. } | Credential::Decided { .. } = machine.credential {
                machine.credential = Credential::Whole;
            }
        }
    }

    /// As the sweep does it.
    fn resume(&mut self) {
        let lives =
            |machine: &usize| self.machines[*machine].record.as_ref().is_some_and(|record| !record.is_removed());
        let found = initial_state(false, self.row.machine.is_some(), self.row.machine.as_ref().is_some_and(lives));
        let (life, orders) = Lifecycle::begin(found, self.row.generation, self.left.restarts_max);
        let mut owner = Owner::new(life, orders);
        match found {
            InitialState::Adopted => {
                owner.asked = self.row.machine;
                owner.held = self.row.machine;
                owner.news = true;
                owner.offered = true;
            }
            InitialState::Lost => {
                let problem = Problem::ControllerRestarted;
                owner.due.push_back(Event::MachineRemoved { problem, detail: String::new() });
            }
            InitialState::Queued | InitialState::Attached => {}
        }
        self.server_mut().owner = Some(owner);
    }

    /// Writes an end to the row, as everybody does: only if it has none.
    pub(super) fn end_row(&mut self, why: Problem) {
        if self.row.ended.is_none() {
            self.row.ended = Some(why);
            self.row.ends += 1;
            self.server_mut().untold = Some(why);
        }
    }

    pub(super) fn stop(&mut self, at: usize, why: StopReason) {
        self.machine_on(at, MachineEvent::StopRequested(why));
        if matches!(self.machines[at].record, Some(State::Stopping { .. })) {
            self.machines[at].told = true;
        }
    }

    pub(super) fn machine_on(&mut self, at: usize, event: MachineEvent<()>) {
        let Some(record) = &self.machines[at].record else { return };
        let Ok(next) = record.on(event) else { return };
        self.machines[at].record = Some(next);
        if let Some(owner) = self.server.as_mut().and_then(|server| server.owner.as_mut())
            && owner.held == Some(at)
        {
            owner.news = true;
        }
    }

    fn send(&mut self, at: usize) {
        let is_its_own = self.row.machine == Some(at);
        let owner = self.server.as_ref().and_then(|server| server.owner.as_ref());
        let counted = is_its_own && owner.is_some_and(|owner| !owner.shut);
        self.machines[at].credential = Credential::Sent { counted };
    }

    /// One transaction: the credential and the session's completion, if the row is active and the machine its own.
    fn decide(&mut self, at: usize) {
        let Credential::Sent { counted } = self.machines[at].credential else { return };
        if self.row.ended.is_none() {
            if self.row.machine == Some(at) {
                self.row.stored += 1;
                self.end_row(Problem::Completed);
            } else if counted {
                self.break_promise("a delivery in hand was refused though its session lived");
            }
        }
        self.machines[at].credential = Credential::Decided { counted };
    }
}

impl Owner {
    fn new(life: Lifecycle, orders: Vec<Command>) -> Self {
        Self {
            life,
            orders: orders.into(),
            due: VecDeque::new(),
            job: None,
            asked: None,
            held: None,
            news: false,
            ending: None,
            told: false,
            wish: false,
            offered: false,
            shut: false,
            must_be_gone: false,
            noted: false,
        }
    }
}
