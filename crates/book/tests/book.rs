//! The book has every document, and each of its links leads to a page and a heading that exist.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Files below a directory with this extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_document_is_a_chapter() {
    let documents = repository().join("docs");
    let contents = fs::read_to_string(documents.join("SUMMARY.md")).unwrap();
    let missing: Vec<_> = files(&documents, "md")
        .into_iter()
        .map(|file| file.strip_prefix(&documents).unwrap().display().to_string())
        .filter(|file| file != "SUMMARY.md" && !contents.contains(&format!("]({file})")))
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
}

/// The values of an attribute in a page of HTML that mdBook wrote.
fn attributes<'a>(page: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    page.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect::<Vec<_>>().into_iter()
}

#[test]
fn every_link_of_the_book_leads_to_a_page_and_a_heading() {
    let book = anteroom_book::build(&repository()).unwrap().canonicalize().unwrap();
    let pages: BTreeMap<PathBuf, String> =
        files(&book, "html").into_iter().map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect();
    let ids: BTreeMap<&PathBuf, BTreeSet<&str>> =
        pages.iter().map(|(page, text)| (page, attributes(text, "id").collect())).collect();
    assert!(pages.len() > 40, "only {} pages", pages.len());
    let mut links = 0;
    let mut broken = BTreeSet::new();
    for (page, text) in &pages {
        // The error page belongs to no directory; all pages in one have no contents of their own.
        if page.ends_with("404.html") || page.ends_with("print.html") || page.ends_with("toc.html") {
            continue;
        }
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            if link.contains("://") || link.starts_with("data:") {
                continue;
            }
            links += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let target = target.canonicalize().unwrap_or(target);
            let has_heading = fragment.is_empty() || ids.get(&target).is_some_and(|ids| ids.contains(fragment));
            if !target.exists() || !has_heading {
                broken.insert(format!("{}: {link}", page.strip_prefix(&book).unwrap().display()));
            }
        }
    }
    assert!(links > 1_000, "only {links} links");
    for file in ["packaging/proxies/nginx.conf", "anteroom.example.toml", "providers/examples/any_command.toml"] {
        assert!(book.join(format!("files/{file}.txt")).is_file(), "{file} is in the book");
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.into_iter().collect::<Vec<_>>().join("\n"));
}
