//! Which file imports which, read from the tokens of the source.
//!
//! A file is a module. Each path that starts with `crate`, `super`, `self` or the name of a child module leads to the file of
//! the longest prefix that is a module. Tests inside a file are skipped.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr,
};

/// A module path from the root of its binary or library, which is empty.
type ModulePath = Vec<String>;

/// The imports of one crate: file → files, relative to `source`.
pub(crate) fn of_crate(source: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let files = super::source_files(source, "rs");
    let mut imports = BTreeMap::new();
    for root in roots(source, &files) {
        let modules = modules_below(source, &root, &files);
        for (module, file) in &modules {
            let text = std::fs::read_to_string(file).expect("a source file can be read");
            let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut scan = Scan { modules: &modules, module, depth: 0, found: BTreeSet::new() };
            scan.tokens(tokens);
            let found = scan.found.iter().map(|target| relative(source, &modules[target])).collect::<BTreeSet<_>>();
            imports
                .insert(relative(source, file), found.into_iter().filter(|to| *to != relative(source, file)).collect());
        }
    }
    imports
}

fn relative(source: &Path, file: &Path) -> PathBuf {
    file.strip_prefix(source).expect("the file is below the source").to_path_buf()
}

/// `lib.rs`, `main.rs` and the files directly in `bin/`.
fn roots(source: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let is_root = |file: &&PathBuf| {
        let relative = relative(source, file);
        let parent = relative.parent().expect("a file has a parent");
        parent == Path::new("bin") || relative == Path::new("lib.rs") || relative == Path::new("main.rs")
    };
    files.iter().filter(is_root).cloned().collect()
}

/// The modules of one root. A binary in `bin/NAME.rs` has its modules in `bin/NAME/`.
fn modules_below(source: &Path, root: &Path, files: &[PathBuf]) -> BTreeMap<ModulePath, PathBuf> {
    let in_bin = root.parent().is_some_and(|parent| parent.ends_with("bin"));
    let directory = if in_bin { root.with_extension("") } else { source.to_path_buf() };
    let mut modules = BTreeMap::from([(Vec::new(), root.to_path_buf())]);
    for file in files {
        let Ok(inside) = file.strip_prefix(&directory) else { continue };
        let is_other_root =
            !in_bin && (inside.starts_with("bin") || inside == Path::new("lib.rs") || inside == Path::new("main.rs"));
        if file != root && !is_other_root {
            let path = inside.with_extension("");
            modules.insert(path.iter().map(|part| part.to_string_lossy().into_owned()).collect(), file.clone());
        }
    }
    modules
}

struct Scan<'a> {
    modules: &'a BTreeMap<ModulePath, PathBuf>,
    module: &'a ModulePath,
    /// Inline modules around the tokens.
    depth: usize,
    found: BTreeSet<ModulePath>,
}

impl Scan<'_> {
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(ident) if ident == "mod" && is_brace(tokens.get(at + 2)) => {
                    if !is_for_tests(&tokens[..at]) {
                        self.depth += 1;
                        self.group(&tokens[at + 2]);
                        self.depth -= 1;
                    }
                    at += 3;
                }
                TokenTree::Ident(ident) if is_path_separator(&tokens, at + 1) && !is_after_separator(&tokens, at) => {
                    match self.start(&ident.to_string()) {
                        Some(start) => at = self.path(&tokens, at + 3, start),
                        None => at += 3,
                    }
                }
                group @ TokenTree::Group(_) => {
                    self.group(group);
                    at += 1;
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
            }
        }
    }

    fn group(&mut self, token: &TokenTree) {
        if let TokenTree::Group(group) = token {
            self.tokens(group.stream());
        }
    }

    /// Where a path that begins with `first` starts; `None`: outside of this crate.
    fn start(&self, first: &str) -> Option<ModulePath> {
        match first {
            "crate" => Some(Vec::new()),
            "self" => Some(self.module.clone()),
            "super" => {
                let mut start = self.module.clone();
                if self.depth == 0 {
                    start.pop();
                }
                Some(start)
            }
            name => {
                let mut child = self.module.clone();
                child.push(name.to_owned());
                self.modules.contains_key(&child).then_some(child)
            }
        }
    }

    /// Follows the path whose next segment is at `at`, from the module `from`; returns where the tokens go on.
    fn path(&mut self, tokens: &[TokenTree], at: usize, from: ModulePath) -> usize {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                let mut next = from.clone();
                if ident == "super" {
                    next.pop();
                } else {
                    next.push(ident.to_string());
                }
                if ident != "super" && !self.modules.contains_key(&next) {
                    self.found.insert(from);
                    return at + 1;
                }
                if is_path_separator(tokens, at + 1) {
                    return self.path(tokens, at + 3, next);
                }
                self.found.insert(next);
                at + 1
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                for branch in inside.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
                    if !branch.is_empty() {
                        self.path(branch, 0, from.clone());
                    }
                }
                at + 1
            }
            Some(_) => {
                self.found.insert(from);
                at + 1
            }
            None => at,
        }
    }
}

fn is_brace(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace)
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

fn is_after_separator(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_path_separator(tokens, at - 2)
}

/// Whether the attribute right before is `#[cfg(test)]`.
fn is_for_tests(before: &[TokenTree]) -> bool {
    before.last().is_some_and(|token| token.to_string().replace(' ', "") == "[cfg(test)]")
}
