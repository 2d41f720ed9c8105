//! The configuration: checked, shown, and read again while the server runs; the log after another program renamed it.

use crate::{anteroom, command, start_idle, stdout_of, text};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::fs;

/// A message of the level `debug` that each machine causes.
const DEBUG_LINE: &str = "machine state changed";

fn read_log(server: &TestServer) -> String {
    fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap_or_default()
}

pub(crate) fn hang_up(server: &TestServer) {
    kill_process(server.server_pid().unwrap(), Signal::HUP).unwrap();
}

/// Changes the configuration file.
fn edit(server: &TestServer, change: impl FnOnce(&mut toml::Table)) {
    let path = server.path().join("config.toml");
    let mut table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    change(&mut table);
    fs::write(&path, table.to_string()).unwrap();
}

fn section<'a>(table: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
    table.entry(name).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap()
}

/// The log lines with this outcome.
fn lines(server: &TestServer, outcome: &str) -> Vec<Value> {
    let text = read_log(server);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["outcome"] == outcome).collect()
}

pub(crate) async fn wait_line(server: &TestServer, outcome: &str) -> Value {
    eventually(outcome, WAIT_MAX, async || Ok(lines(server, outcome).pop())).await.unwrap()
}

#[tokio::test]
async fn sighup_reads_the_configuration_again_and_never_ends_the_server() {
    let (_flags, server) = start_idle("").await;
    let operator = server.operator_client().unwrap();
    let providers = server.path().join("providers");
    let descriptor = fs::read_to_string(providers.join("scripted.toml")).unwrap();
    fs::write(providers.join("fresh.toml"), descriptor.replace("\"scripted\"", "\"fresh\"")).unwrap();
    edit(&server, |table| {
        // It was `debug`.
        section(table, "log").insert("level".into(), "info".into());
        section(table, "sessions").insert("idle_s_max".into(), 1_234.into());
        section(table, "machines").insert("machines_max".into(), 3.into());
    });
    hang_up(&server);
    let reloaded = wait_line(&server, "config_reloaded").await;
    assert_eq!(reloaded["settings"], "log.level, sessions.idle_s_max");
    let restart = wait_line(&server, "config_needs_restart").await;
    assert_eq!(restart["remedy"], "restart to change machines.machines_max");
    let listed = operator.get("/api/providers").await.unwrap();
    assert!(listed.text.contains("\"fresh\""), "{}", listed.text);
    let from = read_log(&server).len();
    let session = operator.start_session("scripted").await.unwrap().session.id;
    operator.cancel_session(&session).await.unwrap();
    server.wait_machines_removed().await.unwrap();
    assert!(!read_log(&server)[from..].contains(DEBUG_LINE));
    edit(&server, |table| _ = section(table, "log").insert("level".into(), "debug".into()));
    hang_up(&server);
    let both = async || Ok((lines(&server, "config_reloaded").len() == 2).then_some(()));
    eventually("it is read again", WAIT_MAX, both).await.unwrap();
    let session = operator.start_session("scripted").await.unwrap().session.id;
    let is_debug = async || Ok(read_log(&server)[from..].contains(DEBUG_LINE).then_some(()));
    eventually("a line of the new level", WAIT_MAX, is_debug).await.unwrap();
    operator.cancel_session(&session).await.unwrap();

    edit(&server, |table| {
        section(table, "log").insert("level".into(), "loud".into());
        section(table, "providers").insert("demo".into(), toml::Table::from_iter([("argvv".into(), 1.into())]).into());
    });
    hang_up(&server);
    let both = async || Ok((lines(&server, "config_not_reloaded").len() >= 2).then_some(()));
    eventually("both faults are in the log", WAIT_MAX, both).await.unwrap();
    for _ in 0..20 {
        hang_up(&server);
    }
    assert_eq!(operator.get("/health").await.unwrap().status, 200);
    let audit = operator.get("/api/audit?action=config.reload").await.unwrap();
    assert_eq!(audit.parse::<Value>().unwrap()["records"].as_array().unwrap().len(), 2, "{}", audit.text);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn log_goes_on_in_a_new_file_after_logrotate_renamed_it() {
    let (_flags, server) = start_idle("").await;
    let path = server.state_dir().join("log/anteroom.jsonl");
    let renamed = server.state_dir().join("log/anteroom.jsonl-20260101");
    fs::rename(&path, &renamed).unwrap();
    // With `create`.
    fs::write(&path, "").unwrap();
    let before = fs::read_to_string(&renamed).unwrap();
    hang_up(&server);
    wait_line(&server, "config_reloaded").await;
    assert_eq!(fs::read_to_string(&renamed).unwrap(), before);
    assert!(stdout_of(&server, &["logs"]).await.contains("config_reloaded"));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn configuration_is_checked_and_shown_with_all_sources_together() {
    let (_flags, server) = start_idle("").await;
    edit(&server, |table| {
        let webhook = section(table, "webhook");
        webhook.insert("url".into(), "https://a.example/in".into());
        webhook.insert("secret_file".into(), "/nowhere".into());
    });
    let checked = anteroom(&server, &["config", "check"]).await;
    let (stdout, stderr) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.code() == Some(1) && stderr.contains("/nowhere"), "{stdout}{stderr}");
    edit(&server, |table| _ = table.remove("webhook"));
    assert_eq!(stdout_of(&server, &["config", "check"]).await.trim(), "The configuration is valid.");
    let refusal = "other hosts can reach";
    for (arguments, variable) in [
        (&["serve", "--listen", "[::]:0"][..], ""),
        (&["serve"], "0.0.0.0:0"),
        (&["config", "check", "--json"], "0.0.0.0:0"),
    ] {
        let mut command = command(&server, arguments);
        if !variable.is_empty() {
            command.env("ANTEROOM_LISTEN", variable);
        }
        let output = tokio::time::timeout(WAIT_MAX, command.output()).await.unwrap().unwrap();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success() && all.contains(refusal), "{arguments:?}: {all}");
    }
    let mut show = command(&server, &["config", "show", "--json"]);
    let output = show.env("ANTEROOM_LISTEN", "127.0.0.1:0").output().await.unwrap();
    let shown: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let file = server.path().join("config.toml").display().to_string();
    assert_eq!(shown["listen"], serde_json::json!({ "value": "127.0.0.1:0", "source": "ANTEROOM_LISTEN" }));
    assert_eq!(shown["providers_dir"]["source"], file.as_str());
    assert_eq!(shown["machines.cpus"], serde_json::json!({ "value": 2, "source": "default" }));
    let lines = stdout_of(&server, &["config", "show"]).await;
    assert!(lines.lines().any(|line| line == "machines.cpus = 2  # default"), "{lines}");
    server.stop_and_check_leaks().await.unwrap();
}
