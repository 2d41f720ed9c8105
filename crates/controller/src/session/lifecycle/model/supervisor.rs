//! The owner's task in the model: it carries out orders one by one and hears one thing at a time, in the order in which
//! the real one looks at its sources.

use super::{Credential, Job, Machine, Owner, Step, World};
use crate::session::lifecycle::{Command, Delivery, Entry, Event, PublishedState};
use anteroom_machine::{Event as MachineEvent, State, StopReason};
use anteroom_wire::Problem;

impl World {
    pub(super) fn owner_steps(&self, steps: &mut Vec<Step>) {
        let Some((server, owner)) = self.server.as_ref().and_then(|server| Some((server, server.owner.as_ref()?)))
        else {
            return;
        };
        match &owner.job {
            Some(Job::Done(_)) | None => {}
            Some(Job::Claim(_)) => steps.extend([Step::WorkOn, Step::ClaimFails]),
            Some(Job::Stand | Job::Ask(_) | Job::SetBack | Job::Pause | Job::End(_)) => steps.push(Step::WorkOn),
        }
        if !owner.orders.is_empty() {
            return steps.push(Step::CarryOut);
        }
        if !owner.due.is_empty() {
            return steps.push(Step::HearDue);
        }
        if self.delivery(owner) != owner.life.delivery() {
            return steps.push(Step::HearDelivery);
        }
        if !owner.told && (owner.ending.is_some() || server.stopping) {
            return steps.push(Step::HearEnd);
        }
        if matches!(owner.job, Some(Job::Done(_))) {
            return steps.push(Step::HearJob);
        }
        if owner.news {
            return steps.push(Step::HearMachine);
        }
        if server.stopping && owner.held.is_some() {
            steps.push(Step::HearUnwatched);
        }
        if owner.wish {
            steps.push(Step::HearWish);
        }
        if owner.must_be_gone {
            steps.push(Step::HearGoneOverdue);
        }
        steps.extend([false, true].map(|hold_expired| Step::HearOverdue { hold_expired }));
    }

    /// What the facts say of deliveries.
    fn delivery(&self, owner: &Owner) -> Delivery {
        let in_flight = self.machines.iter().any(|machine| match machine.credential {
            Credential::Sent { counted } | Credential::Decided { counted } => counted,
            Credential::None | Credential::Whole | Credential::Answered => false,
        });
        match (in_flight, owner.offered) {
            (true, _) => Delivery::InFlight,
            (false, true) => Delivery::Pending,
            (false, false) => Delivery::None,
        }
    }

    fn delivery_now(&self) -> Delivery {
        let owner = self.server.as_ref().and_then(|server| server.owner.as_ref());
        owner.map_or(Delivery::None, |owner| self.delivery(owner))
    }

    pub(super) fn owner_takes(&mut self, step: &Step) {
        let event = match step {
            Step::CarryOut => {
                let order = self.owner_mut().orders.pop_front().expect("an order");
                if let Some(event) = self.carry_out(order) {
                    self.owner_mut().due.push_back(event);
                }
                return self.leave_if_over();
            }
            Step::WorkOn => return self.work_on(),
            Step::ClaimFails => {
                self.owner_mut().job = Some(Job::Done(Event::ClaimFailed { why: String::new() }));
                return;
            }
            Step::HearDue => self.owner_mut().due.pop_front().expect("a due event"),
            Step::HearDelivery => Event::DeliveryChanged(self.delivery_now()),
            Step::HearEnd => {
                let owner = self.owner_mut();
                owner.told = true;
                owner.ending.map_or(Event::ServerStopping, Event::SessionEnded)
            }
            Step::HearJob => match self.owner_mut().job.take() {
                Some(Job::Done(event)) => event,
                other => unreachable!("{other:?}"),
            },
            Step::HearMachine => self.look(),
            Step::HearUnwatched => {
                self.owner_mut().held = None;
                Event::WatcherClosed
            }
            Step::HearWish => {
                self.owner_mut().wish = false;
                Event::RestartRequested
            }
            Step::HearGoneOverdue => {
                self.owner_mut().must_be_gone = false;
                Event::CleanupTimedOut
            }
            Step::HearOverdue { hold_expired } => Event::DeadlinePassed {
                problem: Problem::IdleExpired,
                detail: String::new(),
                hold_expired: *hold_expired,
            },
            other => unreachable!("{other:?}"),
        };
        let waits = self.owner_mut().life.delivery() != Delivery::None;
        let impatient = waits && !matches!(event, Event::DeadlinePassed { hold_expired: true, .. });
        let orders = self.owner_mut().life.on(event);
        if impatient && orders.iter().any(is_automatic) {
            self.break_promise("a credential that waited did not hold an automatic end back");
        }
        self.owner_mut().orders.extend(orders);
        self.leave_if_over();
    }

    fn leave_if_over(&mut self) {
        let owner = self.owner_mut();
        if owner.orders.is_empty() && owner.life.is_finished() {
            self.server_mut().owner = None;
        }
    }

    fn look(&mut self) -> Event {
        let owner = self.owner_mut();
        owner.news = false;
        let at = owner.held.expect("a machine");
        match self.machines[at].record.as_ref().expect("a record") {
            State::Ready { .. } => Event::MachineReady,
            State::Exited { .. } => Event::MachineExited { problem: Problem::MachineFailed, detail: String::new() },
            State::Removed { .. } => {
                let owner = self.owner_mut();
                owner.held = None;
                owner.must_be_gone = false;
                Event::MachineRemoved { problem: Problem::MachineFailed, detail: String::new() }
            }
            State::Requested | State::Cloning | State::Waiting { .. } | State::Stopping { .. } => {
                Event::MachineNotReady
            }
        }
    }

