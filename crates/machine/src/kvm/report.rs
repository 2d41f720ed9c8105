//! The result of a probe and its sentences.

use super::{device::DeviceFailure, tiny_guest::TinyGuestFailure};
use crate::qemu::Accelerator;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What KVM can do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum KvmReport {
    /// `/dev/kvm` cannot be opened.
    DeviceFails {
        /// The cause.
        cause: DeviceFailure,
    },
    /// It can be opened; the tiny guest does not run.
    TinyGuestFails {
        /// The cause.
        cause: TinyGuestFailure,
    },
    /// The tiny guest runs; Linux was not booted.
    LinuxNotTried {
        /// What is missing for a boot.
        why: LinuxNotTried,
    },
    /// The tiny guest runs; Linux does not boot.
    LinuxFails {
        /// The failure of each CPU model.
        why: String,
    },
    /// Linux boots.
    BootsLinux {
        /// The CPU model with which it booted, QEMU's name.
        cpu: String,
    },
}

/// What is missing for a boot of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinuxNotTried {
    /// An image.
    NoImage,
    /// QEMU.
    NoQemu,
}

impl fmt::Display for LinuxNotTried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoImage => "there is no image; run `anteroom image build`",
            Self::NoQemu => "qemu-system-x86_64 is not installed",
        })
    }
}

/// A step of the probe; each needs the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmStep {
    /// `/dev/kvm` is opened.
    Device,
    /// A tiny guest runs.
    TinyGuest,
    /// Linux boots.
    Linux,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// It succeeded.
    Ok,
    /// It failed, for this cause.
    Failed(String),
    /// It was not tried, for this cause.
    NotTried(String),
}

impl KvmReport {
    /// The accelerator of QEMU: KVM where it boots Linux, else emulation.
    pub fn qemu_accelerator(&self) -> Accelerator {
        match self {
            Self::BootsLinux { cpu } => Accelerator::Kvm { cpu: cpu.clone() },
            Self::DeviceFails { .. }
            | Self::TinyGuestFails { .. }
            | Self::LinuxNotTried { .. }
            | Self::LinuxFails { .. } => Accelerator::Emulation,
        }
    }

    /// The result of each step.
    pub fn steps(&self) -> [(KvmStep, StepResult); 3] {
        let not_tried = |needs: &str| StepResult::NotTried(format!("{needs} first"));
        let (device, tiny_guest, linux) = match self {
            Self::DeviceFails { cause } => {
                let needs = "/dev/kvm must be usable";
                (StepResult::Failed(cause.to_string()), not_tried(needs), not_tried(needs))
            }
            Self::TinyGuestFails { cause } => {
                let failed = format!(
                    "a tiny guest does not run on KVM: {cause}; if this host is a virtual machine, its hypervisor must support \
                     nested virtualization"
                );
                (StepResult::Ok, StepResult::Failed(failed), not_tried("a tiny guest must run"))
            }
            Self::LinuxNotTried { why } => (StepResult::Ok, StepResult::Ok, StepResult::NotTried(why.to_string())),
            Self::LinuxFails { why } => {
                (StepResult::Ok, StepResult::Ok, StepResult::Failed(format!("Linux does not boot on KVM: {why}")))
            }
            Self::BootsLinux { .. } => (StepResult::Ok, StepResult::Ok, StepResult::Ok),
        };
        [(KvmStep::Device, device), (KvmStep::TinyGuest, tiny_guest), (KvmStep::Linux, linux)]
    }
}

/// A main clause without causes, which [`KvmReport::steps`] has.
impl fmt::Display for KvmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceFails { cause: DeviceFailure::Absent } => f.write_str("there is no KVM"),
            Self::DeviceFails { cause: DeviceFailure::NotPermitted { .. } } => {
                f.write_str("KVM is present, but this user may not use it")
            }
            Self::DeviceFails { cause: DeviceFailure::CannotOpen { .. } } => {
                f.write_str("KVM is present, but cannot be opened")
            }
            Self::TinyGuestFails { .. } => f.write_str("KVM is present, but does not run a tiny guest"),
            Self::LinuxNotTried { why } => {
                write!(f, "KVM is present and runs a tiny guest; whether it boots Linux was not tried ({why})")
            }
            Self::LinuxFails { .. } => f.write_str("KVM is present and runs a tiny guest, but does not boot Linux"),
            Self::BootsLinux { .. } => f.write_str("KVM is present, runs a tiny guest and boots Linux"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kvm::GroupAccess;

    /// One report for each combination of results.
    pub(crate) fn all_reports() -> Vec<KvmReport> {
        let user = "eve".to_owned();
        vec![
            KvmReport::DeviceFails { cause: DeviceFailure::Absent },
            KvmReport::DeviceFails {
                cause: DeviceFailure::NotPermitted {
                    user: user.clone(),
                    access: GroupAccess::Granted { group: "kvm".into(), user },
                },
            },
            KvmReport::DeviceFails { cause: DeviceFailure::CannotOpen { error: "busy".into() } },
            KvmReport::TinyGuestFails { cause: TinyGuestFailure::Timeout { ms: 5_000 } },
            KvmReport::LinuxNotTried { why: LinuxNotTried::NoImage },
            KvmReport::LinuxNotTried { why: LinuxNotTried::NoQemu },
            KvmReport::LinuxFails { why: "-cpu host: internal error".into() },
            KvmReport::BootsLinux { cpu: "host".into() },
        ]
    }

    #[test]
    fn sentence_of_each_report_names_what_works_and_what_does_not() {
        let sentences: Vec<String> = all_reports().iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            [
                "there is no KVM",
                "KVM is present, but this user may not use it",
                "KVM is present, but cannot be opened",
                "KVM is present, but does not run a tiny guest",
                "KVM is present and runs a tiny guest; whether it boots Linux was not tried (there is no image; run `anteroom image build`)",
                "KVM is present and runs a tiny guest; whether it boots Linux was not tried (qemu-system-x86_64 is not installed)",
                "KVM is present and runs a tiny guest, but does not boot Linux",
                "KVM is present, runs a tiny guest and boots Linux",
            ]
        );
    }

    #[test]
    fn step_after_a_failed_one_is_not_tried_and_every_failure_has_its_cause() {
        for report in all_reports() {
            let results = report.steps().map(|(_, result)| result);
            let failed = results.iter().position(|result| *result != StepResult::Ok).unwrap_or(results.len());
            assert!(
                results.iter().skip(failed + 1).all(|result| matches!(result, StepResult::NotTried(_))),
                "{report:?}: {results:?}"
            );
            assert_eq!(failed == results.len(), matches!(report, KvmReport::BootsLinux { .. }), "{report:?}");
        }
        let linux = &all_reports()[6].steps()[2];
        assert_eq!(
            *linux,
            (KvmStep::Linux, StepResult::Failed("Linux does not boot on KVM: -cpu host: internal error".into()))
        );
    }

    #[test]
    fn qemu_uses_kvm_only_where_linux_boots_on_it() {
        for report in all_reports() {
            let uses_kvm = report.qemu_accelerator() != Accelerator::Emulation;
            assert_eq!(uses_kvm, matches!(report, KvmReport::BootsLinux { .. }), "{report:?}");
        }
    }

    #[test]
    fn cached_report_is_read_unchanged() {
        for report in all_reports() {
            let text = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<KvmReport>(&text).unwrap(), report, "{text}");
        }
    }
}
