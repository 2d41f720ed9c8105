//! The texts of statements in this crate's sources.

use std::path::{Path, PathBuf};

/// A text in the sources: a whole statement, or a part of one.
#[derive(Debug, PartialEq)]
pub(crate) struct StatementText {
    /// The source file, from `src/` on.
    pub(crate) file: String,
    pub(crate) text: String,
}

impl StatementText {
    /// Whether the text with anything in place of its placeholders is in `statement`.
    pub(crate) fn is_in(&self, statement: &str) -> bool {
        let mut rest = statement;
        parts(&self.text).into_iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }
}

/// What is between the placeholders of `format!`.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for (number, piece) in text.split('{').enumerate() {
        let part = if number == 0 { piece } else { piece.split_once('}').map_or(piece, |(_, after)| after) };
        parts.push(part);
    }
    parts
}

/// All texts of statements, without those of tests.
pub(crate) fn statement_texts() -> Vec<StatementText> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = Vec::new();
    for path in source_files(&root) {
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        let is_statement = |text: &String| {
            ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "WHERE "].iter().any(|verb| text.starts_with(verb))
        };
        let found = literals(code).into_iter().filter(is_statement);
        texts.extend(found.map(|text| StatementText { file: file.clone(), text }));
    }
    texts
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The string literals of Rust code. A line that is continued with a backslash is one line.
fn literals(code: &str) -> Vec<String> {
    let (mut literals, mut code) = (Vec::new(), code.chars().peekable());
    while let Some(character) = code.next() {
        match character {
            '/' if code.peek() == Some(&'/') => while code.next().is_some_and(|character| character != '\n') {},
            // The character `"`.
            '\'' if code.peek() == Some(&'"') => _ = code.nth(1),
            '"' => {
                let mut text = String::new();
                while let Some(character) = code.next().filter(|character| *character != '"') {
                    match character {
                        '\\' => match code.next().unwrap() {
                            '\n' => while code.next_if(|next| next.is_whitespace()).is_some() {},
                            escaped => text.push(escaped),
                        },
                        other => text.push(other),
                    }
                }
                literals.push(text);
            }
            _ => {}
        }
    }
    literals
}

#[test]
fn literals_and_their_parts_are_found() {
    let code = "// \"no\"\nlet a = '\"'; q(\"SELECT 1 \\\n    FROM \\\"x\\\"\"); \"UPDATE {} SET a = ${n} WHERE\"";
    assert_eq!(literals(code), ["SELECT 1 FROM \"x\"", "UPDATE {} SET a = ${n} WHERE"]);
    let text = |text: &str| StatementText { file: String::new(), text: text.to_owned() };
    assert!(text("UPDATE {} SET a = ${n} WHERE").is_in("UPDATE t SET a = $2 WHERE id = 1"));
    assert!(!text("UPDATE {} SET a = ${n} WHERE").is_in("UPDATE t SET b = $2 WHERE id = 1"));
    assert!(statement_texts().len() > 150);
}
