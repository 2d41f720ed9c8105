//! Builds on a shelf whose root file system is already there, so that no package is ever installed.

use super::{
    super::{ImageError, artefact_of, elf, host_requirements::MissingRequirement},
    *,
};
use std::{fs, sync::Mutex};

struct Workshop {
    dir: tempfile::TempDir,
    settings: BuildSettings,
}

impl Workshop {
    /// An images directory with a cached root for the recipe of this program.
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
        let inputs = Inputs::of(&Recipe::embedded().unwrap(), &self.settings).unwrap();
        let root = self.settings.dir.join("cache/roots").join(inputs.root);
        fs::create_dir_all(root.join("modules")).unwrap();
        fs::write(root.join("rootfs.squashfs"), b"hsqs and more").unwrap();
        fs::write(root.join("vmlinux"), program("kernel")).unwrap();
        fs::write(root.join("modules/virtio_blk.ko"), b"module").unwrap();
        let text = serde_json::json!({
            "rootfs": artefact_of(&root.join("rootfs.squashfs"), "rootfs.squashfs").unwrap(),
            "kernel": artefact_of(&root.join("vmlinux"), "vmlinux").unwrap(),
            "kernel_version": "6.12",
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
        build(&self.settings, Arc::new(|_| ()), async |_| Ok(())).await
    }

    fn current(&self) -> Result<Image, ImageError> {
        Image::current(&self.settings.dir)
    }

    /// Names in the images directory, without the image and what every shelf has.
    fn unexpected_names(&self) -> Vec<String> {
        let names =
            fs::read_dir(&self.settings.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.len() != 64 && !["cache", "current", "lock"].contains(&name.as_str())).collect()
    }
}

/// A static program, different for every name.
fn program(name: &str) -> Vec<u8> {
    [elf::tests::program(1).as_slice(), name.as_bytes()].concat()
}

#[tokio::test]
async fn the_first_build_makes_an_image_and_the_same_inputs_make_nothing() {
    let workshop = Workshop::new();
    let first = workshop.build().await.unwrap();
    assert!(!first.unchanged);
    first.image.verify().unwrap();
    assert_eq!(first.image.manifest.clis["codex"], "2");
    assert_eq!(workshop.current().unwrap().manifest, first.image.manifest);
    let tested = Mutex::new(false);
    let second = build(&workshop.settings, Arc::new(|_| ()), async |_| {
        *tested.lock().unwrap() = true;
        Ok(())
    });
    let second = second.await.unwrap();
    assert!(second.unchanged && !*tested.lock().unwrap());
    assert_eq!(second.image, first.image);
    assert!(workshop.unexpected_names().is_empty());
}

#[tokio::test]
async fn a_changed_agent_is_another_image_on_the_same_root() {
    let workshop = Workshop::new();
    let first = workshop.build().await.unwrap().image;
    workshop.set_agent("another agent");
    let second = workshop.build().await.unwrap().image;
    assert_ne!(first.manifest.hash, second.manifest.hash);
    assert_ne!(first.manifest.agent_sha256, second.manifest.agent_sha256);
    assert_eq!(first.manifest.rootfs, second.manifest.rootfs);
    let archive = fs::read(second.initramfs()).unwrap();
    assert!(archive.windows(13).any(|window| window == b"another agent"));
    assert_eq!(workshop.current().unwrap().manifest.hash, second.manifest.hash);
    // Back again: the old image is still there and becomes the current one.
    workshop.set_agent("agent");
    assert_eq!(workshop.build().await.unwrap().image.manifest.hash, first.manifest.hash);
    assert_eq!(workshop.current().unwrap().manifest.hash, first.manifest.hash);
}

#[tokio::test]
async fn an_image_that_fails_its_self_test_is_removed_and_the_current_one_stays() {
    let workshop = Workshop::new();
    let good = workshop.build().await.unwrap().image;
    workshop.set_agent("an agent that does not boot");
    let failed = build(&workshop.settings, Arc::new(|_| ()), async |image| {
        assert!(image.initramfs().is_file());
        Err("the guest said nothing".into())
    });
    let error = failed.await.unwrap_err();
    assert!(matches!(&error, BuildError::SelfTest(cause) if cause.to_string() == "the guest said nothing"), "{error}");
    assert_eq!(workshop.current().unwrap().manifest.hash, good.manifest.hash);
    let images =
        fs::read_dir(&workshop.settings.dir).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().len() == 64);
    assert_eq!(images.count(), 1);
    assert!(workshop.unexpected_names().is_empty());
}

