use super::*;
use std::process::{Child, Command, Stdio};
use tokio::net::UnixListener;

/// Connects to the socket in its argument and waits until its standard input closes.
const CONNECT: &str =
    "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un($ARGV[0])) or die; <STDIN>";

/// A process that has connected to a socket of this process.
struct Connected {
    child: Child,
    stream: UnixStream,
    _dir: tempfile::TempDir,
}

impl Connected {
    /// Starts the process by this launcher: a program and its arguments; empty: directly.
    async fn start_by(launcher: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut words = launcher.iter().copied().chain(["perl", "-e", CONNECT]);
        #[allow(clippy::disallowed_methods, reason = "a test's own child")]
        let mut command = Command::new(words.next().unwrap());
        let child = command.args(words).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        let accepted = tokio::time::timeout(std::time::Duration::from_secs(60), listener.accept()).await;
        let (stream, _) = accepted.expect("the process connects in time").unwrap();
        Self { child, stream, _dir: dir }
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.end();
    }
}

fn this_process() -> ProcessId {
    ProcessId::from_pid(std::process::id()).unwrap()
}

#[tokio::test]
async fn process_outside_of_machines_is_the_operator() {
    let connected = Connected::start_by(&[]).await;
    let peer = check_peer(&connected.stream, &[]).unwrap();
    assert_eq!(peer, Peer::Local { uid: geteuid().as_raw() });
    assert!(peer.is_operator());
}

#[tokio::test]
async fn child_and_grandchild_of_a_keeper_are_refused() {
    let keeper = this_process();
    // A process of a machine may give itself a name that is not UTF-8.
    let renamed = "printf '\\377' > /proc/$$/comm; \"$@\"; true";
    for launcher in [&[][..], &["sh", "-c", "\"$@\"; true", "sh"], &["sh", "-c", renamed, "sh"]] {
        let connected = Connected::start_by(launcher).await;
        let refusal = check_peer(&connected.stream, &[keeper]).unwrap_err();
        assert!(matches!(refusal, PeerRefusal::MachineProcess { ancestor, .. } if ancestor == keeper.pid), "{refusal}");
        let other = ProcessId { start_ticks: keeper.start_ticks + 1, ..keeper };
        assert!(check_peer(&connected.stream, &[other]).is_ok(), "another process that had the keeper's id");
    }
}

#[tokio::test]
async fn process_in_another_user_or_pid_namespace_is_refused() {
    for (option, name) in [("--user", "user"), ("--pid", "pid")] {
        // A process of an ordinary user may make other namespaces only together with a user namespace.
        let launcher = ["unshare", "--map-root-user", option, "--fork"];
        let launcher =
            if option == "--pid" && geteuid().is_root() { &["unshare", "--pid", "--fork"][..] } else { &launcher };
        let connected = Connected::start_by(launcher).await;
        let refusal = check_peer(&connected.stream, &[]).unwrap_err();
        let is_named = matches!(refusal, PeerRefusal::OtherNamespace { namespace, .. } if namespace == name);
        assert!(is_named, "{option}: {refusal}");
    }
}

#[tokio::test]
async fn process_that_has_ended_is_refused() {
    let mut connected = Connected::start_by(&[]).await;
    connected.end();
    assert!(matches!(check_peer(&connected.stream, &[]), Err(PeerRefusal::Ended { .. })));
}
