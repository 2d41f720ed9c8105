//! One suite for every kind of machine: a table of cases, and one test for each case and kind. `docs/machines.md` lists which kind runs
//! which case. QEMU needs `ANTEROOM_TEST_IMAGE`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod cases;
mod claim;
mod desktop;
mod document;
mod host;
mod memory_cgroup;
mod sources;

use anteroom_testbed::machine_kinds::{Capability, Kind, Preparation};
use host::Host;
use std::time::Instant;

/// A case.
pub(crate) struct Case {
    /// Its name, which is its claim.
    pub(crate) name: &'static str,
    /// What a kind needs for it.
    pub(crate) needs: &'static [Capability],
}

impl Case {
    /// Why `kind` cannot run it; `None`: it can.
    pub(crate) fn missing(&self, kind: &dyn Kind) -> Option<&'static str> {
        self.needs.iter().find_map(|capability| kind.missing_capability(*capability))
    }

    /// Why this user cannot run it on `kind`; `None`: it can.
    fn missing_permission(&self, kind: &dyn Kind) -> Option<&'static str> {
        self.needs.iter().find_map(|capability| kind.missing_permission(*capability))
    }
}

/// Runs a case on a kind, or prints why it cannot.
fn run(kind: &'static dyn Kind, name: &str, case: impl AsyncFnOnce(&Host)) {
    let found = CASES.iter().find(|case| case.name == name).expect("the case is in the table");
    if let Some(reason) = found.missing(kind).or_else(|| found.missing_permission(kind)) {
        println!("not run: {reason}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let source = match kind.prepare().await.unwrap() {
            Preparation::Ready(source) => source,
            Preparation::Unavailable { why } => {
                println!("not run: {why}");
                return;
            }
        };
        let host = Host::new(kind, source);
        let began = Instant::now();
        case(&host).await;
        host.wait_nothing_left().await;
        println!("{name} on {}: {} ms", kind.name(), began.elapsed().as_millis());
    });
}

macro_rules! cases {
    (@tests $kind_module:ident, $kind:expr, $($module:ident::$name:ident)*) => {
        mod $kind_module {
            $(
                #[test]
                fn $name() {
                    super::run($kind, stringify!($name), super::cases::$module::$name);
                }
            )*
        }
    };
    ($($module:ident::$name:ident [$($capability:ident),*];)*) => {
        /// All cases.
        pub(crate) const CASES: &[Case] =
            &[$(Case { name: stringify!($name), needs: &[$(Capability::$capability),*] }),*];
        cases!(@tests plain_process, anteroom_testbed::machine_kinds::PLAIN_PROCESS, $($module::$name)*);
        cases!(@tests qemu, anteroom_testbed::machine_kinds::QEMU, $($module::$name)*);
        cases!(@tests firecracker, anteroom_testbed::machine_kinds::firecracker(), $($module::$name)*);
    };
}

cases! {
    channels::clone_is_ready_and_its_agent_answers [];
    channels::claimed_clone_shows_desktop_and_tool_and_sends_events [Tools];
    channels::clones_share_no_writes [];
    channels::next_server_reopens_both_channels_with_a_nonce [];
    channels::stage_that_is_not_reached_in_time_is_named [];
    channels::machine_of_another_image_is_stopped [];
    freezes::frozen_machine_is_not_ready_until_it_resumes [];
    freezes::hung_machine_is_stopped_after_the_liveness_timeout [];
    freezes::frozen_machine_can_be_stopped [];
    freezes::hung_keeper_is_killed_with_its_machine [];
    exits::killed_machine_is_reported_with_its_signal [];
    exits::ended_process_is_reported_with_its_exit_status [Sigterm];
    exits::missing_program_is_named [];
    exits::damaged_saved_state_is_reported [SavedState];
    exits::guest_panic_is_reported [GuestPanic];
    exits::guest_power_off_is_reported [GuestPowerOff];
    exits::process_killed_for_lack_of_memory_is_distinguished [];
    exits::machine_can_be_stopped_before_it_is_ready [];
    exits::machine_ends_with_its_keeper [];
    limits::deadline_ends_a_machine_without_its_server [];
    limits::renew_deadline_ends_a_machine_without_its_server [];
    limits::machine_is_replaced_within_the_limit_of_machines [];
    limits::receipts_are_bounded_by_their_setting [];
    limits::output_is_bounded_by_its_setting [];
    limits::console_is_bounded_by_its_setting [GuestPanic];
    limits::process_has_the_resource_limits_of_its_spec [Confinement];
    limits::clone_copies_only_the_memory_that_it_writes [SavedState];
    owners::machines_of_a_killed_owner_are_adopted [];
    owners::next_server_removes_what_lost_keepers_left [];
    owners::ten_machines_run_at_once [];
    owners::running_machine_is_found_by_the_check_for_leftovers [];
}