#[tokio::test]
async fn a_second_build_at_the_same_time_is_refused_by_name() {
    let workshop = Workshop::new();
    let inner = Mutex::new(None);
    let outer = build(&workshop.settings, Arc::new(|_| ()), async |_| {
        *inner.lock().unwrap() = Some(workshop.build().await);
        Ok(())
    });
    outer.await.unwrap();
    let refused = inner.into_inner().unwrap().unwrap().unwrap_err();
    let own = std::process::id();
    assert!(matches!(refused, BuildError::Busy { pid: Some(pid), .. } if pid == own), "{refused}");
}

#[tokio::test]
async fn a_binary_that_the_guest_cannot_start_is_refused_before_anything_is_done() {
    let workshop = Workshop::new();
    fs::write(&workshop.settings.agent_binary, elf::tests::program(3)).unwrap();
    assert!(workshop.build().await.unwrap_err().to_string().contains("dynamically"));
    fs::remove_file(&workshop.settings.demo_binary).unwrap();
    workshop.set_agent("agent");
    let error = workshop.build().await.unwrap_err();
    assert!(matches!(&error, BuildError::Binary { path, .. } if path.ends_with("demo")), "{error}");
    assert!(workshop.current().is_err());
}

#[tokio::test]
async fn what_a_crashed_build_left_is_removed_by_the_next() {
    let workshop = Workshop::new();
    let leftover = workshop.settings.dir.join("tmp-0123456789abcdef");
    fs::create_dir_all(leftover.join("root")).unwrap();
    let unpacked = leftovers::packages_dir(&leftover, &workshop.settings.scratch_dir).unwrap();
    fs::create_dir(unpacked.join("mmdebstrap.x")).unwrap();
    // A note that names something else is not followed.
    let innocent = workshop.dir.path().join("innocent");
    fs::create_dir(&innocent).unwrap();
    let forged = workshop.settings.dir.join("tmp-fedcba9876543210");
    fs::create_dir(&forged).unwrap();
    fs::write(forged.join("packages-dir"), innocent.to_str().unwrap()).unwrap();
    workshop.build().await.unwrap();
    assert!(!leftover.exists() && !unpacked.exists() && !forged.exists());
    assert!(innocent.exists());
    assert!(workshop.unexpected_names().is_empty());
}

#[tokio::test]
async fn images_beyond_those_to_keep_are_removed() {
    let mut workshop = Workshop::new();
    workshop.settings.images_kept = 2;
    let mut removed = 0;
    for agent in ["a", "b", "c", "d"] {
        workshop.set_agent(agent);
        removed += workshop.build().await.unwrap().removed;
    }
    assert_eq!(removed, 2);
    let agent = elf::tests::program(1).len();
    assert!(workshop.current().unwrap().manifest.initramfs.bytes > agent as u64);
}

#[tokio::test]
async fn progress_names_every_step_that_is_done() {
    let workshop = Workshop::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let note: OnProgress = Arc::new(move |progress: BuildProgress| log.lock().unwrap().push(progress));
    build(&workshop.settings, note, async |_| Ok(())).await.unwrap();
    let mut steps: Vec<BuildStep> = told.lock().unwrap().iter().map(|progress| progress.step).collect();
    steps.dedup();
    assert_eq!(
        steps,
        [BuildStep::Check, BuildStep::RootFs, BuildStep::Assemble, BuildStep::SelfTest, BuildStep::Publish]
    );
}

#[test]
fn what_is_missing_is_told_in_one_message_with_one_line_to_get_it() {
    let missing = |what: &str, package| MissingRequirement {
        what: what.into(),
        why: "why".into(),
        remedy: format!("get {what}"),
        package,
    };
    let error =
        BuildError::Missing(vec![missing("npm", Some("npm")), missing("xz", Some("xz-utils")), missing("ids", None)]);
    let text = error.to_string();
    for part in ["npm: why", "ids: why", "sudo apt-get install --no-install-recommends npm xz-utils", "get ids"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("get npm"), "{text}");
}
