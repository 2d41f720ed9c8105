//! `anteroom bundle SESSION [--out FILE.tar.gz]`.

use super::{client::ApiClient, print_line};
use anteroom_wire::SessionId;
use anyhow::Context;
use http::Method;
use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub(super) async fn run(client: &ApiClient, session: &str, out: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    let id: SessionId = session.parse()?;
    let out = out.map_or_else(|| PathBuf::from(format!("anteroom-{id}.tar.gz")), Path::to_owned);
    let bytes = client.fetch_bytes(Method::POST, &format!("/api/auth/session/{id}/bundle")).await?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&out)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    file.write_all(&bytes).with_context(|| format!("{} cannot be written", out.display()))?;
    if json {
        print_line(serde_json::json!({ "file": out, "bytes": bytes.len() }));
        return Ok(ExitCode::SUCCESS);
    }
    print_line(format_args!(
        "Wrote {} ({} KiB). Secrets were removed; review the files before you send them.",
        out.display(),
        bytes.len().div_ceil(1024)
    ));
    Ok(ExitCode::SUCCESS)
}
