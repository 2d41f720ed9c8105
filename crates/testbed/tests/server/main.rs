//! Black-box tests of the server over HTTP and WebSocket, with machines that are plain processes. One file for each subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod acme;
mod any_command;
mod auth;
mod book_commands;
#[allow(dead_code, reason = "shared with the binary `security`, which uses all of it")]
#[path = "../security/browser_client.rs"]
mod browser_client;
mod client_proxy;
mod cluster;
mod cluster_outages;
mod cluster_sessions;
mod cluster_shared;
mod cluster_starts;
mod cluster_turns;
mod cluster_waiting;
mod command_line;
mod credential_lifetime;
mod credentials;
mod credentials_by_method;
mod credentials_interrupted;
mod database_writes;
mod delivery;
mod demo;
mod demo_methods;
mod diagnosis;
mod egress;
mod end_reasons;
mod examples_scene;
mod exec;
mod exec_api;
mod exec_signals;
mod exec_streams;
mod fake_agent;
mod fixture;
mod for_person;
mod help_examples;
mod host_certificates;
mod hosts;
mod invalid_requests;
mod leftover_check;
mod liveness;
mod network_namespace;
mod networks;
#[allow(dead_code, reason = "shared with the binary `security`, which uses all of it")]
#[path = "../security/oidc_fixture.rs"]
mod oidc_fixture;
mod operating_commands;
mod operator_socket;
mod outdated;
mod pages;
mod past_incidents;
mod postgres;
mod postgres_servers;
mod process_protection;
mod prompts_and_methods;
mod queue;
mod r04_pasted_back;
mod r07_unusable_credentials;
mod r13_company_sign_in;
mod r16_turns;
mod r44_network_file_system;
mod remote_command_line;
mod remote_commands;
mod secrets;
mod shells;
mod sign_in;
mod slow_viewers;
mod stopped_commands;
mod terminal_output;
mod through_hosts;
mod timeline;
mod unfinished_sign_ins;
mod upgrade;
mod view_only;
mod viewers;
mod warm_machines;
mod way_out;
mod webhook;
mod webhook_credentials;
mod webhook_types;

use anteroom_testbed::{ApiResponse, Script, ScriptedProvider, Step};
use fixture::{Flags, start_idle, start_idle_session, start_session_with};

/// The sign-in URL that [`Flags::provider`] opens.
const URL: &str = "https://id.example/authorize?client=1&state=a%20b";

impl Flags {
    fn set(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    /// A provider whose tool opens [`URL`] through the URL opener, waits for `go` and writes this credential.
    fn provider(&self, content: &str) -> ScriptedProvider {
        self.provider_with_steps([
            Step::OpenUrlWithBrowser { url: URL.to_owned() },
            self.wait_step("go"),
            Step::write(ScriptedProvider::CREDENTIAL_PATH, content),
        ])
    }

    /// The provider `scripted` with these steps.
    fn provider_with_steps(&self, steps: impl IntoIterator<Item = Step>) -> ScriptedProvider {
        ScriptedProvider::new("scripted", Script::new(steps))
    }
}

/// Status, code and detail of an error response.
fn problem_of(answer: &ApiResponse) -> (u16, String, String) {
    let problem = answer.problem().unwrap();
    (answer.status, problem.code, problem.detail.unwrap_or_default())
}
