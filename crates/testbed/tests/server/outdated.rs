//! `anteroom providers outdated` with npm and a registry on loopback.

use crate::command_line::{CLI_MS_MAX, text};
use anteroom_testbed::plain_process::built_program;
use axum::{Json, Router, extract::Path, http::StatusCode, routing::get};
use serde_json::{Value, json};
use std::{fs, process::Output, time::Duration};
use tokio::{net::TcpListener, process::Command};

const DESCRIPTOR: &str = r#"
name = "Acme"
cli = "acme"
argv = ["acme", "login"]
lanes = ["terminal"]
next_action = "Sign in."
policy = "store"
egress = []
credential = { paths = [".acme"], required = ["/token"] }
"#;

/// A registry that knows `@acme/cli` and has an error for everything else.
async fn registry() -> String {
    let known = |Path(name): Path<String>| async move {
        if name != "@acme/cli" {
            return (StatusCode::NOT_FOUND, Json(json!({ "error": "not found" })));
        }
        let release =
            |version: &str| json!({ "name": name, "version": version, "dist": { "tarball": "", "shasum": "" } });
        let versions =
            json!({ "1.9.0": release("1.9.0"), "1.10.0": release("1.10.0"), "2.0.0-rc.1": release("2.0.0-rc.1") });
        let tags = json!({ "latest": "1.10.0", "next": "2.0.0-rc.1" });
        (StatusCode::OK, Json(json!({ "name": name, "dist-tags": tags, "versions": versions })))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, Router::new().route("/{*name}", get(known))).into_future());
    format!("http://{address}/")
}

struct Fixture {
    dir: tempfile::TempDir,
    registry: String,
}

impl Fixture {
    /// Descriptors by id, each with its own lines before [`DESCRIPTOR`].
    async fn new(descriptors: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let descriptors_dir = dir.path().join("providers");
        fs::create_dir(&descriptors_dir).unwrap();
        for (id, lines) in descriptors {
            fs::write(descriptors_dir.join(format!("{id}.toml")), format!("id = \"{id}\"\n{lines}{DESCRIPTOR}"))
                .unwrap();
        }
        let place = |name: &str| dir.path().join(name).display().to_string();
        let config =
            json!({ "state_dir": place("state"), "cache_dir": place("cache"), "providers_dir": place("providers") });
        fs::write(dir.path().join("anteroom.toml"), toml::to_string(&config).unwrap()).unwrap();
        Self { dir, registry: registry().await }
    }

    async fn outdated(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(built_program("anteroom").unwrap());
        command
            .arg("--config")
            .arg(self.dir.path().join("anteroom.toml"))
            .args(["providers", "outdated"])
            .args(arguments);
        command.env("npm_config_registry", &self.registry).env("npm_config_cache", self.dir.path().join("npm"));
        command.env("npm_config_fetch_retries", "0").kill_on_drop(true);
        tokio::time::timeout(Duration::from_millis(CLI_MS_MAX), command.output()).await.unwrap().unwrap()
    }

    async fn reports(&self, which: &[&str]) -> Vec<Value> {
        let output = self.outdated(&[which, &["--json"]].concat()).await;
        let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let current = answer["providers"].as_array().unwrap().iter().all(|report| report["status"] == "current");
        assert_eq!(output.status.code(), Some(i32::from(!current)), "{answer}");
        answer["providers"].as_array_mut().map(std::mem::take).unwrap()
    }
}

#[tokio::test]
async fn providers_outdated_compares_the_descriptors_with_the_registry() {
    let package = "npm_package = \"@acme/cli\"\n";
    let old = format!("{package}tested_version = \"1.9.0\"\n");
    let current = format!("{package}tested_version = \"1.10.0\"\n");
    let unpublished = "npm_package = \"@acme/none\"\ntested_version = \"1.0.0\"\n";
    let descriptors = [("old", old.as_str()), ("current", &current), ("unpublished", unpublished), ("without", "")];
    let fixture = Fixture::new(&descriptors).await;

    let reports = fixture.reports(&["old", "current", "unpublished", "without"]).await;
    let statuses: Vec<_> = reports.iter().map(|report| report["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["outdated", "current", "unknown", "unknown"], "{reports:?}");
    assert_eq!(reports[0]["newest_version"], "1.10.0", "a release before the tag latest does not count");
    assert_eq!(reports[0]["tested_version"], "1.9.0");
    assert!(reports[2]["detail"].as_str().unwrap().contains("@acme/none"), "{reports:?}");
    assert_eq!(reports[3]["detail"], "the descriptor of without has no npm_package");
    assert_eq!(fixture.reports(&["current"]).await.len(), 1);

    let printed = fixture.outdated(&["old"]).await;
    assert!(text(&printed.stdout).contains("1.10.0"), "{printed:?}");
    let unknown = fixture.outdated(&["none"]).await;
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("there is no provider none"), "{unknown:?}");
}

#[tokio::test]
async fn npm_package_of_a_descriptor_is_never_an_option_of_npm() {
    for name in ["--registry=http://127.0.0.1", "@acme", "@acme/cli@1", "acme cli", "../acme"] {
        let fixture = Fixture::new(&[("x", &format!("npm_package = {name:?}\n"))]).await;
        let output = fixture.outdated(&[]).await;
        assert!(text(&output.stderr).contains("npm_package is not the name of a package"), "{name}: {output:?}");
    }
}
