//! The table in `docs/providers.md`. Each test checks or writes one row.

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

/// A sign-in that succeeded.
pub(crate) struct Row<'a> {
    pub(crate) fixture: &'a Fixture,
    pub(crate) method: &'a str,
    pub(crate) lane: &'a str,
    /// The result of the check in a second machine.
    pub(crate) second_machine: &'a str,
    /// The time from the request to the stored credential.
    pub(crate) took: Duration,
}

impl Row<'_> {
    /// The columns that identify the row.
    fn key(&self) -> String {
        format!("| {} | {} | `{}` | {} |", self.fixture.provider.name, self.fixture.version, self.method, self.lane)
    }

    /// Checks that the document has this row, except for the time, or writes it with `ANTEROOM_WRITE_DOCS=1`.
    pub(crate) fn check(&self) {
        let expected = format!("{} signed in, same bytes | {} |", self.key(), self.second_machine);
        eprintln!("{expected} {:.0} s", self.took.as_secs_f64());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
        // Tests run in parallel processes.
        let lock = File::open(path.parent().unwrap()).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        let document = fs::read_to_string(&path).unwrap();
        let begin = document.find(BEGIN).expect("docs/providers.md contains the markers of the table") + BEGIN.len();
        let end = begin + document[begin..].find(END).expect("the table ends");
        if env::var_os("ANTEROOM_WRITE_DOCS").is_some_and(|value| value == "1") {
            let key = format!("{} {} `{}` {}", self.fixture.provider.name, "", self.method, self.lane);
            let same_key = |row: &&str| {
                let columns: Vec<_> = row.split('|').map(str::trim).collect();
                columns.len() > 4 && format!("{} {} {} {}", columns[1], "", columns[3], columns[4]) == key
            };
            let mut rows: Vec<String> = document[begin..end]
                .lines()
                .skip(3)
                .filter(|row| row.starts_with('|') && !same_key(row))
                .map(str::to_owned)
                .collect();
            rows.push(format!("{expected} {:.0} s |", self.took.as_secs_f64()));
            rows.sort();
            let table = format!("\n{HEAD}{}\n\n", rows.join("\n"));
            fs::write(&path, format!("{}{table}{}", &document[..begin], &document[end..])).unwrap();
            return;
        }
        let found = document[begin..end].lines().any(|row| row.starts_with(&expected));
        assert!(found, "docs/providers.md lacks this row; ANTEROOM_WRITE_DOCS=1 writes it:\n{expected} … |");
    }
}
