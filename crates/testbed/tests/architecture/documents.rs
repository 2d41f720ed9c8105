//! The documents name only files, tests and settings that exist.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Longer names in backticks are names of tests or settings.
const UNDERSCORES_MIN: usize = 4;

#[test]
fn documents_name_only_existing_files_tests_and_settings() {
    let root = super::workspace();
    let files = all_files(&root);
    let sources: String = files
        .iter()
        .filter(|file| {
            file.extension().is_some_and(|end| ["rs", "ts", "tsx", "mjs", "sql"].iter().any(|known| end == *known))
        })
        .map(|file| std::fs::read_to_string(file).expect("a source file can be read"))
        .collect();
    let mut missing = BTreeSet::new();
    let documents: Vec<_> = files.iter().filter(|file| file.extension().is_some_and(|end| end == "md")).collect();
    assert!(documents.len() > 15, "only {} documents were found", documents.len());
    for document in documents {
        let text = std::fs::read_to_string(document).expect("a document can be read");
        let here = document.parent().expect("a file has a directory");
        let mut fault = |what: &str| {
            missing.insert(format!("{}: {what}", document.strip_prefix(&root).expect("below the root").display()))
        };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.contains(' ') && !here.join(target).exists() {
                fault(link);
            }
        }
        for name in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_file = name.ends_with(".rs") && !name.contains(['*', '{', ' ']);
            let is_name = name.matches('_').count() >= UNDERSCORES_MIN
                && name.chars().all(|char| char.is_ascii_lowercase() || char == '_' || char.is_ascii_digit());
            let names_file = |file: &&PathBuf| file.ends_with(name) || without_source_directory(file).ends_with(name);
            if is_file && !files.iter().any(|file| names_file(&file)) || is_name && !sources.contains(name) {
                fault(name);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "the documents name what does not exist:\n{}",
        missing.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// Documents write `wire/problem.rs` for `crates/wire/src/problem.rs`.
fn without_source_directory(file: &Path) -> PathBuf {
    file.components().filter(|part| part.as_os_str() != "src").collect()
}

/// All files of the repository but built ones and installed packages.
fn all_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("a directory entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
            let is_built =
                ["target", "node_modules", "dist", "test-results"].contains(&name) || name.starts_with(".git");
            if path.is_dir() && !is_built {
                pending.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found
}
