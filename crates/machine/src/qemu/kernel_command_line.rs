//! The guest kernel's command line. No other code adds parameters to it.

use anteroom_wire::agent::Geometry;
use std::fmt;

/// Boot parameters of the guest's kernel and of the agent in it (its `/init`). Clones have booted already and get none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelCommandLine {
    /// `anteroom.image=`: the hash that the agent reports in its hello.
    pub image_hash: Option<String>,
    /// `anteroom.geometry=`: the desktop's size.
    pub geometry: Option<Geometry>,
    /// `anteroom.probe=1`: print [`super::PROBE_OK_LINE`] on the console and power off.
    pub probe: bool,
    /// Whose guest it is.
    pub vmm: Vmm,
    /// The host's time stamp counter, kHz; only under emulation, where the guest's own calibration hangs on a busy host.
    pub tsc_khz: Option<u64>,
}

/// A virtual machine monitor, as far as its guest differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU with virtio-serial ports.
    #[default]
    Qemu,
    /// Firecracker with vsock ports.
    Firecracker,
}

impl fmt::Display for KernelCommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A kernel that panics resets, and its VMM then exits: an exit with a cause instead of a hang.
        f.write_str("console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on")?;
        f.write_str(match self.vmm {
            // A triple fault, because the other methods enter the firmware of a clone, which has nothing to boot and halts.
            Vmm::Qemu => " reboot=t",
            // There is no PCI bus, and the keyboard controller does nothing but reset.
            Vmm::Firecracker => " reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd anteroom.channel_device=vsock",
        })?;
        if let Some(khz) = self.tsc_khz {
            write!(f, " tsc_early_khz={khz} tsc=reliable clocksource=tsc")?;
        }
        if let Some(hash) = &self.image_hash {
            write!(f, " anteroom.image={hash}")?;
        }
        if let Some(Geometry { width, height }) = self.geometry {
            write!(f, " anteroom.geometry={width}x{height}")?;
        }
        if self.probe { f.write_str(" anteroom.probe=1") } else { Ok(()) }
    }
}

/// Measures the host's time stamp counter against its clock, kHz. Blocks for [`TSC_MS`].
pub(super) fn host_tsc_khz() -> u64 {
    let before = (std::time::Instant::now(), counter());
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(TSC_MS) * 1_000_000 };
    // An interruption does not matter: the elapsed time is measured.
    let _ = rustix::event::poll(&mut [], Some(&pause));
    let ticks = counter().saturating_sub(before.1);
    let nanos = before.0.elapsed().as_nanos().max(1);
    u64::try_from(u128::from(ticks) * 1_000_000 / nanos).unwrap_or(0)
}

/// How long the counter is measured, milliseconds: accurate to about one part in ten thousand.
const TSC_MS: u32 = 50;

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    #[allow(unsafe_code, reason = "reading the counter has no precondition on x86_64 under Linux")]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_on_the_command_line() {
        let line = KernelCommandLine {
            image_hash: Some("ab12".into()),
            geometry: Some(Geometry { width: 1280, height: 800 }),
            probe: true,
            tsc_khz: Some(2_400_000),
            vmm: Vmm::Firecracker,
        }
        .to_string();
        for parameter in [
            "anteroom.image=ab12",
            "anteroom.geometry=1280x800",
            "anteroom.probe=1",
            "tsc_early_khz=2400000",
            "reboot=k",
            "anteroom.channel_device=vsock",
        ] {
            assert!(line.split(' ').any(|found| found == parameter), "{line}");
        }
        assert!(!KernelCommandLine::default().to_string().contains("anteroom"));
    }

    #[test]
    fn measured_time_stamp_counter_frequency_is_plausible() {
        let khz = host_tsc_khz();
        assert!((500_000..10_000_000).contains(&khz), "{khz}");
    }
}
