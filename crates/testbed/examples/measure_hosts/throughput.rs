//! Bytes a second from the desktop, and the processor time of each process.

use super::{
    desktop::{LONG_BYTES, Wanted, request},
    hosts::Hosts,
};
use anteroom_testbed::{ApiClient, TestServer};
use anyhow::Context;
use rustix::{
    net::{RecvFlags, recv},
    process::{Resource, Rlimit, getpid, setrlimit},
};
use std::{fs, io, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
};

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    /// Megabytes a second.
    pub(super) megabytes: f64,
    /// Processor seconds for 2^30 bytes: of the host that holds the session, of the other one, and of this program, which is the desktop
    /// and the viewer.
    pub(super) processor: [f64; 3],
}

/// How a viewer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Viewer {
    /// It reads the messages of the WebSocket.
    Reads,
    /// The kernel drops what arrives, so that the viewer costs next to nothing.
    Drops,
}

/// Moves [`LONG_BYTES`] to a viewer of this host.
pub(super) async fn transfer(
    hosts: &Hosts,
    api: &ApiClient,
    server: &TestServer,
    wanted: Wanted,
    viewer: Viewer,
) -> anyhow::Result<Transfer> {
    let before = processor_s(hosts)?;
    let began = Instant::now();
    match viewer {
        Viewer::Reads => read_all(hosts, api, wanted).await?,
        Viewer::Drops => drop_all(hosts, api, server, wanted).await?,
    }
    let took = began.elapsed().as_secs_f64();
    let after = processor_s(hosts)?;
    let gibibytes = LONG_BYTES as f64 / f64::from(1 << 30);
    let processor = std::array::from_fn(|at| (after[at] - before[at]) / gibibytes);
    Ok(Transfer { megabytes: LONG_BYTES as f64 / 1_000_000.0 / took, processor })
}

async fn read_all(hosts: &Hosts, api: &ApiClient, wanted: Wanted) -> anyhow::Result<()> {
    let mut viewer = api.connect_desktop(&hosts.session).await?.into_inner();
    viewer.write_all(&request(wanted)).await?;
    viewer.flush().await?;
    let (mut left, mut buffer) = (LONG_BYTES, vec![0; 256 << 10]);
    while left > 0 {
        let read = viewer.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "closed: {:?}", viewer.close_reason());
        left -= read.min(left);
    }
    Ok(())
}

/// A frame from a client, with the mask 0.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(125);
    [&[0x82, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

async fn drop_all(hosts: &Hosts, api: &ApiClient, server: &TestServer, wanted: Wanted) -> anyhow::Result<()> {
    let (address, origin) = (server.address()?, server.base_url()?);
    let ticket = api.create_ticket(&hosts.session, "desktop").await?.ticket;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request_line = format!(
        "GET /api/auth/session/{}/novnc/websock HTTP/1.1\r\nhost: {address}\r\norigin: {origin}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: binary, ticket.{ticket}\r\n\r\n",
        hosts.session
    );
    stream.write_all(request_line.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.context("no answer")?);
    }
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // The greeting, no security, shared, and the request: the desktop reads them in turn.
    for payload in [&b"RFB 003.008\n"[..], &[1], &[1], &request(wanted)] {
        stream.write_all(&frame(payload)).await?;
    }
    let (mut left, mut buffer) = (LONG_BYTES, vec![0; 1 << 20]);
    while left > 0 {
        stream.readable().await?;
        let read = stream.try_io(Interest::READABLE, || {
            recv(&stream, &mut buffer[..], RecvFlags::TRUNC | RecvFlags::DONTWAIT)
                .map(|(_, read)| read)
                .map_err(io::Error::from)
        });
        match read {
            Ok(0) => anyhow::bail!("closed"),
            Ok(read) => left -= read.min(left),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Processor seconds so far of the host that holds the session, of the other one, and of this program.
fn processor_s(hosts: &Hosts) -> anyhow::Result<[f64; 3]> {
    let pids = [hosts.first.server_pid()?, hosts.second.server_pid()?, getpid()];
    let mut seconds = [0.0; 3];
    for (seconds, pid) in seconds.iter_mut().zip(pids) {
        // The first number is nanoseconds on a processor, of one thread.
        for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let nanoseconds: f64 = stat.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
            *seconds += nanoseconds / 1e9;
        }
    }
    Ok(seconds)
}

/// As many open files as the system permits.
pub(super) fn raise_open_files() -> anyhow::Result<()> {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?)
}
