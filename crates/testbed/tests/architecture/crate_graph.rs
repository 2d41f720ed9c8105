//! The crates and their dependencies are those that ARCHITECTURE.md lists.

use std::collections::{BTreeMap, BTreeSet};

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crate_graph_is_the_one_in_the_architecture_page() {
    assert_eq!(documented(), measured(), "left: ARCHITECTURE.md, right: `cargo metadata`");
}

/// The rows of the table "Crates": name, purpose, dependencies.
fn documented() -> Graph {
    let page =
        std::fs::read_to_string(super::workspace().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read");
    let rows = page.lines().skip_while(|line| *line != "| crate | purpose | depends on |").skip(2);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').collect();
        (names(cells[0]).remove(0), names(cells[2]).into_iter().collect())
    };
    rows.take_while(|line| line.starts_with('|')).map(row).collect()
}

/// What `cargo metadata` reports, without dependencies that only tests have.
#[allow(clippy::disallowed_methods, reason = "cargo is asked for the crates of the workspace")]
fn measured() -> Graph {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(super::workspace())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let of_workspace =
        |name: &serde_json::Value| name.as_str().and_then(|name| name.strip_prefix("anteroom-")).map(str::to_owned);
    let packages = metadata["packages"].as_array().expect("there are packages");
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("a package has dependencies").clone();
        all.iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| of_workspace(&dependency["name"]))
            .collect()
    };
    packages
        .iter()
        .map(|package| (of_workspace(&package["name"]).expect("an own crate"), dependencies(package)))
        .collect()
}
