//! Makes a backup. The server may run: the copy of the database is of one moment, and the audit trail is only ever appended to.

use super::{
    AUDIT_DIR, BackupError, DATABASE_NAME, FORMAT, KEY_NAME, Manifest,
    archive::{Source, write_archive},
    database::{Sharing, copy_database, kind_of},
    manifest::digests,
    missing_keys,
    work_dir::{WorkDir, sync_dir},
};
use crate::{
    config::Config,
    keys::{KeyRing, key_source},
    unix_time::{format_rfc3339, now_unix_ms},
};
use anteroom_store::DatabaseFile;
use anteroom_vault::{KeyError, KeySource};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek},
    path::{Path, PathBuf},
};

/// The name of an archive that is not complete.
pub(super) const PART_NAME: &str = "part.tar.gz";

/// What is backed up, and to where.
#[derive(Debug)]
pub struct BackupRequest<'r> {
    /// A file that does not exist, or a directory in which a file with the time in its name is made.
    pub to: &'r Path,
    /// Whether the key file is included.
    pub with_key: bool,
}

/// Makes a backup of this configuration's database and audit trail. Returns the path, the size in bytes and the description.
///
/// # Errors
/// The database cannot be read or the file cannot be written; nothing is left.
pub async fn create_backup(
    config: &Config,
    request: BackupRequest<'_>,
) -> Result<(PathBuf, u64, Manifest), BackupError> {
    make(config, request, Sharing::Shared).await
}

/// Makes the same of a database which no server uses, without the key file: for a database of another kind or on another host. The caller
/// holds the lock of the state directory.
///
/// # Errors
/// As [`create_backup`], or a server uses the database.
pub async fn export_database(config: &Config, to: &Path) -> Result<(PathBuf, u64, Manifest), BackupError> {
    make(config, BackupRequest { to, with_key: false }, Sharing::Alone).await
}

async fn make(
    config: &Config,
    request: BackupRequest<'_>,
    sharing: Sharing,
) -> Result<(PathBuf, u64, Manifest), BackupError> {
    let made_at_ms = now_unix_ms();
    let to = output_path(request.to, made_at_ms)?;
    let parent = parent_of(&to);
    let work = WorkDir::create_in(&parent).map_err(|source| BackupError::Write { path: parent.clone(), source })?;
    let copy = work.path(DATABASE_NAME);
    let mut manifest = copy_and_describe(config, &copy, made_at_ms, sharing).await?;
    let (audit_dir, key) = (config.audit_dir(), request.with_key.then(|| key_source(config)));
    let fingerprint = manifest.key_fingerprint.clone();
    let (bytes, manifest) = tokio::task::spawn_blocking({
        let to = to.clone();
        move || {
            let mut sources = vec![whole_file(DATABASE_NAME.to_owned(), copy)?];
            sources.extend(audit_files(&audit_dir)?);
            if let Some(key) = key {
                let path = key.path().to_owned();
                require_keys(key, fingerprint.as_deref())?;
                sources.push(whole_file(KEY_NAME.to_owned(), path)?);
            }
            manifest.files = sources.iter().map(|source| source.digest.clone()).collect();
            let part = work.path(PART_NAME);
            let bytes = write_archive(&part, &manifest, sources)?;
            publish(&part, &to)?;
            Ok::<_, BackupError>((bytes, manifest))
        }
    })
    .await??;
    Ok((to, bytes, manifest))
}

/// Requires that the key file has the keys of the copy: one may have been retired since.
fn require_keys(source: KeySource, fingerprint: Option<&str>) -> Result<(), BackupError> {
    let ring = KeyRing::open(source)?;
    let Some(fingerprint) = fingerprint else { return Ok(()) };
    ring.check_fingerprint(fingerprint)?;
    missing_keys(&ring, fingerprint).first().map_or(Ok(()), |key| Err(KeyError::UnknownKey(*key).into()))
}

/// The path of the backup. It does not exist.
pub(super) fn output_path(to: &Path, made_at_ms: u64) -> Result<PathBuf, BackupError> {
    let path = if to.is_dir() {
        let time = format_rfc3339(made_at_ms);
        let seconds = time.split('.').next().unwrap_or(&time);
        let digits: String = seconds.chars().filter(char::is_ascii_alphanumeric).collect();
        to.join(format!("anteroom-{digits}Z.tar.gz"))
    } else {
        to.to_owned()
    };
    if path.symlink_metadata().is_ok() { Err(BackupError::Exists { path }) } else { Ok(path) }
}

pub(super) fn parent_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

async fn copy_and_describe(
    config: &Config,
    copy: &Path,
    made_at_ms: u64,
    sharing: Sharing,
) -> Result<Manifest, BackupError> {
    let kind = kind_of(&config.database_address()?);
    let mut copy = copy_database(config, copy, sharing).await?;
    let described = describe(&mut copy, made_at_ms).await;
    copy.close().await.map_err(BackupError::Database)?;
    let (found, manifest) = described?;
    for fault in found {
        // A damaged database is better saved than not.
        tracing::warn!(outcome = "database_damaged", fault, "the database is damaged, and so is its copy");
    }
    Ok(Manifest { database: Some(kind.to_owned()), ..manifest })
}

async fn describe(copy: &mut DatabaseFile, made_at_ms: u64) -> Result<(Vec<String>, Manifest), BackupError> {
    let found = copy.check().await.map_err(BackupError::Database)?;
    let summary = copy.summary().await.map_err(BackupError::Database)?;
    let tables = copy.tables().await.map_err(BackupError::Database)?;
    let manifest = Manifest {
        format: FORMAT,
        made_at: format_rfc3339(made_at_ms),
        made_at_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version: summary.schema_version,
        database: None,
        key_fingerprint: summary.key_fingerprint,
        credentials: summary.credentials,
        active_sessions: summary.active_sessions,
        providers: summary.providers,
        tables: digests(tables),
        files: Vec::new(),
    };
    Ok((found, manifest))
}

fn whole_file(name: String, path: PathBuf) -> Result<Source, BackupError> {
    let failed = |source| BackupError::Read { path: path.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Source::read(name, path, file, bytes)
}

/// The head first, then the files of records: they have at least the records that the head names.
fn audit_files(dir: &Path) -> Result<Vec<Source>, BackupError> {
    let failed = |source| BackupError::Read { path: dir.to_owned(), source };
    let mut sources = Vec::new();
    let head = dir.join("head.json");
    if head.is_file() {
        sources.push(whole_file(format!("{AUDIT_DIR}/head.json"), head)?);
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut names: Vec<_> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("audit-") && name.ends_with(".jsonl"));
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // The retention has removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(BackupError::Read { path, source }),
        };
        let bytes = complete_lines(&mut file).map_err(|source| BackupError::Read { path: path.clone(), source })?;
        sources.push(Source::read(format!("{AUDIT_DIR}/{name}"), path, file, bytes)?);
    }
    Ok(sources)
}

/// The bytes up to the end of the last complete line; the file is rewound.
fn complete_lines(file: &mut File) -> io::Result<u64> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    file.rewind()?;
    Ok(content.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline as u64 + 1))
}

/// Gives the complete archive its name, never over another file.
pub(super) fn publish(part: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source: io::Error| {
        let path = to.to_owned();
        if source.kind() == ErrorKind::AlreadyExists {
            BackupError::Exists { path }
        } else {
            BackupError::Write { path, source }
        }
    };
    match renameat_with(CWD, part, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot exclude the other file.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(part, to).map_err(failed)?,
        other => other.map_err(|errno| failed(errno.into()))?,
    }
    sync_dir(&parent_of(to)).map_err(failed)
}
