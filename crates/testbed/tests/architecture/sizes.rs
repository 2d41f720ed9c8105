//! How long files and functions are.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::str::FromStr;

const FILE_LINES_MAX: usize = 450;
const FILE_LINES_MEDIAN_MAX: usize = 120;
const FILE_LINES_P90_MAX: usize = 265;
const FUNCTION_LINES_MAX: usize = 70;
const LONG_FUNCTION_LINES: usize = 50;
const LONG_FUNCTIONS_MAX: usize = 10;

#[test]
fn files_are_short() {
    let mut sizes = Vec::new();
    for (_, source) in super::crates() {
        for file in super::source_files(&source, "rs") {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            sizes.push((
                text.split("\n#[cfg(test)]\nmod tests {").next().expect("there is a first part").lines().count(),
                file,
            ));
        }
    }
    sizes.sort();
    let at = |percent: usize| sizes[(sizes.len() - 1) * percent / 100].0;
    println!("{} files: median {}, 90th percentile {}", sizes.len(), at(50), at(90));
    let long: Vec<_> = sizes.iter().filter(|(lines, _)| *lines > FILE_LINES_MAX).collect();
    assert!(long.is_empty(), "files over {FILE_LINES_MAX} lines: {long:?}");
    assert!(at(50) <= FILE_LINES_MEDIAN_MAX, "the median file has {} lines", at(50));
    assert!(at(90) <= FILE_LINES_P90_MAX, "the 90th percentile of files is {} lines", at(90));
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for (_, source) in super::crates() {
        for file in super::source_files(&source, "rs").into_iter().filter(|file| !super::is_for_tests(file)) {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            functions(tokens, &mut |name, lines| {
                if lines > LONG_FUNCTION_LINES {
                    long.push((lines, format!("{} {name}", file.display())));
                }
            });
        }
    }
    long.sort();
    let listed = long.iter().map(|(lines, name)| format!("{lines} {name}")).collect::<Vec<_>>().join("\n");
    assert!(long.len() <= LONG_FUNCTIONS_MAX, "{} functions over {LONG_FUNCTION_LINES} lines:\n{listed}", long.len());
    assert!(
        long.iter().all(|(lines, _)| *lines <= FUNCTION_LINES_MAX),
        "functions over {FUNCTION_LINES_MAX} lines:\n{listed}"
    );
}

/// Calls `found` with the name and the lines of each function's body. Modules of tests are skipped.
fn functions(tokens: TokenStream, found: &mut impl FnMut(&str, usize)) {
    let mut name = None;
    let mut after_fn = false;
    let mut for_tests = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if after_fn => {
                name = Some(ident.to_string());
                after_fn = false;
            }
            TokenTree::Ident(ident) => after_fn = ident == "fn",
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                for_tests |= group.to_string().replace(' ', "") == "[cfg(test)]";
            }
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                if is_body && let Some(name) = name.take() {
                    found(&name, (group.span_close().start().line - group.span_open().start().line).saturating_sub(1));
                }
                if !for_tests {
                    functions(group.stream(), found);
                }
                for_tests &= !is_body;
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => {
                name = None;
                for_tests = false;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}
