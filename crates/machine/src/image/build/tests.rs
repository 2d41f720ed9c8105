//! Builds with a cached root file system, so that no packages are installed.

use super::{
    super::{ImageError, artefact_of, elf, host_requirements::MissingRequirement},
    *,
};
use std::{fs, sync::Mutex};

struct BuildFixture {
    dir: tempfile::TempDir,
    settings: BuildSettings,
}

impl BuildFixture {
    /// An images directory with a cached root file system for the embedded recipe.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("unpacked")).unwrap();
        for name in ["agent", "demo"] {
            fs::write(at(name), program(name)).unwrap();
        }
        let mut settings = BuildSettings::new(at("images"), at("agent"), at("demo"));
        settings.scratch_dir = at("unpacked");
        let this = Self { dir, settings };
        this.put_root();
        this
    }

    fn put_root(&self) {
        let inputs = Inputs::of(&Recipe::parse_embedded().unwrap(), &self.settings).unwrap();
        let root = self.settings.images_dir.join("cache/roots").join(inputs.root);
        fs::create_dir_all(root.join("modules")).unwrap();
        fs::write(root.join("rootfs.squashfs"), b"hsqs and more").unwrap();
        fs::write(root.join("vmlinux"), program("kernel")).unwrap();
        fs::write(root.join("modules/virtio_blk.ko"), b"module").unwrap();
        let text = serde_json::json!({
            "rootfs": artefact_of(&root.join("rootfs.squashfs"), "rootfs.squashfs").unwrap(),
            "kernel": artefact_of(&root.join("vmlinux"), "vmlinux").unwrap(),
            "kernel_version": "6.12",
            "kernel_options": ["PVH"],
            "modules": ["virtio_blk.ko"],
            "packages": {"chromium": "1"},
            "clis": {"codex": "2"},
        });
        fs::write(root.join("root.json"), text.to_string()).unwrap();
    }

    fn set_agent(&self, name: &str) {
        fs::write(&self.settings.agent_binary, program(name)).unwrap();
    }

    async fn build(&self) -> Result<BuildOutcome, BuildError> {
        build_image(&self.settings, Arc::new(|_| ()), async |_| Ok(())).await
    }

    fn current(&self) -> Result<Image, ImageError> {
        Image::open_current(&self.settings.images_dir)
    }

    /// Names in the images directory that are neither images nor fixed names.
    fn unexpected_names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.settings.images_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.len() != 64 && !["cache", "current", "lock"].contains(&name.as_str())).collect()
    }
}

/// A static program, different for every name.
fn program(name: &str) -> Vec<u8> {
    [elf::tests::program_with_segment(1).as_slice(), name.as_bytes()].concat()
}

#[tokio::test]
async fn second_build_with_the_same_inputs_does_nothing() {
    let fixture = BuildFixture::new();
    let first = fixture.build().await.unwrap();
    assert!(!first.unchanged);
    first.image.verify().unwrap();
    assert_eq!(first.image.manifest.clis["codex"], "2");
    assert_eq!(fixture.current().unwrap().manifest, first.image.manifest);
    let tested = Mutex::new(false);
    let second = build_image(&fixture.settings, Arc::new(|_| ()), async |_| {
        *tested.lock().unwrap() = true;
        Ok(())
    });
    let second = second.await.unwrap();
    assert!(second.unchanged && !*tested.lock().unwrap());
    assert_eq!(second.image, first.image);
    assert!(fixture.unexpected_names().is_empty());
}

