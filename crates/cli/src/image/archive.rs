//! `anteroom image export` and `fetch`.

use crate::{machine_environment::images_dir, print_line, stop::Stops};
use anteroom_controller::config::Config;
use anteroom_machine::image::{Image, ImageFetch, export_image};
use anyhow::{Context, ensure};
use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// The largest file with a checksum that is read, bytes.
const CHECKSUM_BYTES_MAX: u64 = 4 << 10;

/// Fails if the superuser would write files of another user, which that user could not change later.
pub(super) fn require_own_cache_dir(config: &Config) -> anyhow::Result<()> {
    let dir = &config.cache_dir;
    let owner = fs::metadata(dir).map_or(0, |found| found.uid());
    ensure!(
        owner == 0 || !rustix::process::geteuid().is_root(),
        "{} belongs to the user with the id {owner}: run this command as that user (sudo -u '#{owner}' …)",
        dir.display()
    );
    Ok(())
}

/// Writes the current image. What is incomplete is removed, also after a signal.
pub(super) async fn export(config: &Config, file: PathBuf) -> anyhow::Result<ExitCode> {
    let image = Image::open_current(&images_dir(config))?;
    let failed = || format!("{} cannot be written", file.display());
    ensure!(!file.exists(), "{} exists already", file.display());
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).with_context(failed)?.to_owned();
    let mut stops = Stops::new()?;
    let (output, incomplete) = tempfile::NamedTempFile::new_in(dir).with_context(failed)?.into_parts();
    output.set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
    let hash = image.manifest.hash.clone();
    let exported = tokio::task::spawn_blocking(move || {
        let sha256 = export_image(&image, &output)?;
        anyhow::Ok(output.sync_all().map(|()| sha256)?)
    });
    let sha256 = tokio::select! {
        exported = exported => exported?.with_context(failed)?,
        code = stops.next() => return Ok(ExitCode::from(code)),
    };
    incomplete.persist_noclobber(&file).with_context(failed)?;
    fs::write(checksum_file(&file), format!("{sha256}  {name}\n")).with_context(failed)?;
    print_line(format_args!("Image {} is in {}, SHA-256 {sha256}.", &hash[..12], file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Fetches an image. What is incomplete is removed, also after a signal.
pub(super) async fn fetch(config: &Config, file: PathBuf, sha256: Option<String>) -> anyhow::Result<ExitCode> {
    require_own_cache_dir(config)?;
    let failed = || format!("{} was not fetched", file.display());
    let sha256 = match sha256 {
        Some(sha256) => checked(&sha256).context("--sha256")?,
        None => read_checksum(&file).with_context(failed)?,
    };
    let mut stops = Stops::new()?;
    let input = open(&file).with_context(failed)?;
    let fetch = Arc::new(ImageFetch::begin(&images_dir(config)).with_context(failed)?);
    let unpacking = Arc::clone(&fetch);
    let unpacked = tokio::task::spawn_blocking(move || unpacking.unpack(input, &sha256));
    tokio::select! {
        unpacked = unpacked => unpacked?.with_context(failed)?,
        code = stops.next() => {
            fetch.abandon();
            return Ok(ExitCode::from(code));
        }
    }
    let fetch = Arc::into_inner(fetch).context("the image is being unpacked")?;
    let image = tokio::task::spawn_blocking(move || fetch.publish()).await?.with_context(failed)?;
    print_line(format_args!("Image {} is the image for new machines.", &image.manifest.hash[..12]));
    Ok(ExitCode::SUCCESS)
}

fn open(file: &Path) -> io::Result<Box<dyn Read + Send>> {
    Ok(if file == "-" { Box::new(io::stdin()) } else { Box::new(File::open(file)?) })
}

fn checksum_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// The checksum in FILE.sha256.
fn read_checksum(file: &Path) -> anyhow::Result<String> {
    let checksums = checksum_file(file);
    let mut text = String::new();
    let needed = || format!("its checksum is needed: --sha256 HEX, or the file {}", checksums.display());
    ensure!(file != "-", needed());
    let read = File::open(&checksums).and_then(|file| file.take(CHECKSUM_BYTES_MAX).read_to_string(&mut text));
    read.with_context(needed)?;
    checked(text.split_whitespace().next().unwrap_or_default()).with_context(|| checksums.display().to_string())
}

fn checked(sha256: &str) -> anyhow::Result<String> {
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_hash, "{sha256:?} is not a SHA-256: 64 hexadecimal digits");
    Ok(sha256.to_owned())
}
