//! The OCI image, made and run without a container engine: umoci makes it, skopeo reads it, runc runs it. Then podman does.

use super::{command, is_root, output, podman, project};
use anteroom_testbed::{ApiClient, QEMU_WAIT_TIMEOUT, Qemu, eventually, plain_process::built_program};
use anteroom_wire::{Secret, api::SessionStatus};
use serde_json::{Value, json};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::{Child, Command};

/// The user of the image.
const USER: u32 = 7060;
/// Mebibytes of the image, compressed. A debug build has more than a release.
const IMAGE_MIB_MAX: u64 = 160;

/// A bundle of the runtime, and directories that stand for the volumes.
struct Container {
    directory: tempfile::TempDir,
    address: SocketAddr,
    /// As the image has it, with the volumes.
    config: Value,
}

impl Container {
    async fn unpack(layout: &Path) -> Self {
        let directory = tempfile::tempdir_in(layout.parent().unwrap()).unwrap();
        let bundle = directory.path().join("bundle");
        let image = format!("{}:anteroom", layout.display());
        output(command("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()])).await;
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
        let mut container = Self { directory, address, config };
        container.add_volumes();
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The volumes of docs/install.md, the configuration with the address, and this host's network instead of one without a way out.
    fn add_volumes(&mut self) {
        let mut settings = fs::read_to_string(project("packaging/anteroom.toml")).unwrap();
        settings += &format!("public_url = \"http://{}\"\n[machines]\nkind = \"qemu\"\n", self.address);
        fs::write(self.path("anteroom.toml"), settings).unwrap();
        for name in ["state", "cache", "image"] {
            fs::create_dir(self.path(name)).unwrap();
            std::os::unix::fs::chown(self.path(name), Some(USER), Some(USER)).unwrap();
        }
        std::os::unix::fs::chown(self.directory.path(), Some(USER), Some(USER)).unwrap();
        let process = &mut self.config["process"];
        assert_eq!(process["user"], json!({ "uid": USER, "gid": USER }), "it runs as its own user");
        assert_eq!(process["args"], json!(["/usr/bin/tini", "--", "/usr/bin/anteroom", "serve"]));
        process["terminal"] = false.into();
        process["capabilities"] = json!({});
        let variables = process["env"].as_array_mut().unwrap();
        let listen = variables.iter_mut().find(|variable| **variable == "ANTEROOM_LISTEN=0.0.0.0:7060").unwrap();
        *listen = format!("ANTEROOM_LISTEN={}", self.address).into();
        self.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
        let volumes = [
            ("/var/lib/anteroom", "state", "rw"),
            ("/var/cache/anteroom", "cache", "rw"),
            ("/etc/anteroom/anteroom.toml", "anteroom.toml", "ro"),
            ("/image", "image", "ro"),
        ];
        let volumes = volumes.map(|(to, from, mode)| {
            json!({ "destination": to, "type": "none", "source": self.path(from), "options": ["rbind", mode] })
        });
        let system = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"] });
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts
            .retain(|mount| !["/sys", "/var"].iter().any(|at| mount["destination"].as_str().unwrap().starts_with(at)));
        mounts.extend(volumes.into_iter().chain([system]));
    }

    fn runtime(&self, arguments: &[&str]) -> Command {
        let mut runtime = command("runc", &["--root", self.path("runc").to_str().unwrap()]);
        runtime.args(arguments);
        runtime
    }

    /// The image's command, or another one.
    fn run(&self, arguments: Option<&[&str]>) -> Command {
        let mut config = self.config.clone();
        if let Some(arguments) = arguments {
            config["process"]["args"] = json!(arguments);
        }
        let bundle = self.path("bundle");
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        self.runtime(&["run", "--bundle", bundle.to_str().unwrap(), "anteroom"])
    }

    async fn exec(&self, arguments: &[&str]) -> String {
        output(self.runtime(&[&["exec", "anteroom", "anteroom"], arguments].concat())).await
    }

    /// Ends the server as an engine does; its machines end with the container.
    async fn stop(&self, mut server: Child) {
        output(self.runtime(&["kill", "anteroom", "TERM"])).await;
        server.wait().await.unwrap();
    }
}

pub(super) async fn export_image(to: &Path) {
    let mut export = Command::new(built_program("anteroom").unwrap());
    export.arg("--cache-dir").arg(Qemu::test_cache_dir().unwrap()).args(["image", "export"]).arg(to);
    output(export).await;
}

/// So that no machine is booted if the QEMU of the image is the host's.
pub(super) async fn copy_templates(cache: &Path) {
    let mut copy = command("cp", &["--recursive", "--sparse=always"]);
    copy.arg(Qemu::test_cache_dir().unwrap().join("templates")).arg(cache);
    output(copy).await;
    let owner = format!("{USER}:{USER}");
    output(command("chown", &["--recursive", &owner, cache.to_str().unwrap()])).await;
}

#[tokio::test]
async fn oci_image_serves_a_desktop_as_its_own_user_and_runs_with_podman_as_documented() {
    if !is_root() {
        return;
    }
    let cache = Qemu::test_cache_dir().unwrap();
    let directory = tempfile::tempdir_in(&cache).unwrap();
    let (package, layout) = (directory.path().join("deb"), directory.path().join("layout"));
    output(command(project("packaging/build_deb.sh"), &[package.to_str().unwrap(), "debug"])).await;
    let deb = fs::read_dir(&package).unwrap().next().unwrap().unwrap().path();
    let mut build = command(project("packaging/build_oci.sh"), &[]);
    build.arg(deb).arg(&layout);
    output(build).await;
    let inspected = output(command("skopeo", &["inspect", &format!("oci:{}:anteroom", layout.display())])).await;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let mib = blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).sum::<u64>() >> 20;
    eprintln!("the image has {mib} MiB");
    assert!(mib <= IMAGE_MIB_MAX, "{mib} MiB");

    let container = Container::unpack(&layout).await;
    export_image(&container.path("image/anteroom.tar")).await;
    output(container.run(Some(&["/usr/bin/anteroom", "image", "fetch", "/image/anteroom.tar"]))).await;
    copy_templates(&container.path("cache")).await;
    let log = container.path("log");
    let kept = fs::File::create(&log).unwrap();
    let mut serve = container.run(Some(&["/usr/bin/tini", "--", "/usr/bin/anteroom", "serve", "--demo"]));
    serve.stdin(Stdio::null()).stdout(kept.try_clone().unwrap()).stderr(kept).kill_on_drop(true);
    let server = serve.spawn().unwrap();
    let api = |token| {
        ApiClient::new(container.address, format!("http://{}", container.address), token, QEMU_WAIT_TIMEOUT).unwrap()
    };
    let anonymous = api(None);
    let healthy = async || Ok(anonymous.get("/health").await.ok().filter(|answer| answer.status == 200).map(drop));
    eventually("the container serves", QEMU_WAIT_TIMEOUT, healthy).await.unwrap();
    assert!(
        !fs::read_to_string(&log).unwrap().contains("login_token="),
        "an engine keeps the output: a link is a secret"
    );

    let token = container.exec(&["token", "create", "--operator", "test"]).await;
    let operator = api(Some(Secret::new(token.trim().to_owned())));
    let id = operator.start_session("demo").await.unwrap().session.id;
    operator.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
    let mut desktop = operator.connect_desktop(&id).await.unwrap();
    assert!(desktop.request_full_frame().await.unwrap().count_colours(2) > 1, "a picture");
    container.stop(server).await;
    output(container.runtime(&["list", "--quiet"])).await;
    drop(container);
    podman::runs_as_documented(&layout).await;
}