#[tokio::test]
async fn packages_that_differ_from_the_lock_are_an_error_if_it_is_required_also_of_what_was_built_before() {
    let mut fixture = BuildFixture::new();
    fixture.settings.require_locked_packages = true;
    let differ = |built: Result<BuildOutcome, BuildError>| {
        let error = built.unwrap_err();
        let BuildError::PackagesDiffer { differences } = &error else { panic!("{error}") };
        differences.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(differ(fixture.build().await).iter().any(|line| line.starts_with("chromium: 1 instead of ")));
    fixture.settings.require_locked_packages = false;
    fixture.build().await.unwrap();
    fixture.settings.require_locked_packages = true;
    assert!(differ(fixture.build().await).iter().any(|line| line.starts_with("chromium: 1 instead of ")));
}

#[tokio::test]
async fn changed_agent_makes_another_image_with_the_same_root() {
    let fixture = BuildFixture::new();
    let first = fixture.build().await.unwrap().image;
    fixture.set_agent("another agent");
    let second = fixture.build().await.unwrap().image;
    assert_ne!(first.manifest.hash, second.manifest.hash);
    assert_ne!(first.manifest.agent_sha256, second.manifest.agent_sha256);
    assert_eq!(first.manifest.rootfs, second.manifest.rootfs);
    let archive = fs::read(second.initramfs_path()).unwrap();
    assert!(archive.windows(13).any(|window| window == b"another agent"));
    assert_eq!(fixture.current().unwrap().manifest.hash, second.manifest.hash);
    // With the old agent, the old image becomes the current one again.
    fixture.set_agent("agent");
    assert_eq!(fixture.build().await.unwrap().image.manifest.hash, first.manifest.hash);
    assert_eq!(fixture.current().unwrap().manifest.hash, first.manifest.hash);
}

#[tokio::test]
async fn image_with_a_failed_self_test_is_removed_and_the_current_one_stays() {
    let fixture = BuildFixture::new();
    let good = fixture.build().await.unwrap().image;
    fixture.set_agent("an agent that does not boot");
    let failed = build_image(&fixture.settings, Arc::new(|_| ()), async |image| {
        assert!(image.initramfs_path().is_file());
        Err("the guest printed nothing".into())
    });
    let error = failed.await.unwrap_err();
    assert!(
        matches!(&error, BuildError::SelfTest(cause) if cause.to_string() == "the guest printed nothing"),
        "{error}"
    );
    assert_eq!(fixture.current().unwrap().manifest.hash, good.manifest.hash);
    let images = fs::read_dir(&fixture.settings.images_dir)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().len() == 64);
    assert_eq!(images.count(), 1);
    assert!(fixture.unexpected_names().is_empty());
}

#[tokio::test]
async fn concurrent_build_is_an_error_with_the_process_id() {
    let fixture = BuildFixture::new();
    let inner = Mutex::new(None);
    let outer = build_image(&fixture.settings, Arc::new(|_| ()), async |_| {
        *inner.lock().unwrap() = Some(fixture.build().await);
        Ok(())
    });
    outer.await.unwrap();
    let error = inner.into_inner().unwrap().unwrap().unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, BuildError::OtherBuildRunning { pid: Some(pid), .. } if pid == own), "{error}");
}

#[tokio::test]
async fn invalid_binary_is_an_error_before_anything_is_built() {
    let fixture = BuildFixture::new();
    fs::write(&fixture.settings.agent_binary, elf::tests::program_with_segment(3)).unwrap();
    assert!(fixture.build().await.unwrap_err().to_string().contains("dynamically"));
    fs::remove_file(&fixture.settings.demo_binary).unwrap();
    fixture.set_agent("agent");
    let error = fixture.build().await.unwrap_err();
    assert!(matches!(&error, BuildError::InvalidBinary { path, .. } if path.ends_with("demo")), "{error}");
    assert!(fixture.current().is_err());
}

#[tokio::test]
async fn leftovers_of_a_crashed_build_are_removed_by_the_next() {
    let fixture = BuildFixture::new();
    let leftover = fixture.settings.images_dir.join("tmp-0123456789abcdef");
    fs::create_dir_all(leftover.join("root")).unwrap();
    let unpacked = leftovers::create_packages_dir(&leftover, &fixture.settings.scratch_dir).unwrap();
    fs::create_dir(unpacked.join("mmdebstrap.x")).unwrap();
    // A recorded path without a build's prefix is ignored.
    let unrelated = fixture.dir.path().join("unrelated");
    fs::create_dir(&unrelated).unwrap();
    let forged = fixture.settings.images_dir.join("tmp-fedcba9876543210");
    fs::create_dir(&forged).unwrap();
    fs::write(forged.join("packages-dir"), unrelated.to_str().unwrap()).unwrap();
    fixture.build().await.unwrap();
    assert!(!leftover.exists() && !unpacked.exists() && !forged.exists());
    assert!(unrelated.exists());
    assert!(fixture.unexpected_names().is_empty());
}

#[tokio::test]
async fn images_over_the_limit_are_removed() {
    let mut fixture = BuildFixture::new();
    fixture.settings.images_kept = 2;
    let mut removed = 0;
    for agent in ["a", "b", "c", "d"] {
        fixture.set_agent(agent);
        removed += fixture.build().await.unwrap().removed;
    }
    assert_eq!(removed, 2);
    let agent = elf::tests::program_with_segment(1).len();
    assert!(fixture.current().unwrap().manifest.initramfs.bytes > agent as u64);
}

