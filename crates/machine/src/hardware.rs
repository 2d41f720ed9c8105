//! The virtual hardware of a machine.

/// A machine's virtual hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hardware {
    /// RAM, MiB: 256 to 65536.
    pub memory_mib: u32,
    /// Virtual processors: 1 to 16.
    pub cpus: u32,
    /// QEMU's cache of translated code (TCG) under emulation, MiB: 8 to 1024. For clones; a template boots with a large one.
    pub tcg_cache_mib: u32,
}

impl Default for Hardware {
    fn default() -> Self {
        Self { memory_mib: 1536, cpus: 2, tcg_cache_mib: 16 }
    }
}

/// A value of the hardware that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {least} to {most}, not {found}")]
pub struct HardwareOutOfRange {
    what: &'static str,
    least: u32,
    most: u32,
    found: u32,
}

impl Hardware {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), HardwareOutOfRange> {
        let ranges = [
            ("memory_mib", 256, 65_536, self.memory_mib),
            ("cpus", 1, 16, self.cpus),
            ("tcg_cache_mib", 8, 1_024, self.tcg_cache_mib),
        ];
        for (what, least, most, found) in ranges {
            if !(least..=most).contains(&found) {
                return Err(HardwareOutOfRange { what, least, most, found });
            }
        }
        Ok(())
    }
}
