//! Filters a tar stream: drops files by the recipe, adds the guest files and tools, extracts the kernel.

use super::super::{
    elf,
    fetch_tools::{self, FetchedTool},
    package_lock::{self, PackageHashes},
    progress::{BuildStep, ProgressReport},
    recipe::{Cli, GUEST_DIRS, GUEST_FILES, Recipe},
    root_fs_build_parameters::RootFsBuildParameters,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::PathBuf,
};
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::oneshot;

/// Maximum size of the extracted kernel, modules and dpkg status file together, bytes.
const EXTRACTED_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// All permission bits and the sticky bit, without set-user-id and set-group-id: no program in the guest may become root.
const MODE_MASK: u32 = 0o1777;
/// Progress is reported about once per this many bytes.
const PROGRESS_BYTES: u64 = 32 * 1024 * 1024;
const PIPE_BYTES: usize = 1 << 20;

/// The files that were extracted, and the names in the result.
#[derive(Default)]
pub(super) struct FilterOutput {
    /// All names in the result.
    pub(super) paths: BTreeSet<String>,
    /// Debian's kernel, a bzImage.
    pub(super) kernel: Vec<u8>,
    pub(super) kernel_version: String,
    /// The kernel's options, as in `/boot/config-*`.
    pub(super) kernel_config: String,
    /// Path as in `modules.dep` → compressed content.
    pub(super) modules: BTreeMap<String, Vec<u8>>,
    pub(super) modules_dep: String,
    pub(super) modules_builtin: String,
    pub(super) dpkg_status: Vec<u8>,
    /// The hashes in the package lists of the mirror.
    pub(super) package_hashes: PackageHashes,
}

/// What is added to the packages and the guest files.
pub(super) struct Additions {
    /// The downloaded tools, which may arrive later than the packages.
    tools: oneshot::Receiver<Vec<Tool>>,
    /// Path in the guest → content.
    programs: Vec<(String, Vec<u8>)>,
    /// The operator's files: the path in the guest, the permissions, the verified copy.
    extra_files: Vec<(String, u32, PathBuf)>,
    /// Tool → version, as JSON.
    versions: Vec<u8>,
}

/// A command-line tool in its package.
pub(super) struct Tool {
    cli: Cli,
    package: PathBuf,
}

impl Tool {
    /// The downloaded tools.
    pub(super) fn from_fetched(fetched: &[FetchedTool<'_>]) -> Vec<Self> {
        fetched.iter().map(|fetched| Self { cli: fetched.cli.clone(), package: fetched.package.clone() }).collect()
    }

    /// Adds it to the root file system.
    fn add(&self, out: &mut Out<impl Write>) -> io::Result<()> {
        let program = self.cli.program_path();
        let mut found = None;
        fetch_tools::for_each_file(&self.package, |path, bytes, content| {
            if !self.cli.includes_path(path) {
                return Ok(());
            }
            let to = self
                .cli
                .guest_path(path)
                .ok_or_else(|| io::Error::other(format!("the package of {program} contains {path:?}")))?;
            let is_program = path == self.cli.executable;
            if is_program {
                found = Some(to.clone());
            }
            if self.cli.whole {
                return out.file(&to, if is_program { 0o755 } else { 0o644 }, 0, bytes, content);
            }
            out.file(&to, 0o755, 0, bytes, &mut checked_program(&to, content)?)
        })?;
        let why = || format!("{} does not contain {}", self.package.display(), self.cli.executable);
        let at = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, why()))?;
        if at == program { Ok(()) } else { out.link(&program, &format!("/{at}")) }
    }
}

impl Additions {
    /// Reads the demo tool's binary.
    pub(super) fn new(build: &RootFsBuildParameters<'_>, tools: oneshot::Receiver<Vec<Tool>>) -> io::Result<Self> {
        Ok(Self {
            tools,
            programs: vec![(
                format!("usr/local/bin/{}", build.demo_name_and_version.0),
                std::fs::read(&build.settings.demo_binary)?,
            )],
            extra_files: build
                .extra_files
                .iter()
                .map(|file| (file.guest_path.clone(), file.mode, file.copy.clone()))
                .collect(),
            versions: serde_json::to_vec_pretty(&build.tool_versions())?,
        })
    }
}

