//! Gives memory back to the kernel that the allocator keeps after a burst of requests.

use std::{fs, time::Duration};
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(2);
/// The interval while what has grown is in use.
const INTERVAL_IN_USE: Duration = Duration::from_secs(8);
/// Less growth of the resident memory is not worth a search for free pages, bytes.
const GROWTH_BYTES_MIN: u64 = 2 << 20;

/// Checks the resident memory until the server stops.
pub(crate) async fn release_free_memory(stop: CancellationToken) {
    let (mut lowest, mut interval) = (u64::MAX, INTERVAL);
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        let mut resident = resident_bytes();
        interval = INTERVAL;
        if resident > lowest.saturating_add(GROWTH_BYTES_MIN) {
            // Not on a thread that serves requests: it holds the allocator's locks while it searches.
            let _ = tokio::task::spawn_blocking(release).await;
            let grown = std::mem::replace(&mut resident, resident_bytes());
            if grown.saturating_sub(resident) < GROWTH_BYTES_MIN {
                interval = INTERVAL_IN_USE;
            }
        }
        lowest = lowest.min(resident);
    }
}

/// The resident memory of this process; 0 if it cannot be read.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok().and_then(|statm| statm.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or(0_u64).saturating_mul(rustix::param::page_size() as u64)
}

fn release() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "malloc_trim has no precondition")]
    // SAFETY: it only gives back pages that hold no allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_freed_between_allocations_in_use_is_given_back() {
        let before = resident_bytes();
        let blocks: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 16 * 1024]).collect();
        let kept: Vec<_> = blocks.into_iter().enumerate().filter(|(number, _)| number % 100 == 0).collect();
        release();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes of 64 MiB are still resident; {} blocks are in use", kept.len());
    }
}
