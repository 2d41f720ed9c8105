//! `docs/faults.md`: each test has a section of its own, and compares or writes that.

use std::{fs, path::PathBuf};

/// Where the document is.
fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md")
}

/// The whole document.
pub(crate) fn text() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Compares a section with the document, or writes it there with `ANTEROOM_WRITE_DOCS=1`. A section begins with `<!-- name -->`
/// and ends with `<!-- end -->`.
pub(crate) fn section(name: &str, content: &str) {
    // Tests run at once, each in a process of its own.
    let lock = fs::File::open(path().parent().unwrap()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let document = text();
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
        "docs/faults.md differs in the section {name}; ANTEROOM_WRITE_DOCS=1 writes it anew.\nit has:{}it should have:{content}",
        &document[begin..end]
    );
}
