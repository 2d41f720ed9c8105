//! Reads the status of a session and the memory of the server while something else happens.

use anteroom_testbed::{DurationStats, processes::read_resource_usage};
use rustix::process::Pid;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Between two reads.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// A read without an answer in this time has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// What was observed.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) reads: DurationStats,
    /// Reads without an answer or with another status than 200.
    pub(crate) failed: usize,
    /// The most memory that was resident, KiB.
    pub(crate) peak_kib: u64,
}

/// Observes until [`Observer::finish`], in a thread of its own: a flood in this process delays its tasks.
pub(crate) struct Observer {
    stop: Sender<()>,
    thread: JoinHandle<Observed>,
}

impl Observer {
    /// `request`: a whole request, with `Connection: close`.
    pub(crate) fn start(server: Pid, address: SocketAddr, request: String) -> Self {
        let (stop, stopped) = mpsc::channel();
        let observe = move || {
            let mut observed = Observed::default();
            while stopped.recv_timeout(READ_INTERVAL).is_err_and(|error| error == mpsc::RecvTimeoutError::Timeout) {
                let start = Instant::now();
                match read_status(address, &request) {
                    Ok(true) => observed.reads.add(start.elapsed()),
                    Ok(false) | Err(_) => observed.failed += 1,
                }
                let resident_kib = read_resource_usage(server).map_or(0, |usage| usage.resident_kib);
                observed.peak_kib = observed.peak_kib.max(resident_kib);
            }
            observed
        };
        Self { stop, thread: thread::spawn(observe) }
    }

    pub(crate) fn finish(self) -> anyhow::Result<Observed> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread that reads panicked"))
    }
}

/// Whether the answer is 200.
fn read_status(address: SocketAddr, request: &str) -> io::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&address, READ_TIMEOUT)?;
    connection.set_read_timeout(Some(READ_TIMEOUT))?;
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
