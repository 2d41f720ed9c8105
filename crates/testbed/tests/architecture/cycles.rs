//! No import cycle of more than three files.
//!
//! A parent module and its own children may import each other: the parent is their face. Each cycle is therefore looked for twice,
//! once without the imports of children by their ancestors and once without those of ancestors by their descendants.

use super::imports;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Files in one cycle.
const FILES_MAX: usize = 3;

type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

#[test]
fn no_import_cycle_has_more_than_three_files() {
    let mut faults = Vec::new();
    for (name, source) in super::crates() {
        let imports = imports::of_crate(&source);
        assert!(
            imports.values().any(|targets| !targets.is_empty()) || imports.len() < 4,
            "no imports were read in {name}"
        );
        for cycle in long_cycles(&imports) {
            let cycle: Vec<_> = cycle.iter().map(|file| file.display().to_string()).collect();
            faults.push(format!("{name}: {} files: {}", cycle.len(), cycle.join(", ")));
        }
    }
    assert!(faults.is_empty(), "import cycles of more than {FILES_MAX} files:\n{}", faults.join("\n"));
}

#[test]
fn session_does_not_import_http() {
    let sources: Vec<_> =
        super::crates().into_iter().filter(|(_, source)| source.join("session.rs").exists()).collect();
    assert_eq!(sources.len(), 1, "one crate has the module session");
    for (file, targets) in imports::of_crate(&sources[0].1) {
        let in_session = file.starts_with("session") || file == Path::new("session.rs");
        let http = targets.iter().find(|target| target.starts_with("http") || *target == Path::new("http.rs"));
        assert!(!in_session || http.is_none(), "{} imports {}", file.display(), http.expect("there is one").display());
    }
}

#[test]
fn cycles_are_found_and_a_parent_with_its_children_is_none() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry(PathBuf::from(from)).or_default().insert(PathBuf::from(to));
            graph.entry(PathBuf::from(to)).or_default();
        }
        graph
    };
    let ring = [("a.rs", "b.rs"), ("b.rs", "c.rs"), ("c.rs", "d.rs"), ("d.rs", "a.rs")];
    assert_eq!(long_cycles(&graph(&ring)).len(), 1);
    assert_eq!(long_cycles(&graph(&ring[..3])).len(), 0);
    let family = [
        ("a.rs", "a/b.rs"),
        ("a/b.rs", "a.rs"),
        ("a.rs", "a/c.rs"),
        ("a/c.rs", "a.rs"),
        ("a/d.rs", "a.rs"),
        ("a.rs", "a/d.rs"),
    ];
    assert_eq!(long_cycles(&graph(&family)).len(), 0);
    let through_a_child = [("a/b.rs", "a.rs"), ("a.rs", "c.rs"), ("c.rs", "d.rs"), ("d.rs", "a/b.rs")];
    assert_eq!(long_cycles(&graph(&through_a_child)).len(), 1);
}

/// The cycles that are too long.
fn long_cycles(imports: &Graph) -> BTreeSet<Vec<PathBuf>> {
    let without = |skip: &dyn Fn(&Path, &Path) -> bool| -> Graph {
        let keep = |from: &PathBuf, targets: &BTreeSet<PathBuf>| {
            targets.iter().filter(|to| !skip(from, to)).cloned().collect()
        };
        imports.iter().map(|(from, targets)| (from.clone(), keep(from, targets))).collect()
    };
    let downward = without(&|from, to| is_ancestor(to, from));
    let upward = without(&|from, to| is_ancestor(from, to));
    [downward, upward].iter().flat_map(cycles).filter(|cycle| cycle.len() > FILES_MAX).collect()
}

/// Whether `a.rs` is above `a/b.rs` or `a/b/c.rs`; a root is above all.
fn is_ancestor(upper: &Path, lower: &Path) -> bool {
    let is_root = ["lib.rs", "main.rs"].contains(&upper.to_string_lossy().as_ref());
    is_root || lower.starts_with(upper.with_extension(""))
}

/// Strongly connected components of more than one file.
fn cycles(graph: &Graph) -> Vec<Vec<PathBuf>> {
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        graph.keys().map(|file| (file, reachable(graph, file))).collect();
    let mut seen = BTreeSet::new();
    let mut cycles = Vec::new();
    for file in graph.keys() {
        let cycle: Vec<_> =
            reach[file].iter().filter(|other| reach[**other].contains(file)).map(|other| (*other).clone()).collect();
        if cycle.len() > 1 && seen.insert(cycle.clone()) {
            cycles.push(cycle);
        }
    }
    cycles
}

fn reachable<'a>(graph: &'a Graph, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<_> = graph[from].iter().collect();
    while let Some(file) = pending.pop() {
        if reached.insert(file) {
            pending.extend(graph.get(file).into_iter().flatten());
        }
    }
    reached
}
