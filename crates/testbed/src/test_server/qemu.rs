//! Test servers with QEMU machines: the server is `anteroom serve`, and the machines are made from the image in
//! `ANTEROOM_TEST_IMAGE`. `./test --kvm` runs the same servers with Firecracker machines.

use super::{LaunchCommand, MachineBackend, TestConfig, TestServer, Tokens, path_value};
use crate::ServerDir;
use anteroom_wire::Secret;
use anyhow::Context;
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest wait for anything in an emulated machine on a busy host.
pub const QEMU_WAIT_TIMEOUT: Duration = Duration::from_secs(240);

/// The kind of machines, a value of the setting `machines.kind`; default: `qemu`.
const KIND_VARIABLE: &str = "ANTEROOM_TEST_KIND";
/// If it is not empty, machines must use KVM.
const KVM_VARIABLE: &str = "ANTEROOM_TEST_KVM";

/// QEMU machines.
#[derive(Debug, Clone, Default)]
pub struct Qemu {
    /// The directory of images and templates; default: the one that contains `ANTEROOM_TEST_IMAGE`.
    pub cache_dir: Option<PathBuf>,
    /// The server's `PATH`; default: the test's `PATH`.
    pub path: Option<OsString>,
}

impl Qemu {
    /// The cache directory of the image that the tests use: `ANTEROOM_TEST_IMAGE` without `images/HASH`.
    ///
    /// # Errors
    /// `ANTEROOM_TEST_IMAGE` is not set, or is no image's directory.
    pub fn test_cache_dir() -> anyhow::Result<PathBuf> {
        let image = std::env::var_os("ANTEROOM_TEST_IMAGE").map(PathBuf::from);
        let image = image.context(
            "ANTEROOM_TEST_IMAGE is not set: run ./test, or set it to what `anteroom image build --print-dir` prints",
        )?;
        let cache = image.parent().and_then(Path::parent).context("ANTEROOM_TEST_IMAGE must be …/images/<hash>")?;
        Ok(cache.to_owned())
    }
}

impl TestConfig<Qemu> {
    /// A server with QEMU machines and these settings, as TOML.
    pub fn qemu(settings: &str) -> Self {
        Self::new(Qemu::default()).with_settings(settings)
    }
}

/// Settings of a provider whose tool is this command in the machine. Its credential is the file `.ID/credential.json` with a `token`.
pub fn command_provider(id: &str, argv: &[&str]) -> String {
    format!(
        r#"
[providers.{id}]
name = "{id}"
cli = "codex"
argv = {argv:?}
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = {{ paths = [".{id}/credential.json"], required = ["/token"] }}
"#
    )
}

/// Settings of the provider `shell`: a shell, so that the test can type commands.
pub fn shell_provider() -> String {
    command_provider("shell", &["sh", "-i"])
}

/// Settings of the provider `quick`: its tool writes a credential without a user.
pub fn quick_provider() -> String {
    let script = r#"mkdir -p .quick; printf '{"token": "q-1"}' > .quick/credential.json; sleep 600"#;
    command_provider("quick", &["sh", "-c", script])
}

/// Adds the kind of machines to the settings, unless they have one.
fn add_kind(settings: &mut toml::Table, kind: Option<String>, needs_kvm: bool) -> anyhow::Result<()> {
    let machines = settings.entry("machines").or_insert_with(|| toml::Table::new().into());
    let machines = machines.as_table_mut().context("`machines` is not a table")?;
    machines.entry("kind").or_insert_with(|| kind.unwrap_or_else(|| "qemu".to_owned()).into());
    if needs_kvm {
        machines.entry("accelerator").or_insert_with(|| "kvm".into());
    }
    Ok(())
}

impl MachineBackend for Qemu {
    const WAIT_MAX: Duration = QEMU_WAIT_TIMEOUT;
    const EXIT_WAIT_MAX: Duration = Duration::from_secs(20);

    fn prepare(&mut self, _: &ServerDir, settings: &mut toml::Table) -> anyhow::Result<()> {
        let cache_dir = self.cache_dir.clone().map_or_else(Self::test_cache_dir, Ok)?;
        settings.insert("cache_dir".to_owned(), path_value(&cache_dir));
        let needs_kvm = std::env::var_os(KVM_VARIABLE).is_some_and(|value| !value.is_empty());
        add_kind(settings, std::env::var(KIND_VARIABLE).ok(), needs_kvm)
    }

    async fn create_tokens(&self, dir: &ServerDir) -> anyhow::Result<Tokens> {
        fs::create_dir(dir.state_dir()).context("the state directory")?;
        let token = dir.run_anteroom(&["token", "create", "--operator", "test"]).await?;
        Ok(Tokens { operator: Secret::new(token.trim().to_owned()), backends: Vec::new() })
    }

    fn launch(server: &TestServer<Self>) -> anyhow::Result<LaunchCommand> {
        let mut command = server.dir.anteroom_command()?;
        command.arg("serve");
        if let Some(path) = &server.config.machines.path {
            command.env("PATH", path);
        }
        if server.config.demo {
            command.arg("--demo");
        }
        if let Some(address) = server.first_address {
            command.arg("--listen").arg(address.to_string());
        }
        // The link has a name below `localhost`; the server listens on 127.0.0.1.
        let address = |line: &str| {
            let (_, port) = line.trim().strip_prefix("http://")?.split('/').next()?.rsplit_once(':')?;
            Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
        };
        Ok(LaunchCommand { command, input: Vec::new(), address })
    }
}

impl TestServer<Qemu> {
    /// The login link that the server printed; it is valid once.
    ///
    /// # Errors
    /// The server is not running.
    pub fn login_link(&self) -> anyhow::Result<&str> {
        Ok(self.process()?.ready_line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_kind(settings: &str, kind: Option<&str>, needs_kvm: bool) -> toml::Table {
        let mut settings = settings.parse().unwrap();
        add_kind(&mut settings, kind.map(str::to_owned), needs_kvm).unwrap();
        settings
    }

    #[test]
    fn machines_are_of_qemu_unless_the_run_or_the_test_selects_another_kind() {
        assert_eq!(with_kind("", None, false), "machines.kind = 'qemu'".parse().unwrap());
        let expected = "machines = { kind = 'firecracker', accelerator = 'kvm' }".parse().unwrap();
        assert_eq!(with_kind("", Some("firecracker"), true), expected);
        let of_the_test = "machines = { kind = 'qemu', accelerator = 'emulation', cpus = 1 }";
        assert_eq!(with_kind(of_the_test, Some("firecracker"), true), of_the_test.parse().unwrap());
    }
}
