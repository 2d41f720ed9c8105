//! The sum of what isolates machines from the host.

use crate::{
    confinement::{Layer, LayerStatus},
    kind::MachineKind,
};
use anteroom_wire::api::{Isolation, IsolationLevel, LayerOff};
use std::collections::BTreeMap;

/// Sums up what isolates machines of `kind` from the host: KVM and the layers of confinement.
pub fn sum_isolation(kind: &MachineKind, layers: &BTreeMap<Layer, LayerStatus>) -> Isolation {
    let layers_off: Vec<LayerOff> = layers
        .iter()
        .filter_map(|(layer, status)| match status {
            LayerStatus::On => None,
            LayerStatus::Off { why, remedy } => {
                Some(LayerOff { name: layer.name().to_owned(), why: why.clone(), remedy: remedy.clone() })
            }
        })
        .collect();
    let names: Vec<&str> = layers_off.iter().map(|layer| layer.name.as_str()).collect();
    let off = format!("off: {}", names.join(", "));
    let (level, detail) = match (kind.is_emulated(), layers_off.is_empty()) {
        (true, true) => {
            (IsolationLevel::Emulated, "emulated: not a security boundary; all layers of confinement are on".to_owned())
        }
        (true, false) => (
            IsolationLevel::Emulated,
            format!("emulated: not a security boundary; layers of confinement that are {off}"),
        ),
        (false, true) => (IsolationLevel::Strong, format!("strong: {kind}, and all layers of confinement are on")),
        (false, false) => (IsolationLevel::Partial, format!("partial: {kind}; layers of confinement that are {off}")),
    };
    Isolation { level, detail, layers_off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Accelerator;

    const EMULATED: MachineKind = MachineKind::Qemu { accelerator: Accelerator::Emulation };

    fn with_kvm() -> MachineKind {
        MachineKind::Qemu { accelerator: Accelerator::Kvm { cpu: "host".into() } }
    }

    fn layers(off: &[Layer]) -> BTreeMap<Layer, LayerStatus> {
        let status = |layer: &Layer| match off.contains(layer) {
            true => LayerStatus::Off { why: format!("why {}", layer.name()), remedy: format!("set {}", layer.name()) },
            false => LayerStatus::On,
        };
        Layer::ALL.iter().map(|layer| (*layer, status(layer))).collect()
    }

    #[test]
    fn kvm_and_all_layers_are_strong() {
        let isolation = sum_isolation(&with_kvm(), &layers(&[]));
        assert_eq!(isolation.level, IsolationLevel::Strong);
        assert_eq!(isolation.detail, "strong: QEMU with KVM, and all layers of confinement are on");
        assert!(isolation.layers_off.is_empty());
    }

    #[test]
    fn each_layer_that_is_off_makes_it_partial_and_is_named() {
        for layer in Layer::ALL {
            let isolation = sum_isolation(&with_kvm(), &layers(&[layer]));
            assert_eq!(isolation.level, IsolationLevel::Partial, "{layer:?}");
            assert!(isolation.detail.ends_with(&format!("off: {}", layer.name())), "{}", isolation.detail);
            let off = &isolation.layers_off[..];
            assert!(
                matches!(off, [one] if one.why == format!("why {}", layer.name()) && one.remedy == format!("set {}", layer.name())),
                "{off:?}"
            );
        }
        let two = sum_isolation(&with_kvm(), &layers(&[Layer::Landlock, Layer::User]));
        assert_eq!(two.detail, "partial: QEMU with KVM; layers of confinement that are off: user, Landlock");
    }

    #[test]
    fn emulation_is_no_security_boundary_whatever_the_layers_are() {
        for off in [&[][..], &[Layer::Landlock], &Layer::ALL] {
            let isolation = sum_isolation(&EMULATED, &layers(off));
            assert_eq!(isolation.level, IsolationLevel::Emulated, "{off:?}");
            assert!(isolation.detail.starts_with("emulated: not a security boundary"), "{}", isolation.detail);
            assert_eq!(isolation.layers_off.len(), off.len());
        }
    }
}
