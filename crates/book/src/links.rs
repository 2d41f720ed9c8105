//! Documents link to one another and to other files of the repository. In the book a link to a document leads to its chapter, and a link to
//! a file for users to a copy of it; a link to any other file becomes its text.

use anyhow::Result;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext, book::Book};
use pulldown_cmark::{Event, Options, Parser, Tag};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Chapters that consist of a document outside of `docs/`: its path in the repository, and its chapter's.
const INCLUDED: [(&str, &str); 5] = [
    ("README.md", "introduction.md"),
    ("SECURITY.md", "security.md"),
    ("ARCHITECTURE.md", "architecture.md"),
    ("CHANGELOG.md", "changelog.md"),
    ("CONTRIBUTING.md", "contributing.md"),
];

/// Where files for users are: configuration to begin with, descriptors, examples.
const FOR_USERS: [&str; 5] = ["anteroom.example.toml", "packaging", "providers", "examples", "clients"];

/// Replaces the links of all chapters, and collects the files that are to be copied into the book.
#[derive(Clone, Default)]
pub(crate) struct LinksOfTheRepository {
    linked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl LinksOfTheRepository {
    /// Copies the linked files of the repository `root` into the built book, as text that browsers show.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub(crate) fn copy_files(&self, root: &Path, book: &Path) -> Result<()> {
        for file in self.linked.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let copy = book.join(place_of(file));
            std::fs::create_dir_all(copy.parent().unwrap_or(book))?;
            std::fs::copy(root.join(file), copy)?;
        }
        Ok(())
    }
}

/// Where the copy of a file is in the book. mdBook takes any name with `.md` for a chapter's.
fn place_of(file: &Path) -> PathBuf {
    match file.extension() {
        Some(extension) if extension == "md" => Path::new("files").join(file.with_extension("txt")),
        _ => PathBuf::from(format!("files/{}.txt", file.display())),
    }
}

impl Preprocessor for LinksOfTheRepository {
    fn name(&self) -> &'static str {
        "links-of-the-repository"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let chapters = Chapters::of(&book, &context.config.book.src, &context.root, Arc::clone(&self.linked));
        book.for_each_chapter_mut(|chapter| {
            if let Some(path) = &chapter.path {
                chapter.content = chapters.with_links(path, &chapter.content);
            }
        });
        Ok(book)
    }
}

/// Which file of the repository is which chapter. Paths of chapters are relative to the directory of the documents.
struct Chapters {
    documents: PathBuf,
    root: PathBuf,
    chapter_of_file: BTreeMap<PathBuf, PathBuf>,
    linked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Chapters {
    fn of(book: &Book, documents: &Path, root: &Path, linked: Arc<Mutex<BTreeSet<PathBuf>>>) -> Self {
        let mut chapter_of_file: BTreeMap<_, _> = book
            .chapters()
            .filter_map(|chapter| Some((documents.join(chapter.source_path.as_ref()?), chapter.path.clone()?)))
            .collect();
        for (file, chapter) in INCLUDED {
            if chapter_of_file.contains_key(&documents.join(chapter)) {
                chapter_of_file.insert(file.into(), chapter.into());
            }
        }
        Self { documents: documents.to_owned(), root: root.to_owned(), chapter_of_file, linked }
    }

    /// The directory that relative links of a chapter start from, below the repository.
    fn base_of(&self, chapter: &Path) -> PathBuf {
        match INCLUDED.iter().find(|(_, included)| Path::new(included) == chapter) {
            Some(_) => PathBuf::new(),
            None => self.documents.join(chapter.parent().unwrap_or(Path::new(""))),
        }
    }

    fn with_links(&self, chapter: &Path, text: &str) -> String {
        let base = self.base_of(chapter);
        let from = chapter.parent().unwrap_or(Path::new(""));
        let mut changes: Vec<(Range<usize>, String)> = Vec::new();
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let (Event::Start(Tag::Link { dest_url, .. }) | Event::Start(Tag::Image { dest_url, .. })) = &event else {
                continue;
            };
            if dest_url.contains("://") || dest_url.starts_with(['#', '/']) || dest_url.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) =
                dest_url.split_once('#').map_or((dest_url.as_ref(), ""), |(path, fragment)| (path, fragment));
            let file = normal(&base.join(path));
            let link = &text[range.clone()];
            let Some(at) = link.rfind(&format!("]({dest_url}")) else { continue };
            let chapter = self.chapter_of_file.get(&file).cloned();
            if let Some(target) = chapter.or_else(|| self.other_file(&file)).or_else(|| self.file_for_users(&file)) {
                let mut relative = relative_to(&target, from);
                if !fragment.is_empty() {
                    relative = format!("{relative}#{fragment}");
                }
                let start = range.start + at + 2;
                changes.push((start..start + dest_url.len(), relative));
            } else {
                changes.push((range.clone(), link[1..at].to_owned()));
            }
        }
        changes.sort_by_key(|(range, _)| range.start);
        let mut changed = String::with_capacity(text.len());
        let mut copied = 0;
        for (range, replacement) in changes {
            if range.start < copied {
                continue;
            }
            changed.push_str(&text[copied..range.start]);
            changed.push_str(&replacement);
            copied = range.end;
        }
        changed.push_str(&text[copied..]);
        changed
    }

    /// The copy of a file for users.
    fn file_for_users(&self, file: &Path) -> Option<PathBuf> {
        let is_for_users = FOR_USERS.iter().any(|place| file.starts_with(place)) && self.root.join(file).is_file();
        is_for_users.then(|| {
            self.linked.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned());
            place_of(file)
        })
    }

    /// A picture or another file in the directory of the documents, which mdBook copies.
    fn other_file(&self, file: &Path) -> Option<PathBuf> {
        let below = file.strip_prefix(&self.documents).ok()?;
        (self.root.join(file).is_file() && file.extension().is_none_or(|end| end != "md")).then(|| below.to_owned())
    }
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(name) => parts.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts
}

/// `target` as seen from the directory `from`; both are relative to the same directory.
fn relative_to(target: &Path, from: &Path) -> String {
    let up = "../".repeat(from.components().count());
    format!("{up}{}", target.display())
}
