//! Applies the claim, which binds a clone to a session. The order matters: a clone shares the template's random state and clock, so no
//! program may start before both are replaced.

use super::{
    active_claim::{ActiveClaim, read_baselines},
    change_method::install_settings,
    extra_authorities,
};
use crate::{agent::Agent, api_error::ApiError, desktop::display, log, use_credential};
use anteroom_wire::{
    Problem,
    agent::{Claim, ClaimResult},
    provider::StoragePolicy,
};
use anyhow::Context;
use rustix::{
    fs::{Mode, OFlags},
    ioctl::{self, NoArg, Opcode, Setter},
    time::{ClockId, Timespec},
};
use std::{collections::BTreeMap, time::SystemTime};

/// The least entropy that a claim must contain, bytes.
const ENTROPY_BYTES_MIN: usize = 32;
/// The most entropy that is credited to the kernel, bytes.
const ENTROPY_BYTES_MAX: usize = 512;

/// Applies `claim`. A claim by the same session and generation that was applied before succeeds and changes nothing.
///
/// # Errors
/// The machine is claimed for another session, the claim is invalid, or it cannot be applied.
pub(crate) async fn apply_claim(agent: &Agent, claim: Claim) -> Result<ClaimResult, ApiError> {
    let _applying = agent.claim.applying.lock().await;
    if let Some(active) = agent.claim.current() {
        if active.claimed_by == claim.claimed_by {
            return Ok(ClaimResult { cli_pid: *agent.cli_pid.borrow() });
        }
        let error = ApiError::new(Problem::NotOwner, "the machine is claimed for another session or generation");
        return Err(error.with_http_status(409));
    }
    let errors = validate(&claim);
    if !errors.is_empty() {
        return Err(ApiError::new(Problem::Malformed, errors.join("; ")));
    }
    let mut active = ActiveClaim::new(claim, BTreeMap::new(), SystemTime::UNIX_EPOCH)?;
    apply(agent, &active.claim).await.map_err(ApiError::internal)?;
    // The files are installed; this copy of the secrets is no longer needed.
    if let Some(used) = &mut active.claim.use_credential {
        used.files.clear();
    }
    active.baselines = read_baselines(&agent.environment, &active.claim);
    active.claimed_at = SystemTime::now();
    log::write_line(&format!(
        "claimed: session {} generation {}",
        active.claimed_by.session, active.claimed_by.generation
    ));
    agent.events.start_recording();
    // From here on the pane starts the tool, and the watches begin.
    agent.claim.set(active);
    Ok(ClaimResult { cli_pid: *agent.cli_pid.borrow() })
}

fn validate(claim: &Claim) -> Vec<String> {
    let mut errors = claim.provider.validation_errors();
    let hex = claim.guest_machine_id.len() == 32
        && claim.guest_machine_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let size = (320..=3840).contains(&claim.geometry.width) && (240..=2160).contains(&claim.geometry.height);
    for (valid, error) in [
        (claim.entropy.expose().len() >= ENTROPY_BYTES_MIN, "entropy has less than 32 bytes"),
        (hex, "guest_machine_id is not 32 lower-case hex digits"),
        (size, "geometry is not within 320x240 and 3840x2160"),
        (claim.provider.lanes.len() <= 8, "lanes has more than 8 entries"),
        (claim.provider.storage_policy != StoragePolicy::Forbidden, "policy is forbidden: nothing may be started"),
    ] {
        if !valid {
            errors.push(error.to_owned());
        }
    }
    errors.extend(use_credential::validation_errors(claim));
    errors
}

async fn apply(agent: &Agent, claim: &Claim) -> anyhow::Result<()> {
    if agent.environment.is_machine() {
        add_entropy(claim.entropy.expose()).context("entropy")?;
        set_clock(claim.now_unix_ns).context("clock")?;
        std::fs::write("/etc/machine-id", format!("{}\n", claim.guest_machine_id)).context("/etc/machine-id")?;
        display::resize_display(&agent.environment, claim.geometry).await;
    }
    extra_authorities::install(&agent.environment, &claim.extra_ca_pem).context("certificate authorities")?;
    if let Some(browser) = agent.browser.as_ref().filter(|_| !claim.extra_ca_pem.is_empty()) {
        browser.read_authorities().context("certificate authorities of the browser")?;
    }
    install_settings(&agent.environment, &claim.provider).context("settings file")?;
    if let Some(used) = &claim.use_credential {
        use_credential::install_files(&agent.environment, used).context("credential file")?;
    }
    Ok(())
}

/// `struct rand_pool_info` of random(4).
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: i32,
    size: i32,
    bytes: [u8; ENTROPY_BYTES_MAX],
}

/// `RNDADDENTROPY`, `_IOW('R', 3, int[2])`.
const ADD_ENTROPY: Opcode = 0x4008_5203;
/// `RNDRESEEDCRNG`, `_IO('R', 7)`.
const RESEED: Opcode = 0x5207;

/// Credits `entropy` to the kernel and forces its use (random(4)).
fn add_entropy(entropy: &[u8]) -> anyhow::Result<()> {
    let size = entropy.len().min(ENTROPY_BYTES_MAX);
    let mut info = RandPoolInfo {
        entropy_bits: i32::try_from(size * 8)?,
        size: i32::try_from(size)?,
        bytes: [0; ENTROPY_BYTES_MAX],
    };
    info.bytes[..size].copy_from_slice(&entropy[..size]);
    let random = rustix::fs::open("/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: the kernel reads the two integers and `size` bytes after them, all within `info`.
    #[expect(unsafe_code, reason = "an ioctl that rustix does not wrap")]
    unsafe {
        ioctl::ioctl(&random, Setter::<ADD_ENTROPY, RandPoolInfo>::new(info))?;
    }
    // SAFETY: takes no argument.
    #[expect(unsafe_code, reason = "an ioctl that rustix does not wrap")]
    unsafe {
        ioctl::ioctl(&random, NoArg::<RESEED>::new())?;
    }
    Ok(())
}

fn set_clock(unix_ns: u64) -> anyhow::Result<()> {
    const NS: u64 = 1_000_000_000;
    let now = Timespec { tv_sec: i64::try_from(unix_ns / NS)?, tv_nsec: i64::try_from(unix_ns % NS)? };
    Ok(rustix::time::clock_settime(ClockId::Realtime, now)?)
}
