//! The tests of each documented scenario. The table is compared with the sources of the tests, so that a renamed or removed test
//! fails the check.

use crate::document;
use std::{fmt::Write as _, fs, path::Path};

/// A scenario: its number, its title, and its tests below `crates/`.
struct DocumentedScenario(u8, &'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const SCENARIOS: [DocumentedScenario; 31] = [
    DocumentedScenario(1, "The machine exits while a viewer is connected", &[
        ("testbed/tests/endurance/machine_exit.rs", "machine_exit_is_reported_to_viewer_status_and_timeline_within_two_seconds"),
        ("testbed/tests/server/end_reasons.rs", "killed_machine_without_restarts_left_fails_the_session_with_machine_failed"),
    ]),
    DocumentedScenario(2, "A viewer connects to a session whose machine was destroyed", &[
        ("testbed/tests/endurance/viewers_after_exit.rs", "viewer_of_a_session_without_a_machine_is_closed_with_the_cause_within_100_ms"),
    ]),
    DocumentedScenario(3, "A stale viewer, another user's machine", &[
        ("testbed/tests/server/viewers.rs", "each_viewer_sees_and_controls_the_machine_of_its_session"),
        ("testbed/tests/server/viewers.rs", "ticket_opens_one_socket_of_one_session_once"),
        ("testbed/tests/server/auth.rs", "backend_cannot_access_the_session_of_another_backend"),
    ]),
    DocumentedScenario(4, "An idle viewer that answers pings", &[
        ("tunnel/src/tests/long_connections.rs", "idle_viewer_that_answers_pings_stays_connected_for_fifteen_minutes"),
        ("testbed/tests/server/viewers.rs", "soak_idle_viewer_with_heartbeats_stays_connected_for_fifteen_minutes"),
    ]),
    DocumentedScenario(5, "A desktop that opens 15 s late", &[
        ("testbed/tests/server/viewers.rs", "viewer_socket_waits_fifteen_seconds_for_the_desktop"),
        ("tunnel/src/tests/long_connections.rs", "desktop_that_opens_after_fifteen_seconds_receives_all_bytes_sent_before"),
    ]),
    DocumentedScenario(6, "A slow viewer and 100 MB of updates", &[
        ("testbed/tests/server/slow_viewers.rs", "stalled_viewer_does_not_grow_memory"),
    ]),
    DocumentedScenario(7, "The credential is delivered twice, or concurrently", &[
        ("testbed/tests/server/delivery.rs", "second_delivery_is_ignored"),
        ("testbed/tests/server/delivery.rs", "concurrent_deliveries_store_exactly_one_credential"),
    ]),
    DocumentedScenario(8, "A partial file, a stale file, a file in the wrong format", &[
        ("testbed/tests/server/sign_in.rs", "partial_or_wrong_format_files_do_not_complete_a_session"),
        ("agent/src/capture/credential_file.rs", "content_from_before_the_claim_does_not_count"),
        ("agent/src/capture/credential_file.rs", "only_a_complete_credential_counts_and_a_rejection_names_keys_not_values"),
    ]),
    DocumentedScenario(9, "The database is not writable when the credential is delivered", &[
        ("testbed/tests/server/delivery.rs", "delivery_is_retried_until_the_database_is_writable"),
        ("testbed/tests/faults/global_faults.rs", "locked_database_is_reported_and_loses_nothing"),
    ]),
    DocumentedScenario(10, "The server restarts in each state", &[
        ("testbed/tests/faults/global_faults.rs", "next_server_after_a_kill_knows_every_session"),
        ("testbed/tests/faults/global_faults.rs", "stopped_server_closes_its_viewers_and_the_next_server_knows_every_session"),
        ("testbed/tests/faults/crashes.rs", "crash_at_any_write_of_a_sign_in_loses_and_duplicates_nothing"),
    ]),
    DocumentedScenario(11, "A completed session after its machine is removed", &[
        ("testbed/tests/server/end_reasons.rs", "completed_session_is_readable_after_its_machine_is_removed"),
    ]),
    DocumentedScenario(12, "Cancellation during clone, boot and sign-in", &[
        ("testbed/tests/faults/global_faults.rs", "session_cancelled_in_any_state_stays_cancelled_and_leaves_nothing"),
        ("store/tests/store/transitions.rs", "a_cancelled_session_is_not_overwritten_by_a_late_failure"),
    ]),
    DocumentedScenario(13, "An agent that is slow, never connects, has another image, or has no desktop", &[
        ("testbed/tests/server/liveness.rs", "slow_agent_is_awaited_until_the_ready_timeout"),
        ("testbed/tests/server/liveness.rs", "image_mismatch_is_reported_with_both_hashes"),
        ("testbed/tests/server/liveness.rs", "machine_without_a_desktop_fails_at_the_display_stage"),
    ]),
    DocumentedScenario(14, "A slow but active user, and a user who leaves", &[
        ("testbed/tests/server/past_incidents.rs", "viewer_input_prevents_idle_expiry"),
        ("tunnel/src/tests.rs", "only_messages_of_the_viewer_count_as_activity"),
    ]),
    DocumentedScenario(15, "Cursor queries, wrapped URLs, unknown prompts", &[
        ("testbed/tests/server/sign_in.rs", "terminal_answers_the_cursor_position_query"),
        ("screen/src/sign_in_finder/tests.rs", "a_url_broken_at_the_last_column_is_joined"),
        ("agent/tests/process_mode/tool.rs", "url_and_code_are_read_from_the_screen_once_and_complete"),
        ("testbed/tests/server/sign_in.rs", "pasted_code_reaches_the_tools_prompt"),
    ]),
    DocumentedScenario(16, "Path and format of each tool's credential", &[
        ("testbed/tests/server/past_incidents.rs", "built_in_providers_capture_the_files_of_their_tools"),
    ]),
    DocumentedScenario(17, "A TLS proxy in front of the server", &[
        ("testbed/tests/server/past_incidents.rs", "pages_behind_a_tls_proxy_contain_no_unencrypted_urls"),
    ]),
    DocumentedScenario(18, "Frequent polling by one client, and other clients", &[
        ("testbed/tests/server/past_incidents.rs", "frequent_polling_does_not_starve_other_clients"),
    ]),
    DocumentedScenario(19, "Concurrent starts", &[
        ("testbed/tests/server/sign_in.rs", "concurrent_starts_with_one_idempotency_key_create_one_session"),
        ("store/tests/store/sessions.rs", "concurrent_starts_with_one_key_create_one_session_in_the_store"),
        ("testbed/tests/operations/admission.rs", "repeated_start_returns_its_session_when_capacity_is_exhausted"),
    ]),
    DocumentedScenario(20, "Ten concurrent starts; no capacity", &[
        ("testbed/tests/qemu/main.rs", "qemu_ten_concurrent_sessions_complete_and_clean_up"),
        ("controller/src/session/queue/tests.rs", "the_first_session_in_the_queue_gets_the_next_free_permit"),
        ("controller/src/session/queue/tests.rs", "concurrent_requests_are_admitted_only_within_the_capacity_of_the_host"),
        ("testbed/tests/operations/admission.rs", "start_is_rejected_with_cause_when_disk_or_memory_is_low"),
    ]),
    DocumentedScenario(21, "Anonymous requests to each route and socket", &[
        ("testbed/tests/server/auth.rs", "anonymous_requests_are_rejected_on_every_route_and_socket"),
    ]),
    DocumentedScenario(22, "Input that looks like commands or paths", &[
        ("testbed/tests/server/auth.rs", "malformed_input_is_rejected_and_never_executed"),
    ]),
    DocumentedScenario(23, "Planted secrets", &[
        ("testbed/tests/server/secrets.rs", "planted_secret_appears_only_in_the_owners_lease"),
        ("testbed/tests/operations/bundle.rs", "bundle_of_complete_sign_in_contains_diagnostics_and_no_secret"),
    ]),
    DocumentedScenario(24, "Configuration errors", &[
        ("controller/src/config.rs", "all_errors_are_reported_at_once"),
        ("controller/src/config.rs", "value_of_wrong_type_does_not_hide_other_errors"),
        ("controller/src/config.rs", "every_number_has_a_minimum_and_a_maximum"),
        ("controller/src/config.rs", "fractional_cpu_count_is_rejected"),
        ("vault/tests/key_file.rs", "a_malformed_file_is_rejected_with_the_cause_and_not_changed"),
    ]),
    DocumentedScenario(25, "A sealed record in another row, or under an old key", &[
        ("store/tests/store/credentials.rs", "a_sealed_record_moved_to_another_row_cannot_be_unsealed"),
        ("vault/tests/sealing.rs", "rotation_keeps_old_records_readable_and_rewraps_them"),
    ]),
    DocumentedScenario(26, "Every enum value through the database; an old database", &[
        ("store/tests/store/transitions.rs", "every_reason_of_a_failed_cancelled_or_expired_session_reads_back"),
        ("store/tests/store/callers.rs", "every_role_reads_back_and_is_found_by_its_token"),
        ("store/tests/store/callers.rs", "every_kind_of_login_token_is_redeemed_once"),
        ("store/tests/store/callers.rs", "every_kind_of_ticket_is_redeemed_once_for_its_purpose"),
        ("store/src/schema.rs", "sql_check_constraints_list_exactly_the_values_of_the_enums"),
        ("store/tests/store/migrations.rs", "rows_of_every_older_version_survive_the_migration"),
    ]),
    DocumentedScenario(27, "Reconciliation of a mixed fleet; clock jumps", &[
        ("controller/src/session/reconcile/plan/tests.rs", "the_plan_for_a_mixed_fleet_contains_only_necessary_actions_with_reasons"),
        ("testbed/tests/operations/reconcile_and_leaks.rs", "dry_run_prints_planned_actions_and_changes_nothing"),
        ("testbed/tests/faults/global_faults.rs", "forward_clock_jump_ends_no_session"),
        ("testbed/tests/faults/global_faults.rs", "backward_clock_jump_ends_no_session"),
        ("testbed/tests/faults/clock.rs", "forward_clock_jump_shortens_neither_idle_timeout_nor_session_limit"),
        ("testbed/tests/faults/clock.rs", "backward_clock_jump_extends_neither_idle_timeout_nor_session_limit"),
        ("testbed/tests/faults/clock.rs", "clock_set_back_during_downtime_does_not_extend_the_session_limit"),
    ]),
    DocumentedScenario(28, "A machine fails while its owner has another", &[
        ("testbed/tests/server/past_incidents.rs", "killed_machine_does_not_affect_another_session_of_its_owner"),
    ]),
    DocumentedScenario(29, "An unexpected image", &[
        ("testbed/tests/server/liveness.rs", "image_mismatch_is_reported_with_both_hashes"),
    ]),
    DocumentedScenario(30, "Repeated deletion, cancellation and completion", &[
        ("testbed/tests/server/delivery.rs", "credential_deletion_is_idempotent_and_keeps_the_session_completed"),
        ("testbed/tests/server/end_reasons.rs", "cancelled_session_stays_cancelled_and_closes_its_viewer"),
        ("testbed/tests/server/delivery.rs", "second_delivery_is_ignored"),
    ]),
    DocumentedScenario(31, "A program breaks out of the guest", &[
        ("testbed/tests/server/end_reasons.rs", "compromised_machine_ends_its_session_although_restarts_are_left"),
        ("controller/src/session/lifecycle/model/check.rs", "every_order_of_events_with_a_compromised_machine_keeps_the_guarantees"),
        ("testbed/tests/server/operator_socket.rs", "program_in_a_machine_is_refused_at_the_operators_socket_and_the_command_line_is_not"),
    ]),
];

#[test]
fn every_documented_scenario_has_an_existing_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut missing = Vec::new();
    let mut rows = String::from("| | scenario | tests |\n|---|---|---|\n");
    for (index, DocumentedScenario(number, title, tests)) in SCENARIOS.iter().enumerate() {
        assert_eq!(usize::from(*number), index + 1, "the scenarios are numbered in order");
        for (file, test) in *tests {
            let source = fs::read_to_string(crates.join(file)).unwrap_or_default();
            if !is_test(&source, test) {
                missing.push(format!("T{number}: {file} has no test {test}"));
            }
        }
        let names: Vec<String> = tests.iter().map(|(file, test)| format!("[`{test}`](../crates/{file})")).collect();
        writeln!(rows, "| T{number} | {title} | {} |", names.join("<br>")).unwrap();
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    document::compare_section("scenarios", &rows);
}

/// Whether the source contains this function with a test attribute.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let position = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&format!("fn {name}(")));
    position.is_some_and(|at| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}
