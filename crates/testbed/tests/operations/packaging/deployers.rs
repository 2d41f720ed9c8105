//! Manifests for Kubernetes and Nomad. Neither is run here.

use super::{command, output, project};
use anteroom_controller::config::Config;
use std::{env, fs, path::PathBuf};

const KUBERNETES_VERSIONS: [&str; 3] = ["1.35.0", "1.36.0", "1.37.0"];

/// The directory with the Python programs: of `ANTEROOM_TEST_PYTHON_TOOLS`, else it is prepared.
async fn python_tools() -> PathBuf {
    match env::var_os("ANTEROOM_TEST_PYTHON_TOOLS") {
        Some(directory) => directory.into(),
        None => PathBuf::from(output(command(project("scripts/python_tools.sh"), &[])).await.trim_end()),
    }
}

#[tokio::test]
async fn kubernetes_manifests_are_valid_for_three_versions() {
    let mut render = command("kubectl", &["kustomize"]);
    render.arg(project("packaging/kubernetes"));
    let documents = output(render).await;
    assert_eq!(documents.matches("\nkind: ").count(), 7, "{documents}");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), &documents).unwrap();
    let validate = python_tools().await.join("kubernetes-validate");
    for version in KUBERNETES_VERSIONS {
        let mut validate = command(&validate, &["--strict", "--kubernetes-version", version]);
        validate.arg(file.path());
        output(validate).await;
    }
    // The pod has KVM without a privilege, and its machines are given time.
    assert_eq!(documents.matches("devices.kubevirt.io/kvm: \"1\"").count(), 2);
    assert!(!documents.contains("privileged: true") && !documents.contains("hostNetwork"));
    let words = documents.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "type: OnDelete",
        "terminationGracePeriodSeconds: 3900",
        "anteroom host drain \"$HOST_NAME\" --deadline 3600",
        "anteroom host join < /run/invitation/invitation",
        "clusterIP: None",
        "port: peers",
        "fieldPath: spec.nodeName",
    ] {
        assert!(words.contains(part), "{part}");
    }
    let template = fs::read_to_string(project("packaging/kubernetes/anteroom.toml")).unwrap();
    is_configuration_of_a_cluster(&template.replace("HOST_NAME", "node-1").replace("HOST_ADDRESS", "10.0.0.7"));
}

fn is_configuration_of_a_cluster(text: &str) {
    let config = Config::parse(text).unwrap();
    assert_eq!(config.cluster.host_name(), "node-1");
    assert!(config.cluster.times().is_ok());
}

#[tokio::test]
async fn nomad_job_can_be_parsed() {
    let mut parse = command(python_tools().await.join("hcl2tojson"), &[]);
    parse.arg(project("packaging/nomad/anteroom.nomad.hcl"));
    let job: serde_json::Value = serde_json::from_str(&output(parse).await).unwrap();
    let job = job["job"][0].as_object().unwrap().values().next().unwrap();
    assert_eq!(job["type"], "\"system\"");
    let task = job["group"][0].as_object().unwrap().values().next().unwrap()["task"][0].clone();
    let task = task.as_object().unwrap().values().next().unwrap();
    assert_eq!((task["driver"].as_str(), task["user"].as_str()), (Some("\"raw_exec\""), Some("\"anteroom\"")));
    let file = fs::read_to_string(project("packaging/nomad/anteroom.nomad.hcl")).unwrap();
    let (_, template) = file.split_once("<<-EOF\n").unwrap();
    let template = template.split_once("EOF").unwrap().0;
    let template = template.replace("{{ env \"node.unique.name\" }}", "node-1");
    is_configuration_of_a_cluster(&template.replace("{{ env \"attr.unique.network.ip-address\" }}", "10.0.0.7"));
}
