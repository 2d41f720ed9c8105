//! Opens a stream to a port of a machine's agent.

use crate::{
    run_dir::RunDir,
    spec::{AGENT_SERVER_SOCKET, CONTROLLER_SERVER_SOCKET, ChannelTransport, VSOCK_SOCKET},
};
use anteroom_wire::channel::{
    AGENT_SERVER_PORT, AGENT_SERVER_VSOCK_PORT, CONTROLLER_SERVER_PORT, CONTROLLER_SERVER_VSOCK_PORT,
};
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// How long the guest may take to accept a vsock connection, milliseconds. While it does not run, there is no answer.
const ACCEPT_MS_MAX: u64 = 3_000;
/// The longest answer to a vsock connection, bytes: `OK`, a space, a port and a newline.
const ANSWER_BYTES_MAX: usize = 32;

/// A port of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentPort {
    /// The agent is HTTP/2's server.
    AgentServer,
    /// The controller is HTTP/2's server.
    ControllerServer,
}

impl AgentPort {
    /// The name of the channel.
    pub(super) fn channel_name(self) -> &'static str {
        match self {
            Self::AgentServer => AGENT_SERVER_PORT,
            Self::ControllerServer => CONTROLLER_SERVER_PORT,
        }
    }
}

/// Opens a stream to `port` of the machine in `run_dir`.
pub(super) async fn dial(run_dir: &Path, transport: ChannelTransport, port: AgentPort) -> io::Result<UnixStream> {
    let run_dir = RunDir::open(run_dir.to_owned())?;
    match (transport, port) {
        (ChannelTransport::UnixSockets, AgentPort::AgentServer) => run_dir.connect_async(AGENT_SERVER_SOCKET).await,
        (ChannelTransport::UnixSockets, AgentPort::ControllerServer) => {
            run_dir.connect_async(CONTROLLER_SERVER_SOCKET).await
        }
        (ChannelTransport::Vsock, AgentPort::AgentServer) => connect_vsock(&run_dir, AGENT_SERVER_VSOCK_PORT).await,
        (ChannelTransport::Vsock, AgentPort::ControllerServer) => {
            connect_vsock(&run_dir, CONTROLLER_SERVER_VSOCK_PORT).await
        }
    }
}

/// Connects to a vsock port of a Firecracker guest (Firecracker, `docs/vsock.md`, "Host-Initiated Connections"): the first line
/// names the port, and the guest's answer is `OK` with a port of the host. A port on which the guest does not listen closes the
/// connection.
async fn connect_vsock(run_dir: &RunDir, port: u32) -> io::Result<UnixStream> {
    let mut stream = run_dir.connect_async(VSOCK_SOCKET).await?;
    let answered = async {
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte, since what follows the line belongs to the stream.
        while answer.last() != Some(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
            answer.push(stream.read_u8().await.map_err(|error| not_accepted(port, error))?);
        }
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_millis(ACCEPT_MS_MAX), answered).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("the guest does not accept vsock port {port}"))
    })??;
    if answer.starts_with(b"OK ") && answer.ends_with(b"\n") {
        return Ok(stream);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("vsock port {port} is answered by {text:?}")))
}

fn not_accepted(port: u32, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(io::ErrorKind::ConnectionRefused, format!("the guest refuses vsock port {port}"));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Dials the controller's port while a VMM answers with `answer` and then closes.
    async fn dial_with(answer: &'static [u8]) -> (io::Result<UnixStream>, String) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(VSOCK_SOCKET)).unwrap();
        let vmm = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = String::new();
            while !line.ends_with('\n') {
                line.push(char::from(stream.read_u8().await.unwrap()));
            }
            stream.write_all(answer).await.unwrap();
            line
        });
        let dialled = dial(dir.path(), ChannelTransport::Vsock, AgentPort::ControllerServer).await;
        (dialled, vmm.await.unwrap())
    }

    #[tokio::test]
    async fn vsock_stream_begins_after_the_guests_answer() {
        let (dialled, request) = dial_with(b"OK 1073741824\nfirst").await;
        assert_eq!(request, "CONNECT 1025\n");
        let mut rest = String::new();
        dialled.unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "first");
    }

    #[tokio::test]
    async fn refused_and_foreign_answers_are_errors_that_name_the_port() {
        for (answer, kind) in [
            (b"".as_slice(), io::ErrorKind::ConnectionRefused),
            (b"OK 10".as_slice(), io::ErrorKind::ConnectionRefused),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), io::ErrorKind::InvalidData),
            (b"OK 111111111111111111111111111111111111\n".as_slice(), io::ErrorKind::InvalidData),
        ] {
            let error = dial_with(answer).await.0.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("port 1025"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guest_that_does_not_run_is_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join(VSOCK_SOCKET)).unwrap();
        let error = dial(dir.path(), ChannelTransport::Vsock, AgentPort::AgentServer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
