//! Inventory of this host: processes, directories and files of machines. Reads only, takes no lock.

use crate::{
    config::Config,
    retention::{self, BUNDLE_SUFFIX, RECEIPT_SUFFIX, RetainedFile, is_hidden},
};
use anteroom_machine::RENEW_DEADLINE_FILE;
use anteroom_wire::MachineId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Directory levels below the state directory that are searched for sockets: `run/<machine>/work/<dir>/x.sock`.
const DEPTH_MAX: usize = 5;
/// Characters of a command line that are reported.
const COMMAND_CHARS_MAX: usize = 80;

/// What exists on this host.
#[derive(Debug, Default)]
pub struct HostInventory {
    /// Keepers, and processes that run in run directories.
    pub processes: Vec<MachineProcess>,
    /// All entries of the directory of run directories, each with the machine id in its name.
    pub run_dirs: Vec<(PathBuf, Option<MachineId>)>,
    /// Unix sockets below the state directory.
    pub sockets: Vec<PathBuf>,
    /// Receipts.
    pub receipts: Vec<RetainedFile>,
    /// Support bundles.
    pub bundles: Vec<RetainedFile>,
    /// Unfinished receipts and bundles whose writer has exited.
    pub unfinished_files: Vec<PathBuf>,
    /// Templates.
    pub templates: Vec<TemplateDir>,
    /// Number of open files of this process by kind (`socket`, `file`, …); `None` outside the server.
    pub open_files: Option<BTreeMap<String, u64>>,
}

/// A process of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineProcess {
    /// Its process id.
    pub pid: u32,
    /// Whether it is a keeper; otherwise it runs in a machine's run directory.
    pub is_keeper: bool,
    /// Its machine, by the name of the run directory.
    pub machine: Option<MachineId>,
    /// Its command line, at most [`COMMAND_CHARS_MAX`] characters.
    pub command_line: String,
}

/// A template's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateDir {
    /// Its path.
    pub path: PathBuf,
    /// Hash of the image that it was made from; `None`: the template is unfinished or damaged.
    pub image: Option<String>,
    /// Whether that image exists: a server may be configured to use both.
    pub image_exists: bool,
    /// Whether a keeper or server holds a lock on it, or a process is making it.
    pub is_in_use: bool,
}

impl HostInventory {
    /// All machine ids in the names of processes' run directories and of run directories.
    pub fn machine_ids(&self) -> BTreeSet<MachineId> {
        let of_processes = self.processes.iter().filter_map(|process| process.machine.clone());
        of_processes.chain(self.run_dirs.iter().filter_map(|(_, machine)| machine.clone())).collect()
    }
}

/// Collects the inventory. Blocks for some milliseconds. `as_server`: this process is the server, count its open files too.
///
/// # Errors
/// A directory exists and cannot be read.
pub fn collect_inventory(config: &Config, as_server: bool) -> io::Result<HostInventory> {
    let run = config.state_dir.join("run");
    // Paths in `/proc` have no symbolic links.
    let real_run = fs::canonicalize(&run).unwrap_or_else(|_| run.clone());
    let all = all_processes();
    let mut inventory = HostInventory {
        processes: all.iter().filter_map(|process| machine_process(process, &real_run)).collect(),
        receipts: retention::list_files(&config.receipts_dir(), RECEIPT_SUFFIX)?,
        bundles: retention::list_files(&config.bundles_dir(), BUNDLE_SUFFIX)?,
        templates: templates(&config.cache_dir, &all)?,
        open_files: as_server.then(open_files),
        ..HostInventory::default()
    };
    for dir in [config.receipts_dir(), config.bundles_dir()] {
        inventory.unfinished_files.extend(retention::list_unfinished_files(&dir)?);
    }
    inventory.receipts.retain(|file| !is_hidden(&file.path));
    inventory.bundles.retain(|file| !is_hidden(&file.path));
    for path in entries(&run)? {
        if path.ends_with(RENEW_DEADLINE_FILE) {
            continue;
        }
        let machine = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        inventory.run_dirs.push((path, machine));
    }
    sockets(&config.state_dir, DEPTH_MAX, &mut inventory.sockets);
    Ok(inventory)
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(found) => found.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An entry of `/proc`.
struct ProcessEntry {
    pid: u32,
    arguments: Vec<String>,
    /// The working directory; `None` for processes of other users, whose link is not readable.
    working_dir: Option<PathBuf>,
}

fn all_processes() -> Vec<ProcessEntry> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = all.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        // Empty for kernel threads and zombies.
        let line = fs::read(entry.path().join("cmdline")).ok().filter(|line| !line.is_empty())?;
        let arguments = line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let working_dir = fs::read_link(entry.path().join("cwd")).ok();
        Some(ProcessEntry { pid, arguments: arguments.collect(), working_dir })
    });
    processes.collect()
}

/// The process as a process of a machine; `None` if it is not one. A keeper is recognized by its arguments, any other process by
/// its working directory.
fn machine_process(process: &ProcessEntry, run: &Path) -> Option<MachineProcess> {
    let is_keeper = process.arguments.get(1).is_some_and(|argument| argument == "keeper");
    let keeper_dir =
        process.arguments.get(2).filter(|_| is_keeper).map(|dir| fs::canonicalize(dir).unwrap_or_else(|_| dir.into()));
    let dir = keeper_dir.or_else(|| process.working_dir.clone().filter(|_| !is_keeper))?;
    // The link to a deleted working directory reads `…/mac_… (deleted)`.
    let name = dir.strip_prefix(run).ok()?.components().next()?.as_os_str().to_str()?;
    let machine = name.split(' ').next().and_then(|name| name.parse().ok());
    let command = process.arguments.join(" ").chars().take(COMMAND_CHARS_MAX).collect();
    Some(MachineProcess { pid: process.pid, is_keeper, machine, command_line: command })
}

fn sockets(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    // Entries may be removed concurrently.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => sockets(&entry.path(), depth - 1, found),
            Ok(_) | Err(_) => {}
        }
    }
}

fn templates(cache_dir: &Path, all: &[ProcessEntry]) -> io::Result<Vec<TemplateDir>> {
    let (locked, images) = (locked_inodes(), cache_dir.join("images"));
    let directories = entries(&cache_dir.join("templates"))?.into_iter().filter(|path| path.is_dir());
    let found = directories.map(|path| {
        let image = anteroom_machine::template_image_hash(&path)?;
        let image_exists = image.as_ref().is_some_and(|image| images.join(image).is_dir());
        let is_locked = fs::metadata(path.join("state")).is_ok_and(|meta| locked.contains(&meta.ino()));
        let text = path.to_string_lossy();
        let is_being_made =
            || all.iter().any(|process| process.arguments.iter().any(|argument| argument.contains(&*text)));
        let is_in_use = is_locked || image.is_none() && is_being_made();
        Ok(TemplateDir { path, image, image_exists, is_in_use })
    });
    found.collect()
}

/// The inodes on which any process holds a lock (proc(5), `locks`). Probing with a lock instead could make another process's
/// attempt fail.
fn locked_inodes() -> BTreeSet<u64> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    // The field is `MAJOR:MINOR:INODE`.
    let file = |line: &str| line.split_whitespace().find(|field| field.matches(':').count() == 2).map(str::to_owned);
    text.lines().filter_map(|line| file(line)?.rsplit(':').next()?.parse().ok()).collect()
}

fn open_files() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for file in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let target = fs::read_link(file.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let kind = match target.split_once(':') {
            Some((kind, _)) if !target.starts_with('/') => kind.to_owned(),
            Some(_) | None => "file".to_owned(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}
