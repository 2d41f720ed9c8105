//! The structure of this workspace, measured from its source: import cycles, the size of files and functions, the crate graph.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crate_graph;
mod cycles;
mod documents;
mod imports;
mod log_fields;
mod sizes;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// All files below `directory` that end with `extension`, sorted. Tests, fixtures and installed packages are left out.
fn source_files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("a source directory can be read") {
            let path = entry.expect("a directory entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            if path.is_dir() {
                if !matches!(name, "tests" | "fixtures" | "node_modules" | "snapshots") {
                    pending.push(path);
                }
            } else if name != "tests.rs" && path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Whether the module of this file, or one above it, is declared for tests alone.
fn is_for_tests(file: &Path) -> bool {
    let directory = file.parent().expect("a file has a directory");
    let declares = |parent: &Path| {
        let text = std::fs::read_to_string(parent).unwrap_or_default();
        let module = file.file_stem().and_then(|stem| stem.to_str()).expect("names are UTF-8");
        text.contains(&format!("#[cfg(test)]\nmod {module};"))
    };
    let parent = directory.with_extension("rs");
    ["lib.rs", "main.rs"].iter().any(|root| declares(&directory.join(root)))
        || declares(&parent)
        || parent.exists() && is_for_tests(&parent)
}

/// The `src` directory of each crate, by the name of its folder.
fn crates() -> Vec<(String, PathBuf)> {
    let mut crates: Vec<_> = std::fs::read_dir(workspace().join("crates"))
        .expect("the crates are there")
        .map(|entry| entry.expect("a directory entry can be read").path())
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| (path.file_name().expect("a folder has a name").to_string_lossy().into_owned(), path.join("src")))
        .collect();
    crates.sort();
    assert!(crates.len() >= 8, "only {} crates were found", crates.len());
    crates
}