    fn carry_out(&mut self, order: Command) -> Option<Event> {
        let at = self.machines.len();
        let owner = self.owner_mut();
        match order {
            Command::Enqueue => owner.job = Some(Job::Stand),
            Command::RequestMachine => {
                owner.asked = Some(at);
                owner.job = Some(Job::Ask(at));
                self.machines.push(Machine { record: Some(State::Requested), ..Machine::default() });
            }
            Command::StartMachine => return Some(self.start()),
            Command::ClaimMachine => {
                let at = owner.held?;
                if matches!(self.machines[at].record, Some(State::Ready { .. })) {
                    self.owner_mut().job = Some(Job::Claim(at));
                }
            }
            Command::RecordReplacement { .. } => owner.job = Some(Job::SetBack),
            Command::BackOff { .. } => owner.job = Some(Job::Pause),
            Command::EndSession { problem, .. } => owner.job = Some(Job::End(problem)),
            Command::StopDeliveries => {
                owner.shut = true;
                return Some(Event::DeliveryChanged(self.delivery_now()));
            }
            Command::StopMachine(why) => self.stop_held(why),
            Command::AwaitCleanup => {
                owner.job = None;
                owner.must_be_gone = true;
            }
            Command::Record(about) => self.note(&about),
            Command::Publish(PublishedState::Lost) => {
                owner.asked = None;
                owner.offered = false;
                owner.shut = false;
            }
            Command::Publish(_) => {}
        }
        None
    }

    fn note(&mut self, about: &Entry) {
        let owner = self.owner_mut();
        let (was_noted, is_gone) = (owner.noted, owner.held.is_none());
        match about {
            Entry::MachineExited | Entry::MachineExitedAndRemoved if was_noted => {
                self.break_promise("a machine's end was told twice")
            }
            Entry::MachineRemoved if !was_noted => {
                self.break_promise("what is left of a machine was told before its end")
            }
            Entry::MachineRemoved | Entry::MachineExitedAndRemoved if !is_gone => {
                self.break_promise("nothing was left of a machine that was not gone");
            }
            Entry::MachineExited => owner.noted = true,
            Entry::MachineRemoved => owner.noted = false,
            _ => {}
        }
    }

    fn start(&mut self) -> Event {
        if self.server_mut().stopping {
            return Event::ServerStopping;
        }
        let owner = self.owner_mut();
        let at = owner.asked.expect("a machine that was asked for");
        owner.held = Some(at);
        owner.news = true;
        owner.wish = false;
        let others = self.machines.iter().enumerate().filter(|(other, machine)| *other != at && machine.began);
        if others.into_iter().any(|(_, machine)| machine.record.as_ref().is_some_and(|record| !record.is_removed())) {
            self.break_promise("a machine was started before the last was seen gone");
        }
        self.machines[at].alive = true;
        self.machines[at].began = true;
        self.machine_on(at, MachineEvent::KeeperFound);
        if self.living() > 1 {
            self.break_promise("a second machine was started beside a living one");
        }
        Event::MachineStarted
    }

    fn stop_held(&mut self, why: StopReason) {
        let owner = self.owner_mut();
        let Some(at) = owner.held else { return };
        owner.job = None;
        owner.must_be_gone = true;
        if let Credential::Sent { counted: true } | Credential::Decided { counted: true } = self.machines[at].credential
        {
            self.break_promise("a machine was stopped while its delivery was being answered");
        }
        self.stop(at, why);
    }

    /// One step of what takes time: its one write, if it has one.
    fn work_on(&mut self) {
        let active = self.row.ended.is_none();
        let over = |world: &World| Event::SessionEnded(world.row.ended.expect("an end"));
        let generation = self.owner_mut().life.generation();
        let done = match self.owner_mut().job.clone().expect("a job") {
            Job::Stand => Event::PermitGranted,
            Job::Pause => Event::BackoffElapsed,
            Job::Ask(at) if active => {
                self.row.generation = generation;
                self.row.machine = Some(at);
                Event::RequestRecorded
            }
            Job::SetBack if active => {
                self.row.generation = generation;
                self.row.machine = None;
                Event::ReplacementRecorded
            }
            Job::Ask(_) | Job::SetBack => over(self),
            Job::End(why) => {
                self.end_row(why);
                over(self)
            }
            Job::Claim(at) => self.claim(at),
            Job::Done(event) => event,
        };
        self.owner_mut().job = Some(Job::Done(done));
    }

    fn claim(&mut self, at: usize) -> Event {
        let machine = &mut self.machines[at];
        if !machine.alive || !matches!(machine.record, Some(State::Ready { .. })) {
            return Event::ClaimFailed { why: String::new() };
        }
        machine.claimed = true;
        // An agent that is waiting for its answer says that it has something to deliver.
        let has_one = !matches!(machine.credential, Credential::None | Credential::Answered);
        self.owner_mut().offered = has_one;
        Event::Claimed
    }
}

/// Whether the order ends or replaces something that nobody but the server decided on, or that only costs a wish.
fn is_automatic(order: &Command) -> bool {
    matches!(
        order,
        Command::EndSession { problem: Problem::IdleExpired, .. } | Command::Record(Entry::RestartRequested)
    )
}
