//! The table of `docs/providers.md`: each test has a row of its own, and looks for it or writes it.

use super::fixture::Fixture;
use rustix::fs::FlockOperation;
use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

const BEGIN: &str = "<!-- contract -->\n";
const END: &str = "<!-- end -->";
const HEAD: &str = "| tool | version | method | the user takes part by | result | tool in a second machine | took |\n\
                    |---|---|---|---|---|---|---|\n";

/// A sign-in that worked.
pub(crate) struct Row<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) method: &'a str,
    pub(crate) lane: &'a str,
    /// What the tool said in a second machine.
    pub(crate) elsewhere: &'a str,
    /// From the request to the stored credential.
    pub(crate) took: Duration,
}

impl Row<'_> {
    /// What makes the row: its first columns.
    fn key(&self) -> String {
        format!("| {} | {} | `{}` | {} |", self.fixture.provider.name, self.fixture.version, self.method, self.lane)
    }

    /// Looks for the row in the document, but for the time, or writes it there with `ANTEROOM_WRITE_DOCS=1`.
    pub(crate) fn note(&self) {
        let said = format!("{} signed in, same bytes | {} |", self.key(), self.elsewhere);
        eprintln!("{said} {:.0} s", self.took.as_secs_f64());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
        // Tests run at once, each in a process of its own.
        let lock = File::open(path.parent().unwrap()).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let document = fs::read_to_string(&path).unwrap();
        let begin = document.find(BEGIN).expect("docs/providers.md has the table's place") + BEGIN.len();
        let end = begin + document[begin..].find(END).expect("the table ends");
        if env::var_os("ANTEROOM_WRITE_DOCS").is_some_and(|value| value == "1") {
            let place = format!("{} {} `{}` {}", self.fixture.provider.name, "", self.method, self.lane);
            let same_place = |row: &&str| {
                let columns: Vec<_> = row.split('|').map(str::trim).collect();
                columns.len() > 4 && format!("{} {} {} {}", columns[1], "", columns[3], columns[4]) == place
            };
            let mut rows: Vec<String> = document[begin..end]
                .lines()
                .skip(3)
                .filter(|row| row.starts_with('|') && !same_place(row))
                .map(str::to_owned)
                .collect();
            rows.push(format!("{said} {:.0} s |", self.took.as_secs_f64()));
            rows.sort();
            let table = format!("\n{HEAD}{}\n\n", rows.join("\n"));
            fs::write(&path, format!("{}{table}{}", &document[..begin], &document[end..])).unwrap();
            return;
        }
        let there = document[begin..end].lines().any(|row| row.starts_with(&said));
        assert!(there, "docs/providers.md lacks this row; ANTEROOM_WRITE_DOCS=1 writes it:\n{said} … |");
    }
}
