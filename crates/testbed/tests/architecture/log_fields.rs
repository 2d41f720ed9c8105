//! The names of fields of log lines.

/// Macros that log, with their arguments.
fn log_calls(text: &str) -> impl Iterator<Item = &str> {
    text.split("tracing::").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("!(")?;
        let is_log = matches!(name, "error" | "warn" | "info" | "debug" | "trace" | "event");
        is_log.then(|| rest.split(");").next()).flatten()
    })
}

#[test]
fn no_log_line_has_a_second_message() {
    let field = regex_lite::Regex::new(r"(^|[,(\s])[%?]?message\s*(=[^=]|,|$)").unwrap();
    let mut calls = 0;
    for (_, source) in super::crates() {
        for file in super::source_files(&source, "rs") {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            for call in log_calls(&text) {
                calls += 1;
                let arguments = call.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
                assert!(!field.is_match(&arguments), "{}: {call}", file.display());
            }
        }
    }
    assert!(calls > 100, "{calls} calls were found");
}