impl Additions {
    fn has_extra_file(&self, path: &str) -> bool {
        self.extra_files.iter().any(|(own, ..)| own == path)
    }
}

/// Reads the packages' tar from `from` and writes the root file system's tar to `into`. Blocking.
pub(super) fn filter_packages(
    recipe: &Recipe,
    from: impl Read,
    into: File,
    additions: Additions,
    progress: &(dyn Fn(ProgressReport) + Send + Sync),
) -> io::Result<FilterOutput> {
    let mut out = Out {
        tar: Builder::new(BufWriter::with_capacity(PIPE_BYTES, into)),
        source_date_epoch_s: recipe.source_date_epoch_s,
        names: BTreeSet::new(),
    };
    let mut filtered = FilterOutput::default();
    let mut passed = 0;
    let mut reported = 0;
    let mut archive = Archive::new(BufReader::with_capacity(PIPE_BYTES, from));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = text(&entry.path()?)?;
        filtered.extract(&path, &mut entry)?;
        passed += entry.size();
        if passed - reported >= PROGRESS_BYTES {
            reported = passed;
            progress(ProgressReport {
                step: BuildStep::RootFs,
                fraction: None,
                message: format!("{} MB", passed / 1_000_000),
            });
        }
        if !path.is_empty()
            && !is_added(recipe, &path)
            && !additions.has_extra_file(&path)
            && !recipe.excludes_path(&path)
        {
            out.copy(&path, &mut entry)?;
        }
    }
    for (path, mode, owner) in GUEST_DIRS {
        out.directory(path, *mode, *owner)?;
    }
    for file in GUEST_FILES {
        out.file(file.path, file.mode, file.owner, file.content.len() as u64, &mut &file.content[..])?;
    }
    // Written at the claim; an empty file means "not initialized" (machine-id(5)).
    out.file("etc/machine-id", 0o644, 0, 0, &mut io::empty())?;
    out.file("etc/anteroom/clis.json", 0o644, 0, additions.versions.len() as u64, &mut &additions.versions[..])?;
    for link in &recipe.url_opener_links {
        out.link(link, &recipe.agent_path)?;
    }
    for (path, content) in &additions.programs {
        out.file(path, 0o755, 0, content.len() as u64, &mut &content[..])?;
    }
    let tools = additions.tools.blocking_recv().map_err(|_| io::Error::other("the tools could not be downloaded"))?;
    for tool in &tools {
        progress(ProgressReport { step: BuildStep::RootFs, fraction: None, message: tool.cli.name.clone() });
        tool.add(&mut out)?;
    }
    for (path, mode, copy) in &additions.extra_files {
        let mut content = File::open(copy)?;
        if out.names.contains(path) {
            return Err(io::Error::other(format!("{path} is a file of a tool and an extra file")));
        }
        out.file(path, *mode, 0, content.metadata()?.len(), &mut content)?;
    }
    out.tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
    filtered.paths = out.names;
    Ok(filtered)
}

/// Whether the builder adds a file with this name, which replaces the packages' file.
fn is_added(recipe: &Recipe, path: &str) -> bool {
    path == "etc/machine-id"
        || GUEST_FILES.iter().any(|file| file.path == path)
        || GUEST_DIRS.iter().any(|(own, ..)| *own == path)
        || recipe.url_opener_links.iter().any(|link| link == path)
}

/// Returns `content` unchanged if it starts with an ELF header for x86-64.
fn checked_program<'a>(name: &str, mut content: &'a mut dyn Read) -> io::Result<impl Read + 'a> {
    let mut head = vec![0; elf::ELF_HEADERS_BYTES];
    let got = super::super::read_up_to(&mut content, &mut head)?;
    head.truncate(got);
    match elf::why_not_x86_64(&head) {
        Some(why) => Err(io::Error::other(format!("{name} {why}"))),
        None => Ok(io::Cursor::new(head).chain(content)),
    }
}

/// A path of the tar as text, without a leading `./` and a trailing `/`; the root itself is empty.
fn text(path: &std::path::Path) -> io::Result<String> {
    let path = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("a package contains the name {path:?}, which is not UTF-8")))?;
    let path = path.strip_prefix("./").unwrap_or(path).trim_matches('/');
    Ok(if path == "." { String::new() } else { path.to_owned() })
}

