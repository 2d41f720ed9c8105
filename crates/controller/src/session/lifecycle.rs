//! A session's life as its owner lives it, pure: no clock, no I/O, no log. The owner's task ([`super::owner`]) only carries
//! out what this decides, and tells it what came of that.
//!
//! ```text
//!  Line ─▶ Asking ─▶ Preparing ─▶ Claiming ─▶ Open ──(machine dead)─▶ Clearing ─(gone)▶ SettingBack ─▶ Pausing ─┐
//!   ▲                    │            │         │                                            ▲                  │
//!   │                    └────────────┴─────────┴─▶ Answering ─▶ Replacing ──────────────────┘                  │
//!   └───────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//!  (a deadline, or no machine left) ─▶ Ending ─┐
//!  (the row has ended, whoever wrote it) ──────┴─▶ Answering ─▶ Stopping ─▶ Over
//!  (the server stops) ─▶ Left: the machine lives on for the next server
//! ```
//!
//! A machine's death is told when it is known; another machine is asked for when nothing of the dead one is left.
//!
//! What it promises, and what the model check in `lifecycle/model.rs` holds it to in every order of events:
//! a session has at most one live machine; every session ends once; a machine is not stopped while a delivery from it is
//! being answered; a credential that waits to be delivered holds automatic ends back.

use anteroom_machine::StopReason;
use anteroom_wire::Problem;

pub mod end_kind;
mod messages;
#[cfg(test)]
mod model;
mod phase;
#[cfg(test)]
mod tests;

pub use end_kind::EndKind;
pub use messages::{Event, Note, Order, RestartRefused, Shown};
pub use phase::{Delivery, Phase, Then};

/// The wait before the third machine, milliseconds; doubles for each further one. The second comes at once.
const PAUSE_MS: u64 = 200;
/// Doublings of that wait at most.
const DOUBLINGS_MAX: u32 = 5;

/// Where a session stands with its owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    phase: Phase,
    generation: u32,
    restarts_max: u32,
    delivery: Delivery,
    /// The present machine's death was told; its keeper has not finished with it.
    dead: bool,
}

/// Where an owner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Beginning {
    /// In line, for its first machine or a further one.
    Line,
    /// With a machine that lives already.
    Adopted,
    /// With a machine that was asked for and is not there.
    Lost,
    /// At an outside desktop.
    Attached,
}

/// Where the owner of an active row begins when a server finds it without one.
pub fn beginning(external: bool, machine_asked: bool, machine_lives: bool) -> Beginning {
    match (external, machine_asked, machine_lives) {
        (true, _, _) => Beginning::Attached,
        (false, true, true) => Beginning::Adopted,
        (false, true, false) => Beginning::Lost,
        (false, false, _) => Beginning::Line,
    }
}

impl Lifecycle {
    /// The beginning and what has to be done first. After [`Beginning::Lost`], [`Event::MachineGone`] is to follow.
    pub fn begin(from: Beginning, generation: u32, restarts_max: u32) -> (Self, Vec<Order>) {
        let (phase, delivery, orders) = match from {
            Beginning::Line => (Phase::Line, Delivery::None, vec![Order::Stand]),
            // What it has to deliver is not known before its agent was asked.
            Beginning::Adopted => (Phase::Preparing, Delivery::Offered, vec![Order::Show(Shown::Preparing)]),
            Beginning::Lost => (Phase::Preparing, Delivery::None, vec![Order::Show(Shown::Preparing)]),
            Beginning::Attached => (Phase::Attached, Delivery::None, vec![Order::Show(Shown::Attached)]),
        };
        (Self { phase, generation, restarts_max, delivery, dead: false }, orders)
    }

    /// The phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// 1 for the first machine.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What is known of the present machine's delivery.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Whether there is a machine, or something of one, that has to be seen gone before the owner may go.
    pub fn has_machine(&self) -> bool {
        self.dead || self.phase.has_machine()
    }

