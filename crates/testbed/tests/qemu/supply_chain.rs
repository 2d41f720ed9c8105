//! The record of what the image contains: its bill of materials and its lock.

use anteroom_machine::image::Image;
use anteroom_testbed::{QEMU_WAIT_TIMEOUT, Qemu, plain_process::built_program};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::{process::Command, time::timeout};

/// What `anteroom image ARGUMENT` prints about the image of the tests.
async fn image_command(argument: &str) -> String {
    let mut command = Command::new(built_program("anteroom").unwrap());
    command.arg("--cache-dir").arg(Qemu::test_cache_dir().unwrap()).args(["image", argument]);
    let output = timeout(QEMU_WAIT_TIMEOUT, command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn current_image() -> Image {
    Image::open_current(&Qemu::test_cache_dir().unwrap().join("images")).unwrap()
}

#[tokio::test]
async fn s31_bill_of_materials_lists_every_package_and_tool_of_the_image_with_its_hash() {
    let manifest = current_image().manifest;
    let bom: Value = serde_json::from_str(&image_command("sbom").await).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&Value::from("CycloneDX"), &Value::from("1.6")));
    assert_eq!(bom["metadata"]["component"]["version"], manifest.hash.as_str());
    let components = bom["components"].as_array().unwrap();
    let text = |component: &Value, key: &str| component[key].as_str().unwrap().to_owned();
    let listed: BTreeMap<_, _> = components.iter().map(|each| (text(each, "name"), text(each, "version"))).collect();
    let expected: BTreeMap<_, _> = manifest.packages.iter().chain(&manifest.clis).collect();
    for (name, version) in &expected {
        assert_eq!(listed.get(*name), Some(*version), "{name}");
    }
    assert_eq!(listed.len(), expected.len() + 1, "and the agent");
    for component in components.iter().filter(|component| component["name"] != "anteroom-demo") {
        assert!(component["hashes"][0]["content"].is_string(), "{component}");
    }
    let references: BTreeSet<_> = components.iter().map(|component| text(component, "bom-ref")).collect();
    assert_eq!(references.len(), components.len(), "each reference is used once");
}

#[tokio::test]
async fn s31_lock_of_the_image_has_each_package_with_its_version_and_hash() {
    let manifest = current_image().manifest;
    let lock = image_command("lock").await;
    let lines: Vec<Vec<&str>> =
        lock.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), manifest.packages.len());
    for line in lines {
        let [name, version, sha256] = line[..] else { panic!("{line:?}") };
        assert_eq!(manifest.packages.get(name).map(String::as_str), Some(version), "{name}");
        assert_eq!(sha256.len(), 64, "{name}");
    }
}
