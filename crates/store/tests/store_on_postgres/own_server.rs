//! A server of PostgreSQL for one test, which can be frozen, stopped and started again.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct OwnServer {
    directory: tempfile::TempDir,
    /// The words before its command.
    prefix: Vec<String>,
    process: Option<Child>,
}

impl OwnServer {
    /// Starts a server with these additional arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_with_prefix(Vec::new(), arguments).await
    }

    /// As [`start`](Self::start), with these words before the command: it runs in another namespace.
    pub(crate) async fn start_with_prefix(prefix: Vec<String>, arguments: &[&str]) -> Self {
        let mut server = Self { directory: tempfile::tempdir().unwrap(), prefix, process: None };
        server.start_again(arguments).await;
        server
    }

    #[expect(clippy::disallowed_methods, reason = "the test ends the process in any case")]
    pub(crate) async fn start_again(&mut self, arguments: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test_postgres.sh");
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let script = script.into_os_string().into_string().unwrap();
        let mut words = self.prefix.iter().chain([&script]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("serve").arg(self.directory.path()).args(arguments);
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let ready = self.directory.path().join("data/postmaster.pid");
        let give_up = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&ready).is_ok_and(|text| text.contains("ready")) {
            let log = fs::read_to_string(self.log()).unwrap();
            assert!(Instant::now() < give_up && self.process.as_mut().unwrap().try_wait().unwrap().is_none(), "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Where its socket and its log are.
    pub(crate) fn directory(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// Sends a signal to all processes of the server.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let main = self.process.as_ref().unwrap().id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
        let children = children.split_whitespace().map(|id| id.parse().unwrap());
        for id in std::iter::once(i32::try_from(main).unwrap()).chain(children) {
            // A connection's process may have ended.
            let _ = kill_process(Pid::from_raw(id).unwrap(), signal);
        }
    }

    /// Stops the server: it ends all connections.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process), Signal::INT).unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal_all(Signal::CONT);
            self.stop();
        }
    }
}
