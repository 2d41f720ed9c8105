//! Ids of machines that this crate starts for itself: a template's machine, a probe.

use anteroom_wire::{MachineId, time::to_unix_ms};
use std::{io, time::SystemTime};

/// The id of a machine that belongs to no session.
pub(crate) fn new_machine_id() -> io::Result<MachineId> {
    let mut random = [0u8; 10];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(MachineId::from_parts(to_unix_ms(SystemTime::now()), random))
}
