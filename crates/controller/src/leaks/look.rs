//! Looks at this host: processes, directories, files. Changes nothing, takes no lock.

use crate::{
    bundle::{self, shelf},
    config::Config,
};
use anteroom_wire::MachineId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// How deep a socket may lie below the state directory: `run/<machine>/work/<dir>/x.sock`.
const DEPTH_MAX: usize = 5;
/// Characters of a command line that are shown.
const COMMAND_CHARS_MAX: usize = 80;
/// What receipts end with.
pub const RECEIPT_ENDING: &str = ".json";

/// What exists.
#[derive(Debug, Default)]
pub struct Census {
    /// Keepers and what runs in run directories.
    pub processes: Vec<Process>,
    /// Everything in the directory of run directories, and the machine each is named after.
    pub run_dirs: Vec<(PathBuf, Option<MachineId>)>,
    /// Sockets below the state directory.
    pub sockets: Vec<PathBuf>,
    /// Receipts.
    pub receipts: Vec<shelf::Item>,
    /// Bundles.
    pub bundles: Vec<shelf::Item>,
    /// Files beside receipts and bundles whose writer is gone.
    pub half_written: Vec<PathBuf>,
    /// Templates.
    pub templates: Vec<Template>,
    /// Open files of this process by kind, when it is the server.
    pub open_files: Option<BTreeMap<String, u64>>,
}

/// A process of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Whether it keeps a machine, rather than being one.
    pub is_keeper: bool,
    /// Whose it is, by its run directory.
    pub machine: Option<MachineId>,
    /// Its command line, shortened.
    pub command: String,
}

/// A template's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Where.
    pub path: PathBuf,
    /// What it was made of; `None`: it is not finished.
    pub image: Option<String>,
    /// Whether a keeper or server holds it, or a process makes it.
    pub in_use: bool,
}

impl Census {
    /// All machines that anything here is named after.
    pub fn machines(&self) -> BTreeSet<MachineId> {
        let of_processes = self.processes.iter().filter_map(|process| process.machine.clone());
        of_processes.chain(self.run_dirs.iter().filter_map(|(_, machine)| machine.clone())).collect()
    }
}

/// Looks once. Blocks for some milliseconds.
///
/// # Errors
/// A directory is there and cannot be read.
pub fn look(config: &Config, as_server: bool) -> io::Result<Census> {
    let run = config.state_dir.join("run");
    // `/proc` has paths without symbolic links.
    let real_run = fs::canonicalize(&run).unwrap_or_else(|_| run.clone());
    let all = every_process();
    let mut census = Census {
        processes: all.iter().filter_map(|process| of_machine(process, &real_run)).collect(),
        receipts: shelf::items(&config.receipts_dir(), RECEIPT_ENDING)?,
        bundles: shelf::items(&config.bundles_dir(), bundle::ENDING)?,
        templates: templates(&config.cache_dir.join("templates"), &all)?,
        open_files: as_server.then(open_files),
        ..Census::default()
    };
    for dir in [config.receipts_dir(), config.bundles_dir()] {
        census.half_written.extend(half_written(&dir)?);
    }
    census.receipts.retain(|item| !is_hidden(&item.path));
    census.bundles.retain(|item| !is_hidden(&item.path));
    for path in entries(&run)? {
        let machine = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        census.run_dirs.push((path, machine));
    }
    sockets(&config.state_dir, DEPTH_MAX, &mut census.sockets);
    Ok(census)
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(found) => found.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A process as `/proc` shows it.
struct Seen {
    pid: u32,
    arguments: Vec<String>,
    /// Its working directory; other users' cannot be seen.
    place: Option<PathBuf>,
}

fn every_process() -> Vec<Seen> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let seen = all.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        // Empty for kernel threads and zombies.
        let line = fs::read(entry.path().join("cmdline")).ok().filter(|line| !line.is_empty())?;
        let arguments = line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        Some(Seen { pid, arguments: arguments.collect(), place: fs::read_link(entry.path().join("cwd")).ok() })
    });
    seen.collect()
}

fn of_machine(seen: &Seen, run: &Path) -> Option<Process> {
    let is_keeper = seen.arguments.get(1).is_some_and(|argument| argument == "keeper");
    let kept =
        seen.arguments.get(2).filter(|_| is_keeper).map(|dir| fs::canonicalize(dir).unwrap_or_else(|_| dir.into()));
    let place = kept.or_else(|| seen.place.clone().filter(|_| !is_keeper))?;
    // The directory of a process that outlived it reads `…/mac_… (deleted)`.
    let name = place.strip_prefix(run).ok()?.components().next()?.as_os_str().to_str()?;
    let machine = name.split(' ').next().and_then(|name| name.parse().ok());
    let command = seen.arguments.join(" ").chars().take(COMMAND_CHARS_MAX).collect();
    Some(Process { pid: seen.pid, is_keeper, machine, command })
}

/// Receipts and bundles are written beside their place under a name with a dot before it, a receipt under its keeper's number:
/// those of a writer that is gone.
///
/// # Errors
/// The directory is there and cannot be read.
pub fn half_written(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let hidden = entries(dir)?.into_iter().filter(|path| is_hidden(path));
    let old = |path: &PathBuf| {
        let age = fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age.as_secs() > 60)
    };
    Ok(hidden.filter(old).filter(|path| !is_being_written(path)).collect())
}

/// Whether the keeper that a receipt was begun by still lives: `.mac_….4711`.
fn is_being_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('.'));
    let Some((machine, pid)) = name.and_then(|name| name.split_once('.')) else { return false };
    let line = pid.parse::<u32>().ok().and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    line.is_some_and(|line| String::from_utf8_lossy(&line).contains(machine))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn sockets(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    // What goes while it is looked at is no fault.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => sockets(&entry.path(), depth - 1, found),
            Ok(_) | Err(_) => {}
        }
    }
}

fn templates(dir: &Path, all: &[Seen]) -> io::Result<Vec<Template>> {
    let locked = locked_inodes();
    let directories = entries(dir)?.into_iter().filter(|path| path.is_dir());
    let found = directories.map(|path| {
        let manifest = fs::read(path.join("template.json")).ok();
        let manifest = manifest.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let image = manifest.and_then(|manifest| Some(manifest.get("image_hash")?.as_str()?.to_owned()));
        let held = fs::metadata(path.join("state")).is_ok_and(|meta| locked.contains(&meta.ino()));
        let text = path.to_string_lossy();
        let made = || all.iter().any(|process| process.arguments.iter().any(|argument| argument.contains(&*text)));
        let in_use = held || image.is_none() && made();
        Template { path, image, in_use }
    });
    Ok(found.collect())
}

/// The inodes on which somebody has a lock (proc(5), `locks`): asking with a lock of our own could make somebody else's fail.
fn locked_inodes() -> BTreeSet<u64> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    let place = |line: &str| line.split_whitespace().find(|word| word.matches(':').count() == 2).map(str::to_owned);
    text.lines().filter_map(|line| place(line)?.rsplit(':').next()?.parse().ok()).collect()
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
