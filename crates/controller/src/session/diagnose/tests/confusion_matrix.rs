//! The confusion matrix of all injected causes, and the page that shows it.

use super::{Verdict, table};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

/// Fewest causes for each verdict.
const CAUSES_MIN: usize = 3;

/// Injected verdict → given verdict → how often.
type Matrix = BTreeMap<&'static str, BTreeMap<&'static str, usize>>;

fn matrix() -> Matrix {
    let mut matrix = Matrix::new();
    // What no part of the server writes is no cause; that it is told as unknown is another test's.
    for (_, case, injected) in table().into_iter().filter(|(.., injected)| *injected != Verdict::Unknown) {
        *matrix.entry(injected.code()).or_default().entry(case.diagnosis().verdict.code()).or_default() += 1;
    }
    matrix
}

/// The matrix as people read it: what is off its diagonal is named.
fn page(matrix: &Matrix) -> String {
    let mut page = String::from(
        "# Diagnosis: what is told apart\n\n`anteroom diagnose SESSION` and `GET …/diagnosis` answer with one verdict of this list. Every verdict is \
         injected in several ways, as rows and timelines that the server writes (`each_cause_gets_its_own_verdict_and_no_other`); this table \
         is the confusion matrix of those injections, written with its zeros left out. It is compared with what the code does at each test run.\n\n\
         | injected | ways | told right | taken for another | what to do |\n|---|---|---|---|---|\n",
    );
    let (mut ways_all, mut right_all) = (0, 0);
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Unknown) {
        let code = verdict.code();
        let row = matrix.get(code).cloned().unwrap_or_default();
        let (ways, right) = (row.values().sum::<usize>(), row.get(code).copied().unwrap_or_default());
        let others: Vec<_> = row
            .iter()
            .filter(|(given, _)| **given != code)
            .map(|(given, count)| format!("{count} × `{given}`"))
            .collect();
        let others = if others.is_empty() { "—".to_owned() } else { others.join(", ") };
        writeln!(page, "| `{code}` | {ways} | {right} | {others} | {} |", verdict.remedy()).unwrap();
        ways_all += ways;
        right_all += right;
    }
    writeln!(page, "\n{right_all} of {ways_all} right.").unwrap();
    page
}

#[test]
fn the_confusion_matrix_has_every_verdict_three_times_and_nothing_beside_its_diagonal() {
    let matrix = matrix();
    let page = page(&matrix);
    println!("{page}");
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Unknown) {
        let row = matrix.get(verdict.code()).cloned().unwrap_or_default();
        let right = row.get(verdict.code()).copied().unwrap_or_default();
        assert_eq!(row.values().sum::<usize>(), right, "{verdict:?} is taken for another: {row:?}");
        assert!(right >= CAUSES_MIN, "{verdict:?} is injected in {right} way(s) only");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/diagnosis.md");
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "docs/diagnosis.md is not what the code does: write it with ANTEROOM_WRITE_DOCS=1");
}
