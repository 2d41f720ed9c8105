//! Builds the documents in `docs/` as a book of web pages with mdBook. `book.toml` is its configuration, `docs/SUMMARY.md` its contents.

mod api_reference;
mod links;

use anyhow::{Context, Result};
use mdbook_driver::MDBook;
use std::path::{Path, PathBuf};

/// Builds the book of the repository `root`; returns the directory with `index.html`.
///
/// # Errors
/// A chapter of the contents is missing, a file that is included does not exist, or the pages cannot be written.
pub fn build(root: &Path) -> Result<PathBuf> {
    let root = root.canonicalize().with_context(|| format!("{} is not a directory", root.display()))?;
    let mut book = MDBook::load(&root).context("the book cannot be read")?;
    book.with_preprocessor(api_reference::ApiReference);
    let links = links::LinksOfTheRepository::default();
    book.with_preprocessor(links.clone());
    book.build().context("the book cannot be built")?;
    let built = book.build_dir_for("html");
    links.copy_files(&root, &built).context("the files that the book links to cannot be copied")?;
    Ok(built)
}
