//! `docs/faults.md`: each test compares or writes one section.

use std::{fs, path::PathBuf};

/// The path of the document.
fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md")
}

/// Reads the document.
pub(crate) fn read() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Compares a section with the document, or writes it with `ANTEROOM_WRITE_DOCS=1`. A section begins with `<!-- name -->`
/// and ends with `<!-- end -->`.
pub(crate) fn compare_section(name: &str, content: &str) {
    // The tests run concurrently in separate processes.
    let lock = fs::File::open(path().parent().unwrap()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let document = read();
    let marker = format!("<!-- {name} -->\n");
    let Some(begin) = document.find(&marker).map(|at| at + marker.len()) else {
        panic!("docs/faults.md has no section {marker:?}; it should have:\n{content}")
    };
    let end = begin + document[begin..].find("<!-- end -->").expect("the section has an end");
    let content = format!("\n{}\n\n", content.trim());
    if document[begin..end] == content {
        return;
    }
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some_and(|value| value == "1") {
        fs::write(path(), format!("{}{content}{}", &document[..begin], &document[end..])).unwrap();
        return;
    }
    panic!(
        "docs/faults.md differs in the section {name}; run with ANTEROOM_WRITE_DOCS=1 to update it.\nit has:{}it should have:{content}",
        &document[begin..end]
    );
}