#[tokio::test]
async fn progress_reports_every_step() {
    let fixture = BuildFixture::new();
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = reported.clone();
    let on_progress: OnProgress = Arc::new(move |progress: ProgressReport| log.lock().unwrap().push(progress));
    build_image(&fixture.settings, on_progress, async |_| Ok(())).await.unwrap();
    let mut steps: Vec<BuildStep> = reported.lock().unwrap().iter().map(|progress| progress.step).collect();
    steps.dedup();
    assert_eq!(
        steps,
        [BuildStep::Check, BuildStep::RootFs, BuildStep::Assemble, BuildStep::SelfTest, BuildStep::Publish]
    );
}

#[test]
fn missing_requirements_are_one_error_with_one_install_command() {
    let missing = |what: &str, package| MissingRequirement {
        what: what.into(),
        why: "why".into(),
        remedy: format!("get {what}"),
        package,
    };
    let error = BuildError::MissingRequirements(vec![
        missing("npm", Some("npm")),
        missing("xz", Some("xz-utils")),
        missing("ids", None),
    ]);
    let text = error.to_string();
    for part in ["npm: why", "ids: why", "sudo apt-get install --no-install-recommends npm xz-utils", "get ids"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("get npm"), "{text}");
}

#[tokio::test]
async fn extra_files_and_the_hook_are_inputs_and_their_place_on_this_host_is_not() {
    let mut fixture = BuildFixture::new();
    let root_of = |settings: &BuildSettings| Inputs::of(&Recipe::parse_embedded().unwrap(), settings).unwrap().root;
    let plain = root_of(&fixture.settings);
    let file = ExtraFile {
        source: "/srv/acme".into(),
        sha256: "a".repeat(64),
        path: "/usr/local/bin/acme".to_owned(),
        mode: "0755".to_owned(),
        version: None,
    };
    let mut roots = vec![plain];
    for (path, mode, sha256) in
        [("acme", "0755", "a"), ("other", "0755", "a"), ("acme", "0700", "a"), ("acme", "0755", "b")]
    {
        let path = format!("/usr/local/bin/{path}");
        fixture.settings.extra_files =
            vec![ExtraFile { path, mode: mode.to_owned(), sha256: sha256.repeat(64), ..file.clone() }];
        roots.push(root_of(&fixture.settings));
    }
    for (sha256, network) in [("a", false), ("b", false), ("b", true)] {
        fixture.settings.hook = Some(Hook { script: "/srv/hook".into(), sha256: sha256.repeat(64), network });
        roots.push(root_of(&fixture.settings));
    }
    let different: std::collections::BTreeSet<_> = roots.iter().collect();
    assert_eq!(different.len(), roots.len(), "each is part of the image's inputs");
    fixture.settings.hook = None;
    fixture.settings.extra_files = vec![ExtraFile { source: "/elsewhere/acme".into(), ..file }];
    assert_eq!(root_of(&fixture.settings), roots[1]);
}

#[tokio::test]
async fn all_that_is_wrong_with_the_inputs_is_one_error_before_anything_is_built() {
    let mut fixture = BuildFixture::new();
    let missing = fixture.dir.path().join("acme");
    let changed = fixture.dir.path().join("changed");
    fs::write(&changed, "another content").unwrap();
    let file = |source: &Path, name: &str| ExtraFile {
        source: source.to_owned(),
        sha256: "a".repeat(64),
        path: format!("/usr/local/bin/{name}"),
        mode: "0755".to_owned(),
        version: None,
    };
    fixture.settings.extra_files = vec![file(&missing, "acme"), file(&changed, "changed")];
    fixture.settings.hook = Some(Hook { script: changed.clone(), sha256: "b".repeat(64), network: false });
    let own = hex::encode(Sha256::digest("another content"));
    let additions = ["acme\" (image.extra_files.source) cannot be read", &own, "(image.hook.script)"];
    let text = fixture.build().await.unwrap_err().to_string();
    for part in additions {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(fixture.current().is_err() && fixture.unexpected_names().is_empty());
    for program in [&fixture.settings.agent_binary, &fixture.settings.demo_binary] {
        fs::remove_file(program).unwrap();
    }
    let text = fixture.build().await.unwrap_err().to_string();
    for part in additions.into_iter().chain(["(the agent of the machines)", "--agent FILE", "--demo-cli FILE", "./up"])
    {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}