    /// Whether the owner may go.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Left)
    }

    /// The whole lifecycle: what `event` makes of this, and what has to be done. An event that has no place here changes
    /// nothing and orders nothing.
    pub fn on(&mut self, event: Event) -> Vec<Order> {
        match (self.phase.clone(), event) {
            (Phase::Over | Phase::Left, _) => Vec::new(),
            (phase, Event::Ended(why)) => self.ended(phase, why),
            (phase, Event::ServerStops) => self.server_stops(phase),
            (phase, Event::Delivery(delivery)) => self.delivery_changed(phase, delivery),
            (phase, Event::Overdue { problem, detail, patience_over }) => {
                self.overdue(phase, problem, detail, patience_over)
            }
            (phase, Event::RestartAsked) => self.restart_requested(phase),
            (phase, Event::MachineDied { problem, detail }) => self.machine_died(phase, problem, detail),
            (phase, Event::MachineGone { problem, detail }) => self.on_machine_gone(phase, problem, detail),
            (phase, Event::MachineReady) => self.machine_ready(phase),
            (phase, Event::MachineNotReady) => self.machine_not_ready(phase),

            (Phase::Line, Event::RoomGiven) => self.go(Phase::Asking, vec![Order::Ask]),
            (Phase::Line, Event::LineFull { detail }) => self.fail(Problem::NoCapacity, detail),
            (Phase::Asking, Event::Asked) => vec![Order::Start],
            (Phase::Asking, Event::StartResponse) => self.go(Phase::Preparing, vec![Order::Show(Shown::Preparing)]),
            (Phase::Asking, Event::NotStarted { problem, detail }) => {
                let mut orders = self.seen_lost(problem);
                orders.extend(self.lost(problem, detail));
                orders
            }
            (Phase::Claiming, Event::Claimed) => {
                self.go(Phase::Open { reachable: true }, vec![Order::Show(Shown::Open)])
            }
            (Phase::Claiming, Event::ClaimFailed { why }) => {
                let orders = vec![Order::Note(Note::ClaimFailed { why }), Order::Shut];
                self.go(Phase::Answering { then: Then::Replace(StopReason::Failed) }, orders)
            }
            (Phase::SettingBack, Event::SetBack) => self.pause(),
            (Phase::Pausing, Event::Paused) => self.go(Phase::Line, vec![Order::Stand]),
            (Phase::Stopping, Event::GoneOverdue) => self.go(Phase::Over, vec![Order::Note(Note::NotGone)]),
            // A second machine beside one that may live is out of the question.
            (Phase::Replacing | Phase::Clearing { .. }, Event::GoneOverdue) => {
                let detail = "The last machine was not seen gone.".to_owned();
                let end = Order::End { how: EndKind::Failed, problem: Problem::MachineFailed, detail };
                self.go(Phase::Ending { machine: true }, vec![Order::Note(Note::NotGone), end])
            }
            (Phase::Stopping | Phase::Answering { then: Then::Over(_) }, Event::Unwatched) => {
                self.go(Phase::Over, vec![Order::Note(Note::LeftBehind)])
            }
            (
                _,
                Event::RoomGiven
                | Event::LineFull { .. }
                | Event::Asked
                | Event::Started
                | Event::NotStarted { .. }
                | Event::Claimed
                | Event::ClaimFailed { .. }
                | Event::SetBack
                | Event::Paused
                | Event::GoneOverdue
                | Event::Unwatched,
            ) => Vec::new(),
        }
    }

    fn may_have_another(&self) -> bool {
        self.generation <= self.restarts_max
    }

    /// What everybody sees of a machine that is dead or gone. What it had delivered and is being answered may still complete
    /// the session: without another machine, nothing is said before that is decided.
    fn seen_lost(&self, problem: Problem) -> Vec<Order> {
        match (self.may_have_another(), self.delivery) {
            (true, _) => vec![Order::Show(Shown::Lost)],
            (false, Delivery::None | Delivery::Offered) => vec![Order::Show(Shown::NoneLeft(problem))],
            (false, Delivery::InFlight) => Vec::new(),
        }
    }

    fn go(&mut self, phase: Phase, orders: Vec<Order>) -> Vec<Order> {
        self.phase = phase;
        orders
    }

    fn ended(&mut self, phase: Phase, why: Problem) -> Vec<Order> {
        if matches!(phase, Phase::Answering { then: Then::Over(_) } | Phase::Stopping) {
            return Vec::new();
        }
        let closing = Order::Show(Shown::Closing);
        if !self.has_machine() {
            return self.go(Phase::Over, vec![closing, Order::Note(Note::Egress)]);
        }
        self.go(Phase::Answering { then: Then::Over(why) }, vec![closing, Order::Shut])
    }

    fn server_stops(&mut self, phase: Phase) -> Vec<Order> {
        match phase {
            // The row has ended: the machine is seen to its end.
            Phase::Answering { then: Then::Over(_) } | Phase::Stopping => Vec::new(),
            Phase::Line
            | Phase::Asking
            | Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::Answering { then: Then::Replace(_) | Then::Lost { .. } }
            | Phase::Replacing
            | Phase::Clearing { .. }
            | Phase::SettingBack
            | Phase::Pausing
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Over
            | Phase::Left => self.go(Phase::Left, Vec::new()),
        }
    }

    fn delivery_changed(&mut self, phase: Phase, delivery: Delivery) -> Vec<Order> {
        self.delivery = delivery;
        match (phase, delivery) {
            (Phase::Answering { then: Then::Over(why) }, Delivery::None | Delivery::Offered) => {
                self.go(Phase::Stopping, vec![Order::Stop(stop_reason(why)), Order::Note(Note::Egress)])
            }
            (Phase::Answering { then: Then::Replace(why) }, Delivery::None | Delivery::Offered) => {
                self.go(Phase::Replacing, vec![Order::Stop(why)])
            }
            (Phase::Answering { then: Then::Lost { problem, detail } }, Delivery::None | Delivery::Offered) => {
                // Where there is another machine, it was said when the last one was lost.
                let mut orders = if self.may_have_another() { Vec::new() } else { self.seen_lost(problem) };
                orders.extend(self.lost(problem, detail));
                orders
            }
            (_, _) => Vec::new(),
        }
    }

    fn overdue(&mut self, phase: Phase, problem: Problem, detail: String, patience_over: bool) -> Vec<Order> {
        if !phase.is_active() || (self.delivery != Delivery::None && !patience_over) {
            return Vec::new();
        }
        let machine = self.has_machine();
        self.go(Phase::Ending { machine }, vec![Order::End { how: EndKind::Expired, problem, detail }])
    }

    fn restart_requested(&mut self, phase: Phase) -> Vec<Order> {
        if !matches!(phase, Phase::Preparing | Phase::Claiming | Phase::Open { .. }) {
            return Vec::new();
        }
        let refused = if self.delivery != Delivery::None {
            Some(RestartRefused::Delivering)
        } else if !self.may_have_another() {
            Some(RestartRefused::NoneLeft)
        } else {
            None
        };
        match refused {
            Some(why) => vec![Order::Note(Note::RestartRefused(why))],
            None => {
                let orders = vec![Order::Note(Note::RestartAsked), Order::Shut];
                self.go(Phase::Answering { then: Then::Replace(StopReason::Restarted) }, orders)
            }
        }
    }

    fn machine_ready(&mut self, phase: Phase) -> Vec<Order> {
        match phase {
            Phase::Preparing => self.go(Phase::Claiming, vec![Order::Show(Shown::Claiming), Order::Claim]),
            // The machine is the same, only the way to it is new; said again, it is the newest way.
            Phase::Open { reachable } => {
                let mut orders = vec![Order::Show(Shown::Open)];
                if !reachable {
                    orders.push(Order::Note(Note::Reopened));
                }
                self.go(Phase::Open { reachable: true }, orders)
            }
            Phase::Line
            | Phase::Asking
            | Phase::Claiming
            | Phase::Replacing
            | Phase::Clearing { .. }
            | Phase::SettingBack
            | Phase::Pausing
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Answering { .. }
            | Phase::Stopping
            | Phase::Over
            | Phase::Left => Vec::new(),
        }
    }

    fn machine_not_ready(&mut self, phase: Phase) -> Vec<Order> {
        let show = vec![Order::Show(Shown::Preparing)];
        match phase {
            Phase::Preparing | Phase::Replacing => show,
            // What was under way went with the channel; a claim can be made again.
            Phase::Claiming => self.go(Phase::Preparing, show),
            Phase::Open { reachable: true } => {
                let orders = vec![Order::Show(Shown::Preparing), Order::Note(Note::ChannelLost)];
                self.go(Phase::Open { reachable: false }, orders)
            }
            Phase::Open { reachable: false } => show,
            Phase::Line
            | Phase::Asking
            | Phase::Clearing { .. }
            | Phase::SettingBack
            | Phase::Pausing
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Answering { .. }
            | Phase::Stopping
            | Phase::Over
            | Phase::Left => Vec::new(),
        }
    }

    /// The process has ended: everybody is told, and nothing else happens before the machine is gone.
    fn machine_died(&mut self, phase: Phase, problem: Problem, detail: String) -> Vec<Order> {
        match phase {
            Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::Answering { then: Then::Replace(_) }
            | Phase::Replacing => {
                self.dead = true;
                self.without_a_machine(problem, detail)
            }
            Phase::Ending { machine: true } if !self.dead => {
                self.dead = true;
                vec![Order::Note(Note::Gone)]
            }
            // It was to end, and nobody waits for it: one word when it is gone.
            Phase::Answering { then: Then::Over(_) } | Phase::Stopping => Vec::new(),
            Phase::Line
            | Phase::Asking
            | Phase::Answering { then: Then::Lost { .. } }
            | Phase::Clearing { .. }
            | Phase::SettingBack
            | Phase::Pausing
            | Phase::Attached
            | Phase::Ending { .. }
            | Phase::Over
            | Phase::Left => Vec::new(),
        }
    }

    fn on_machine_gone(&mut self, phase: Phase, problem: Problem, detail: String) -> Vec<Order> {
        let was_told = std::mem::take(&mut self.dead);
        let note = Order::Note(if was_told { Note::Cleared } else { Note::GoneAndCleared });
        match phase {
            Phase::Preparing
            | Phase::Claiming
            | Phase::Open { .. }
            | Phase::Answering { then: Then::Replace(_) }
            | Phase::Replacing => {
                // Dead and gone at once, as from a keeper that does not say the first.
                let mut orders = self.without_a_machine(problem, detail);
                let after = orders.iter().position(|order| *order == Order::Note(Note::Gone)).map_or(0, |at| at + 1);
                orders.insert(after, Order::Note(Note::Cleared));
                orders
            }
            // What it had sent before it died may still have been read.
            Phase::Clearing { problem, detail } if self.delivery == Delivery::InFlight => {
                self.go(Phase::Answering { then: Then::Lost { problem, detail } }, vec![note])
            }
            Phase::Clearing { problem, detail } => {
                let mut orders = vec![note];
                orders.extend(self.lost(problem, detail));
                orders
            }
            Phase::Ending { machine: true } if was_told => self.go(Phase::Ending { machine: false }, vec![note]),
            Phase::Ending { machine: true } => {
                self.go(Phase::Ending { machine: false }, vec![Order::Note(Note::Gone), Order::Note(Note::Cleared)])
            }
            Phase::Answering { then: Then::Over(_) } => self.go(Phase::Over, vec![note, Order::Note(Note::Egress)]),
            Phase::Stopping => self.go(Phase::Over, vec![note]),
            // Its death was told; what it had delivered is still being answered.
            Phase::Answering { then: Then::Lost { .. } } if was_told => vec![note],
            Phase::Line
            | Phase::Asking
            | Phase::Answering { then: Then::Lost { .. } }
            | Phase::SettingBack
            | Phase::Pausing
            | Phase::Attached
            | Phase::Ending { machine: false }
            | Phase::Over
            | Phase::Left => Vec::new(),
        }
    }

    /// The machine is dead or gone. First what everybody sees, then the record of it.
    fn without_a_machine(&mut self, problem: Problem, detail: String) -> Vec<Order> {
        let mut orders = self.seen_lost(problem);
        orders.push(Order::Note(Note::Gone));
        if self.delivery == Delivery::InFlight {
            self.phase = Phase::Answering { then: Then::Lost { problem, detail } };
        } else {
            orders.extend(self.lost(problem, detail));
        }
        orders
    }

    /// There is no machine any more, or a dead one: another one, as soon as that is gone, or the end.
    fn lost(&mut self, problem: Problem, detail: String) -> Vec<Order> {
        self.delivery = Delivery::None;
        if !self.may_have_another() {
            return self.fail(problem, detail);
        }
        if self.dead {
            return self.go(Phase::Clearing { problem, detail }, vec![Order::AwaitGone]);
        }
        self.generation += 1;
        self.go(Phase::SettingBack, vec![Order::SetBack { problem, detail }])
    }

    fn fail(&mut self, problem: Problem, detail: String) -> Vec<Order> {
        let machine = self.dead;
        self.go(Phase::Ending { machine }, vec![Order::End { how: EndKind::Failed, problem, detail }])
    }

    fn pause(&mut self) -> Vec<Order> {
        if self.generation <= 2 {
            return self.go(Phase::Line, vec![Order::Stand]);
        }
        let doublings = (self.generation - 3).min(DOUBLINGS_MAX);
        self.go(Phase::Pausing, vec![Order::Pause { ms: PAUSE_MS << doublings }])
    }
}

/// Why a machine is stopped whose session ended for this.
fn stop_reason(over: Problem) -> StopReason {
    let known = [
        (Problem::Completed, StopReason::Completed),
        (Problem::UseCompleted, StopReason::Completed),
        (Problem::Cancelled, StopReason::Cancelled),
        (Problem::IdleExpired, StopReason::IdleExpired),
        (Problem::DeadlineExpired, StopReason::DeadlineExpired),
    ];
    known.into_iter().find(|(problem, _)| *problem == over).map_or(StopReason::Failed, |(_, reason)| reason)
}
