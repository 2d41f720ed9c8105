//! The checks of what isolates machines from the host: each step of KVM, the kind of machines that follows, each layer of
//! confinement, and the sum.

use super::{Check, Finding, check};
use crate::machine_environment::{keeper_program, probe_kvm};
use anteroom_controller::config::Config;
use anteroom_machine::{
    Layer, LayerStatus,
    image::Image,
    kind::{self, FirecrackerFailure, FirecrackerProgram, KindError, MachineKind, RequestedKind},
    kvm::{KvmReport, KvmStep, LinuxNotTried, StepResult},
    probe_layers, sum_isolation,
};
use anteroom_wire::{api::IsolationLevel, chain};
use std::collections::BTreeMap;

/// Where the steps to KVM are described.
const KVM_HELP: &str = "docs/kvm.md describes how to get KVM";

pub(super) async fn check_isolation(config: &Config, image: Option<&Image>) -> Vec<Check> {
    let kvm = match probe_kvm(config, image).await {
        Ok(kvm) => kvm,
        Err(error) => return vec![check("KVM", Finding::Missing(format!("{error:#}")))],
    };
    let mut checks: Vec<Check> = kvm.steps().into_iter().map(|(step, result)| check_step(step, result)).collect();
    let firecracker = kind::find_firecracker().await;
    let chosen = kind::choose(config.machines.kind, config.machines.accelerator, &kvm, &firecracker);
    checks.push(check("firecracker", describe_firecracker(firecracker, config.machines.kind)));
    checks.push(check("kind", describe_kind(config, &chosen, &kvm)));
    let layers = match keeper_program() {
        Ok(program) => probe_layers(&program).await.map_err(|error| chain(&error)),
        Err(error) => Err(format!("{error:#}")),
    };
    match layers {
        Err(error) => checks.push(check("confinement", Finding::Missing(error))),
        Ok(layers) => {
            checks.extend(layers.iter().map(|(layer, status)| check_layer(*layer, status)));
            if let Ok(kind) = &chosen {
                checks.push(check("isolation", describe_isolation(kind, &layers)));
            }
        }
    }
    checks
}

fn check_step(step: KvmStep, result: StepResult) -> Check {
    let (name, works) = match step {
        KvmStep::Device => ("KVM device", "/dev/kvm can be opened"),
        KvmStep::TinyGuest => ("KVM guest", "KVM runs a tiny guest"),
        KvmStep::Linux => ("KVM Linux", "KVM boots Linux"),
    };
    let finding = match result {
        StepResult::Ok => Finding::Ok(works.into()),
        StepResult::Failed(cause) => Finding::Degraded(format!("{cause} ({KVM_HELP})")),
        StepResult::NotTried(cause) => Finding::Unused(format!("not tried: {cause}")),
    };
    check(name, finding)
}

fn describe_firecracker(found: Result<FirecrackerProgram, FirecrackerFailure>, requested: RequestedKind) -> Finding {
    match (found, requested) {
        (Ok(program), _) => Finding::Ok(format!("{} is {}", program.path.display(), program.version)),
        (Err(failure), RequestedKind::Firecracker) => Finding::Missing(failure.to_string()),
        (Err(failure), RequestedKind::Auto | RequestedKind::Qemu) => Finding::Unused(failure.to_string()),
    }
}

fn describe_kind(config: &Config, chosen: &Result<MachineKind, KindError>, kvm: &KvmReport) -> Finding {
    let not_known = match kvm {
        KvmReport::LinuxNotTried { why: LinuxNotTried::NoImage } => true,
        KvmReport::LinuxNotTried { why: LinuxNotTried::NoQemu }
        | KvmReport::DeviceFails { .. }
        | KvmReport::TinyGuestFails { .. }
        | KvmReport::LinuxFails { .. }
        | KvmReport::BootsLinux { .. } => false,
    };
    match chosen {
        _ if not_known => Finding::Unused(format!("{kvm}; the kind of machines is chosen afterwards")),
        Ok(kind) => {
            let text = kind::explain(kind, config.machines.accelerator, kvm);
            if kind.is_emulated() { Finding::Degraded(text) } else { Finding::Ok(text) }
        }
        Err(error) => Finding::Missing(chain(error)),
    }
}

fn check_layer(layer: Layer, status: &LayerStatus) -> Check {
    let name = format!("layer: {}", layer.name());
    let finding = match status {
        LayerStatus::On => Finding::Ok(format!("on: {}", layer.purpose())),
        LayerStatus::Off { why, remedy } => {
            Finding::Degraded(format!("off ({}): {why}; to switch it on: {remedy}", layer.purpose()))
        }
    };
    check(name, finding)
}

fn describe_isolation(kind: &MachineKind, layers: &BTreeMap<Layer, LayerStatus>) -> Finding {
    let isolation = sum_isolation(kind, layers);
    match isolation.level {
        IsolationLevel::Strong => Finding::Ok(isolation.detail),
        IsolationLevel::Partial | IsolationLevel::Emulated => Finding::Degraded(isolation.detail),
    }
}
