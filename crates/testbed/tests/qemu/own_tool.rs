//! A tool of one's own, from a file on this host to a stored credential: `[[image.extra_files]]` and `[image.hook]` in a real build of
//! the image, as docs/providers.md describes them.

use anteroom_testbed::{Qemu, TestConfig, TestServer, plain_process::built_program};
use anteroom_wire::api::SessionStatus;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// The longest build of an image, seconds: packages, tools, and the first boot of a template under emulation.
const BUILD_S_MAX: u64 = 900;

const TOOL: &str = r#"#!/bin/sh
case $1 in
    version) echo 'acme 3.2' ;;
    login)
        printf 'Key: '
        read -r key
        mkdir -p .acme
        printf 'key=%s, %s\n' "$key" "$(cat /opt/acme/prepared)" > .acme/credentials
        echo 'Signed in' ;;
esac
"#;

/// Uses the tool, which is there before it, and has no network.
const HOOK: &str = r#"#!/bin/sh
set -e
mkdir -p /opt/acme
acme version > /opt/acme/prepared
if getent hosts example.com; then echo 'there is a network'; exit 1; fi
test ! -e /home/user/.ssh
"#;

const WITHOUT_LICENCE: &str = "#!/bin/sh\necho 'looking for the licence'\necho 'no licence' >&2\nexit 9\n";
const PROVIDER: &str = r#"
[providers.acme]
name = "Acme"
cli = "acme"
argv = ["acme", "login"]
lanes = ["terminal"]
next_action = "Paste a key."
policy = "store"
egress = []
credential = { paths = [".acme/credentials"], format = "text", text_matches = 'key=\S' }

[[providers.acme.prompts]]
id = "key"
matches = 'Key:\s*\z'
ask = { label = "Key", secret = true }
"#;

/// A cache directory with the tools that an earlier build has downloaded, so that they are not downloaded again.
fn cache_dir(dir: &Path) -> PathBuf {
    let cache = dir.join("cache");
    fs::create_dir_all(cache.join("images/cache")).unwrap();
    let tools = Qemu::test_cache_dir().unwrap().join("images/cache/tools");
    symlink(tools, cache.join("images/cache/tools")).unwrap();
    cache
}

/// Runs `anteroom image build` with this hook; whether it succeeded, and what it printed to standard error.
async fn build(dir: &Path, cache: &Path, hook: &str) -> (bool, String) {
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        (path.display().to_string(), hex::encode(Sha256::digest(content)))
    };
    let ((tool, tool_sha256), (hook, hook_sha256)) = (file("acme", TOOL), file("prepare.sh", hook));
    let config = dir.join("build.toml");
    let settings = format!(
        "cache_dir = {cache:?}\n[[image.extra_files]]\nsource = {tool:?}\nsha256 = {tool_sha256:?}\npath = '/usr/local/bin/acme'\n\
         mode = '0755'\nversion = '3.2'\n[image.hook]\nscript = {hook:?}\nsha256 = {hook_sha256:?}\n"
    );
    fs::write(&config, settings).unwrap();
    let anteroom = built_program("anteroom").unwrap();
    let guest = anteroom.parent().and_then(Path::parent).unwrap().join("x86_64-unknown-linux-gnu/guest");
    let mut command = Command::new(anteroom);
    command.arg("--config").arg(&config).args(["image", "build", "--agent"]).arg(guest.join("anteroom-agent"));
    command.arg("--demo-cli").arg(guest.join("anteroom-demo-cli")).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(Duration::from_secs(BUILD_S_MAX), command.output()).await.unwrap().unwrap();
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[tokio::test]
async fn qemu_own_tool_and_hook_in_a_real_build_of_the_image() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let cache = cache_dir(dir.path());
    let (succeeded, printed) = build(dir.path(), &cache, WITHOUT_LICENCE).await;
    assert!(!succeeded, "{printed}");
    for part in ["[image.hook]", "prepare.sh", "failed with exit code 9", "    looking for the licence\n    no licence"]
    {
        assert!(printed.contains(part), "{part:?} is not in {printed}");
    }
    let (succeeded, printed) = build(dir.path(), &cache, HOOK).await;
    assert!(succeeded, "{printed}");

    let config = TestConfig::new(Qemu { cache_dir: Some(cache), path: None }).with_settings(PROVIDER);
    let server = TestServer::start(config).await.unwrap();
    let api = server.operator_client().unwrap();
    let id = api.start_session("acme").await.unwrap().session.id;
    api.wait_until(&id, "asking for the key", |view| view.sign_in.prompt.is_some()).await.unwrap();
    let pasted = api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": "k-1" })).await.unwrap();
    assert_eq!(pasted.status, 200, "{}", pasted.text);
    let credential = api.wait_status(&id, SessionStatus::Completed).await.unwrap().credential.unwrap();
    let lease = api.lease_credential(&credential.id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"key=k-1, acme 3.2\n", "with what the hook has written");
    server.stop_and_check_leaks().await.unwrap();
}
