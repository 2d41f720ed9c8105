//! The claim: what makes a clone somebody's machine. The order matters: a clone shares the template's random state and
//! clock, so no program may start before both are its own.

use crate::{
    agent::Agent,
    credential::{self, Baseline, Shape},
    display,
    finder::Finder,
    log,
    place::Place,
    tool, use_credential,
};
use anteroom_wire::{
    Problem,
    agent::{Claim, Claimed},
    provider::{Provider, StoragePolicy},
};
use anyhow::Context;
use regex_lite::Regex;
use rustix::{
    fs::{Mode, OFlags},
    ioctl::{self, NoArg, Opcode, Setter},
    time::{ClockId, Timespec},
};
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

/// The least entropy a claim must bring, bytes.
const ENTROPY_BYTES_MIN: usize = 32;
/// The most that is credited, bytes.
const ENTROPY_BYTES_MAX: usize = 512;

/// Whose machine this is, with what was prepared for the sign-in.
pub(crate) struct Owner {
    pub(crate) claim: Claim,
    /// Finds address and code on the screen.
    pub(crate) finder: Finder,
    /// What the status command must print.
    pub(crate) status: Option<Regex>,
    /// What a credential looks like.
    pub(crate) shape: Shape,
    /// What stood at each credential path before.
    pub(crate) before: BTreeMap<String, Baseline>,
    /// The guest's time of the claim.
    pub(crate) claimed_at: SystemTime,
}

impl Owner {
    /// # Errors
    /// [`Problem::Malformed`]: a pattern is none.
    fn new(claim: Claim, before: BTreeMap<String, Baseline>, claimed_at: SystemTime) -> Result<Self, Refusal> {
        let malformed = |error: String| (Problem::Malformed, error, None);
        let finder = Finder::new(&claim.provider.sign_in).map_err(malformed)?;
        let pattern = claim.provider.credential.status_matches.as_deref().map(Regex::new).transpose();
        let status = pattern.map_err(|error| malformed(format!("credential.status_matches: {error}")))?;
        let shape = Shape::new(&claim.provider.credential).map_err(malformed)?;
        Ok(Self { claim, finder, status, shape, before, claimed_at })
    }

    /// The same owner with another method of the same provider. What stood at the credential's paths before the claim stays what it
    /// was.
    ///
    /// # Errors
    /// [`Problem::Malformed`]: another provider, an unsound one, or a machine that uses a stored credential.
    pub(crate) fn with_provider(&self, place: &Place, provider: Provider) -> Result<Self, Refusal> {
        let malformed = |why: String| Err((Problem::Malformed, why, None));
        if self.use_credential.is_some() {
            return malformed("the machine uses a stored credential: it has no sign-in to change".to_owned());
        }
        if provider.id != self.provider.id {
            return malformed(format!("the machine is claimed for {}", self.provider.id));
        }
        let faults = provider.faults();
        if !faults.is_empty() {
            return malformed(faults.join("; "));
        }
        let claim = Claim { provider, ..self.claim.clone() };
        let mut before = baselines(place, &claim);
        before.extend(self.before.clone());
        Self::new(claim, before, self.claimed_at)
    }
}

/// What stands at the credential's paths now.
fn baselines(place: &Place, claim: &Claim) -> BTreeMap<String, Baseline> {
    let rules = &claim.provider.credential;
    let bytes_max = claim.capture.file_bytes_max;
    let paths = rules.paths.iter().chain(&rules.companions);
    paths.map(|path| (path.clone(), credential::baseline(&place.home.join(path), bytes_max))).collect()
}

impl std::ops::Deref for Owner {
    type Target = Claim;
    fn deref(&self) -> &Claim {
        &self.claim
    }
}

/// A claim that is not granted: cause, what is particular, and the HTTP status if it is not the cause's own.
pub(crate) type Refusal = (Problem, String, Option<u16>);

/// Applies `claim`, or finds that it has been applied before. Two at once: the second waits.
pub(crate) async fn claim(agent: &Arc<Agent>, claim: Claim) -> Result<Claimed, Refusal> {
    let _one = agent.claiming.lock().await;
    if let Some(owner) = agent.claim_now() {
        if owner.by == claim.by {
            return Ok(Claimed { cli_pid: *agent.cli_pid.borrow() });
        }
        return Err((
            Problem::NotOwner,
            "the machine is claimed for another session or generation".to_owned(),
            Some(409),
        ));
    }
    let faults = faults(&claim);
    if !faults.is_empty() {
        return Err((Problem::Malformed, faults.join("; "), None));
    }
    let mut owner = Owner::new(claim, BTreeMap::new(), SystemTime::UNIX_EPOCH)?;
    apply(agent, &owner.claim).await.map_err(|error| {
        log::line(&format!("claim: {error:#}"));
        (Problem::Internal, format!("{error:#}"), None)
    })?;
    // The bytes are on their place now; nobody needs this copy.
    if let Some(used) = &mut owner.claim.use_credential {
        used.files.clear();
    }
    owner.before = baselines(&agent.place, &owner.claim);
    owner.claimed_at = SystemTime::now();
    log::line(&format!("claimed: session {} generation {}", owner.by.session, owner.by.generation));
    agent.events.open();
    // From here on the pane starts the tool; the watches begin.
    agent.owner.send_replace(Some(Arc::new(owner)));
    Ok(Claimed { cli_pid: *agent.cli_pid.borrow() })
}

fn faults(claim: &Claim) -> Vec<String> {
    let mut faults = claim.provider.faults();
    let hex = claim.guest_machine_id.len() == 32
        && claim.guest_machine_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let size = (320..=3840).contains(&claim.geometry.width) && (240..=2160).contains(&claim.geometry.height);
    for (good, what) in [
        (claim.entropy.expose().len() >= ENTROPY_BYTES_MIN, "entropy has less than 32 bytes"),
        (hex, "guest_machine_id is not 32 lower-case hex digits"),
        (size, "geometry is not within 320x240 and 3840x2160"),
        (claim.provider.lanes.len() <= 8, "lanes has more than 8 entries"),
        (claim.provider.policy != StoragePolicy::Forbidden, "policy is forbidden: nothing may be started"),
    ] {
        if !good {
            faults.push(what.to_owned());
        }
    }
    faults.extend(use_credential::faults(claim));
    faults
}

async fn apply(agent: &Agent, claim: &Claim) -> anyhow::Result<()> {
    if agent.place.is_machine() {
        add_entropy(claim.entropy.expose()).context("entropy")?;
        set_clock(claim.now_unix_ns).context("clock")?;
        std::fs::write("/etc/machine-id", format!("{}\n", claim.guest_machine_id)).context("/etc/machine-id")?;
        display::resize(agent, claim.geometry).await;
    }
    tool::lay_down_settings(agent, &claim.provider).context("settings file")?;
    if let Some(used) = &claim.use_credential {
        use_credential::lay_down(agent, used).context("credential file")?;
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

/// Credits `entropy` to the kernel and forces it into use (random(4)).
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
