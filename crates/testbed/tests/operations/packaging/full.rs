//! What takes longer than half a minute: with `./test --full`.

mod container;
mod databases;
mod podman;

use super::{command, is_root, output, project};
use std::{fs, path::Path};

/// Makes a release of the debug build; returns its sums, one file a line.
async fn release(directory: &Path) -> String {
    output(command(project("scripts/release.sh"), &[directory.to_str().unwrap(), "debug"])).await;
    fs::read_to_string(directory.join("SHA256SUMS")).unwrap()
}

/// The names of the files in an archive.
async fn listed(archive: &Path) -> Vec<String> {
    let text = output(command("tar", &["--list", "--file", archive.to_str().unwrap()])).await;
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn release_is_complete_and_the_same_again_and_lintian_finds_no_error() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sums = release(first.path()).await;
    assert_eq!(release(second.path()).await, sums, "the same sources give the same files");
    let version = env!("CARGO_PKG_VERSION");
    let (deb, name) = (format!("anteroom_{version}_amd64.deb"), format!("anteroom-{version}-x86_64-linux"));
    let archive = format!("{name}.tar.gz");
    let named: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(named, [archive.as_str(), deb.as_str()]);

    let files = listed(&first.path().join(&archive)).await;
    for file in ["bin/anteroom", "lib/anteroom/anteroom-agent", "man/man1/anteroom.1.gz", "packaging/anteroom.service"]
    {
        assert!(files.contains(&format!("{name}/{file}")), "{file}");
    }
    let unpacked = tempfile::tempdir().unwrap();
    let mut unpack = command("tar", &["--extract", "--gzip", "--file"]);
    unpack.arg(first.path().join(&archive)).arg("--directory").arg(unpacked.path());
    output(unpack).await;
    let printed = output(command(unpacked.path().join(&name).join("bin/anteroom"), &["--version"])).await;
    assert!(printed.contains(version), "{printed}");

    let mut lint = command("lintian", &["--fail-on", "error,warning", "--allow-root", "--tag-display-limit", "0"]);
    lint.arg(first.path().join(&deb));
    output(lint).await;
}