impl FilterOutput {
    /// Extracts the files of the kernel, dpkg's status file and the hashes in apt's package lists. Consumes the entry: the recipe drops all of these files from the
    /// root file system.
    fn extract(&mut self, path: &str, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let read = |entry: &mut tar::Entry<'_, _>| -> io::Result<Vec<u8>> {
            let mut content = Vec::new();
            entry.take(EXTRACTED_BYTES_MAX).read_to_end(&mut content)?;
            Ok(content)
        };
        let read_text = |entry: &mut tar::Entry<'_, _>| String::from_utf8(read(entry)?).map_err(io::Error::other);
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        if let Some(version) = path.strip_prefix("boot/vmlinuz-") {
            version.clone_into(&mut self.kernel_version);
            self.kernel = read(entry)?;
        } else if path.starts_with("boot/config-") {
            self.kernel_config = read_text(entry)?;
        } else if let Some((_, name)) = path.strip_prefix("usr/lib/modules/").and_then(|path| path.split_once('/')) {
            if name == "modules.dep" {
                self.modules_dep = read_text(entry)?;
            } else if name == "modules.builtin" {
                self.modules_builtin = read_text(entry)?;
            } else if name.ends_with(".ko.xz") {
                self.modules.insert(name.to_owned(), read(entry)?);
            }
        } else if path == "var/lib/dpkg/status" {
            self.dpkg_status = read(entry)?;
        } else if path.starts_with("var/lib/apt/lists/") && path.ends_with("_Packages") {
            package_lock::read_package_list(entry, &mut self.package_hashes)?;
        }
        let extracted_bytes =
            self.kernel.len() + self.modules.values().map(Vec::len).sum::<usize>() + self.dpkg_status.len();
        if extracted_bytes as u64 > EXTRACTED_BYTES_MAX {
            return Err(io::Error::other("the kernel, its modules and the dpkg status file are larger than 128 MiB"));
        }
        Ok(())
    }
}

/// The tar that is written.
struct Out<W: Write> {
    tar: Builder<W>,
    source_date_epoch_s: u64,
    names: BTreeSet<String>,
}

impl<W: Write> Out<W> {
    /// Copies an entry of the packages.
    fn copy(&mut self, path: &str, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let old = entry.header().clone();
        let kind = old.entry_type();
        let mut header = self.header(kind, old.mode()? & MODE_MASK, 0);
        header.set_uid(old.uid()?);
        header.set_gid(old.gid()?);
        if kind.is_file() || kind.is_contiguous() {
            header.set_size(entry.size());
            self.tar.append_data(&mut header, path, entry)?;
        } else if kind.is_dir() {
            self.tar.append_data(&mut header, path, io::empty())?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name()?.ok_or_else(|| io::Error::other(format!("{path} links to nothing")))?;
            if kind.is_symlink() {
                self.tar.append_link(&mut header, path, &target)?;
            } else {
                let target = text(&target)?;
                if !self.names.contains(&target) {
                    let why = format!("{path} is a hard link to {target}, which the recipe drops");
                    return Err(io::Error::other(why));
                }
                self.tar.append_link(&mut header, path, target)?;
            }
        } else {
            // Devices and pipes are created in the guest.
            return Ok(());
        }
        self.names.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, owner: u64, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        self.create_parents(path)?;
        let mut header = self.header(EntryType::Regular, mode, owner);
        header.set_size(bytes);
        self.tar.append_data(&mut header, path, content)?;
        self.names.insert(path.to_owned());
        Ok(())
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.create_parents(path)?;
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, path, target)?;
        self.names.insert(path.to_owned());
        Ok(())
    }

    fn directory(&mut self, path: &str, mode: u32, owner: u64) -> io::Result<()> {
        self.create_parents(path)?;
        if self.names.insert(path.to_owned()) {
            let mut header = self.header(EntryType::Directory, mode, owner);
            self.tar.append_data(&mut header, path, io::empty())?;
        }
        Ok(())
    }

    /// Creates the parent directories of a path that are in no package.
    fn create_parents(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !self.names.contains(parent) => self.directory(parent, 0o755, 0),
            _ => Ok(()),
        }
    }

    fn header(&self, kind: EntryType, mode: u32, owner: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(self.source_date_epoch_s);
        header.set_size(0);
        header
    }
}
