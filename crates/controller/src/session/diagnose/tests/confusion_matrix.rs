//! The confusion matrix of all injected causes, and the document with it.

use super::{Verdict, table};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

/// The least number of causes of each verdict.
const CAUSES_MIN: usize = 3;

/// Injected verdict → given verdict → count.
type Matrix = BTreeMap<&'static str, BTreeMap<&'static str, usize>>;

fn matrix() -> Matrix {
    let mut matrix = Matrix::new();
    // A reason that the server never writes is not a cause; another test checks that it is unknown.
    for (_, case, injected) in table().into_iter().filter(|(.., injected)| *injected != Verdict::Unknown) {
        *matrix.entry(injected.code()).or_default().entry(case.diagnosis().verdict.code()).or_default() += 1;
    }
    matrix
}

/// The matrix as Markdown; wrong verdicts are named.
fn page(matrix: &Matrix) -> String {
    let mut page = String::from(
        "# Diagnosis: verdicts\n\n`anteroom diagnose SESSION` and `GET …/diagnosis` return one verdict of this list. The test \
         `every_cause_has_its_own_verdict` injects every verdict with several causes, as rows and timelines that the server writes; this table is the \
         confusion matrix of that test, without zeros. Each test run compares it with the code.\n\n\
         | injected | cases | correct | other verdicts | remedy |\n|---|---|---|---|---|\n",
    );
    let (mut cases_all, mut correct_all) = (0, 0);
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Unknown) {
        let code = verdict.code();
        let row = matrix.get(code).cloned().unwrap_or_default();
        let (cases, correct) = (row.values().sum::<usize>(), row.get(code).copied().unwrap_or_default());
        let others: Vec<_> = row
            .iter()
            .filter(|(given, _)| **given != code)
            .map(|(given, count)| format!("{count} × `{given}`"))
            .collect();
        let others = if others.is_empty() { "—".to_owned() } else { others.join(", ") };
        writeln!(page, "| `{code}` | {cases} | {correct} | {others} | {} |", verdict.remedy()).unwrap();
        cases_all += cases;
        correct_all += correct;
    }
    writeln!(page, "\n{correct_all} of {cases_all} correct.").unwrap();
    page + &super::real_runs::section()
}

#[test]
fn confusion_matrix_has_every_verdict_three_times_and_only_its_diagonal() {
    let matrix = matrix();
    let page = page(&matrix);
    println!("{page}");
    for verdict in Verdict::ALL.iter().filter(|verdict| **verdict != Verdict::Unknown) {
        let row = matrix.get(verdict.code()).cloned().unwrap_or_default();
        let right = row.get(verdict.code()).copied().unwrap_or_default();
        assert_eq!(row.values().sum::<usize>(), right, "{verdict:?} is diagnosed as another verdict: {row:?}");
        assert!(right >= CAUSES_MIN, "{verdict:?} is injected in only {right} case(s)");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/diagnosis.md");
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page, "docs/diagnosis.md differs from the code: run the test with ANTEROOM_WRITE_DOCS=1");
}
