//! Carrying out the lifecycle's orders: at once, or as a job.

use super::{Driver, jobs};
use crate::{
    api_error::chain,
    clock, random,
    session::{
        change_method,
        lifecycle::{Event, Note, Order, RestartRefused, Shown},
        status::{Progress, stage_of},
        timeline,
    },
};
use anteroom_machine::{StartError, State, StopReason};
use anteroom_store::Sha256Hex;
use anteroom_wire::{MachineId, Problem, agent::Stage};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl Driver {
    /// Carries an order out, or begins to. `Some`: what came of it at once.
    pub(super) async fn execute(&mut self, order: Order) -> Option<Event> {
        let (app, live) = (self.app.clone(), Arc::clone(&self.live));
        match order {
            Order::Stand => return self.stand().await,
            Order::Ask => self.ask().await,
            Order::Start => return Some(self.start().await),
            Order::Claim => self.claim().await,
            Order::SetBack { problem, detail } => {
                self.give_up_job().await;
                self.job = Some(jobs::set_back(app, live, self.life.generation(), problem, detail));
            }
            Order::Pause { ms } => {
                self.give_up_job().await;
                self.job = Some(jobs::pause(ms));
            }
            Order::End { how, problem, detail } => {
                self.give_up_job().await;
                self.job = Some(jobs::end(app, live, how, problem, detail));
            }
            Order::Shut => return Some(Event::Delivery(self.live.shut())),
            Order::Stop(why) => self.stop(why).await,
            Order::AwaitGone => self.await_gone().await,
            Order::Show(shown) => self.show(shown),
            Order::Note(about) => self.record(about).await,
        }
        None
    }

    /// Nothing of a former job happens once another order is carried out.
    async fn give_up_job(&mut self) {
        if let Some(job) = self.job.take() {
            job.give_up().await;
        }
    }

    async fn stand(&mut self) -> Option<Event> {
        let place = match self.place.take() {
            Some(place) => place,
            None => match self.app.queue.stand(self.live.id.clone()) {
                Ok(place) => place,
                Err(full) => return Some(Event::LineFull { detail: full.to_string() }),
            },
        };
        self.give_up_job().await;
        self.job = Some(jobs::stand(Arc::clone(&self.live), place));
        None
    }

    async fn ask(&mut self) {
        self.give_up_job().await;
        let machine = random::id(MachineId::from_parts);
        let token = random::token("agt_");
        let generation = self.life.generation();
        self.live.change(|facts| {
            facts.generation = generation;
            facts.machine = Some(machine.clone());
            facts.agent_token = Some(Sha256Hex::of_secret(&token));
            facts.progress = Progress::Preparing { stage: Stage::Process };
        });
        self.job = Some(jobs::ask(self.app.clone(), Arc::clone(&self.live), generation, machine, &token));
        self.token = Some(token);
    }

    async fn start(&mut self) -> Event {
        let (Some(machine), Some(room)) = (self.live.facts().machine, self.room.take()) else {
            let detail = "a machine was to be started before it was asked for".to_owned();
            return Event::NotStarted { problem: Problem::Internal, detail };
        };
        // A wish from before this machine is not meant for it.
        let _ = self.live.restart.notified().now_or_never();
        let refused = match self.app.machines.start(machine.clone()) {
            Ok(state) => {
                self.hold(machine, state, room);
                return Event::StartResponse;
            }
            Err(refused) => refused,
        };
        let problem = match &refused {
            StartError::NoCapacity { .. } => Problem::NoCapacity,
            StartError::Spec(_) => Problem::NoImage,
            StartError::Stopping => return Event::ServerStops,
            StartError::Duplicate => Problem::Internal,
        };
        let detail = chain(&refused);
        self.say("machine_start_failed", format!("No machine could be started: {detail}."), json!({})).await;
        Event::NotStarted { problem, detail }
    }

    async fn claim(&mut self) {
        let Some(held) = &self.held else { return };
        // If it is no longer ready, that is news which is on its way.
        let State::Ready { channels } = held.state.borrow().clone() else { return };
        let (app, live, machine) = (self.app.clone(), Arc::clone(&self.live), held.machine.clone());
        self.give_up_job().await;
        self.job = Some(jobs::claim(app, live, self.life.generation(), machine, channels, self.token.clone()));
    }

    async fn stop(&mut self, why: StopReason) {
        let Some(held) = &self.held else { return };
        self.app.machines.stop(&held.machine, why);
        self.await_gone().await;
    }

    async fn await_gone(&mut self) {
        // A claim of a machine that ends leads nowhere.
        self.give_up_job().await;
        self.gone_by = Some(Instant::now() + Duration::from_secs(self.app.config.sessions.cleanup_timeout_s));
    }

    fn show(&mut self, shown: Shown) {
        let state = self.held.as_ref().map(|held| held.state.borrow().clone());
        let preparing =
            |state: Option<State>| Progress::Preparing { stage: state.as_ref().map_or(Stage::Process, stage_of) };
        match (shown, state) {
            (Shown::Claiming, Some(State::Ready { channels })) => self.live.set(Progress::Claiming { channels }),
            (Shown::Open, Some(State::Ready { channels })) => self.live.set(Progress::Open { channels }),
            // What was ready a moment ago is not any more; its next state is on its way.
            (Shown::Claiming | Shown::Open | Shown::Preparing, state) => self.live.set(preparing(state)),
            (Shown::Lost, _) => self.lose(),
            // The end is written first for everybody else; whose stream has broken need not wait for that.
            (Shown::NoneLeft(problem), _) => self.live.change(|facts| _ = facts.sockets.close(problem)),
            (Shown::Attached, _) => self.live.set(Progress::Attached),
            (Shown::Closing, _) => self.live.set(Progress::Closing),
        }
    }

    /// Nothing of the machine is true any more; its viewers are told to come back.
    fn lose(&mut self) {
        self.token = None;
        self.live.change(|facts| {
            facts.progress = Progress::Lost;
            facts.machine = None;
            facts.agent_token = None;
            facts.sign_in = Default::default();
            facts.device_code_at_ms = None;
            facts.event_seen = 0;
            facts.offered = false;
            facts.kept = false;
            facts.shut = false;
            facts.sockets.close(Problem::MachineReplaced);
            facts.sockets = self.live.close_signal.child();
        });
    }

    async fn record(&mut self, about: Note) {
        let machine = self.held.as_ref().map(|held| held.machine.clone());
        match about {
            Note::Gone => self.note_gone(false).await,
            Note::GoneAndCleared => self.note_gone(true).await,
            Note::Cleared => self.note_cleared().await,
            Note::NotGone => self.note_not_gone().await,
            Note::LeftBehind => {
                tracing::info!(outcome = "machine_left", session = %self.live.id, ?machine, "the server stops before the machine was seen gone");
            }
            Note::ChannelLost => self.note_channel_lost(),
            Note::Reopened => {
                let sentence = "The way to the machine's agent was opened again.";
                self.say("channel_reopened", sentence.to_owned(), json!({})).await;
                if let Some(State::Ready { channels }) = self.held.as_ref().map(|held| held.state.borrow().clone()) {
                    change_method::catch_up_later(&self.app, &self.live, channels);
                }
            }
            Note::ClaimFailed { why } => {
                let sentence = format!("The machine could not be claimed: {why}.");
                self.say("claim_failed", sentence, json!({ "machine": machine })).await;
            }
            Note::RestartAsked => {
                self.say("restart_requested", "Another machine was asked for.".to_owned(), json!({})).await;
            }
            Note::RestartRefused(why) => {
                let (reason, sentence) = match why {
                    RestartRefused::Delivering => {
                        ("delivery_in_progress", "a credential is on its way out of this one")
                    }
                    RestartRefused::NoneLeft => ("none_left", "the session has had all that it may have"),
                };
                let sentence = format!("Another machine was asked for and is not given: {sentence}.");
                self.say("restart_rejected", sentence, json!({ "reason": reason })).await;
            }
            Note::Egress => self.note_egress().await,
        }
    }

    /// Only a machine that lives on can lose its channel: the channel of one that ends breaks too, a moment before its end is
    /// known, and then the end is what there is to say.
    fn note_channel_lost(&mut self) {
        let Some(held) = &self.held else { return };
        let State::Waiting { last_error, .. } = held.state.borrow().clone() else { return };
        let (app, live, machine) = (self.app.clone(), Arc::clone(&self.live), held.machine.clone());
        let at = clock::rfc3339(clock::now());
        let lost_after = Duration::from_millis(app.config.sessions.channel_lost_after_ms);
        app.clone().tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(lost_after) => {}
                _ = live.close_signal.closed() => return,
            }
            let facts = live.facts();
            let still =
                matches!(facts.progress, Progress::Preparing { .. }) && facts.machine.as_ref() == Some(&machine);
            if still {
                let why = last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                let data = json!({ "at": at, "error": last_error });
                timeline::append(
                    &app,
                    &live.id,
                    "channel_lost",
                    format!("The way to the machine's agent broke{why}."),
                    data,
                )
                .await;
            }
        });
    }

    async fn note_egress(&mut self) {
        let totals = self.live.egress_summary().totals();
        if !totals.is_empty() {
            let sentence = format!("The machine asked for {} host name(s).", totals.len());
            self.say("egress_totals", sentence, json!({ "names": totals })).await;
        }
    }

    pub(super) async fn say(&mut self, kind: &str, sentence: String, data: Value) {
        timeline::append(&self.app, &self.live.id, kind, sentence, data).await;
    }
}
