//! Properties of the parsers of what machines and keepers send, for the fuzz targets: each function panics where one does not hold.

#![allow(clippy::expect_used, reason = "a target panics to report a fault")]

use crate::{
    channel::resync::EchoScanner,
    keeper::control::{ControlConnection, KeeperCommand, LINE_BYTES_MAX, Report},
    qmp::QmpClient,
    receipt::Receipt,
};
use anteroom_wire::channel::{NONCE_BYTES, format_echo_line};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, io::Write, net::Shutdown, os::unix::net::UnixStream};

/// Less than the buffer of a socket, so that one thread can write and then read.
const SOCKET_BYTES_MAX: usize = 32 * 1024;
/// The longest error text that may result.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// What a machine sends before the controller has found its echo: the first byte selects where the rest is cut in two.
pub fn check_channel_echo(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let (head, tail) = data.split_at(data.len() * usize::from(first) / 256);
    let hex = "0f".repeat(NONCE_BYTES);
    let line = format_echo_line(&hex);
    let has_echo = |data: &[u8]| data.windows(line.len()).any(|window| window == line.as_bytes());
    let finds = |pieces: [&[u8]; 2]| {
        let mut scanner = EchoScanner::default();
        pieces.into_iter().any(|piece| scanner.finds_echo(piece, Some(&hex)))
    };
    assert_eq!(finds([head, tail]), has_echo(data), "where the bytes are cut changes the result");
    assert!(finds([data, line.as_bytes()]), "an echo is found whatever precedes it");
}

/// A line between keeper and controller, a receipt, and what QEMU sends to its keeper.
pub fn check_keeper_messages(data: &[u8]) {
    require_round_trip::<Report>(data);
    require_round_trip::<KeeperCommand>(data);
    if let Some(receipt) = require_round_trip::<Receipt>(data) {
        let reason = receipt.exit_reason();
        assert_eq!(receipt.exit_reason(), reason);
    }
    let data = &data[..data.len().min(SOCKET_BYTES_MAX.min(LINE_BYTES_MAX))];
    let lines = data.split(|&byte| byte == b'\n').count();
    let (ours, _peer) = socket_with(data);
    let mut connection = ControlConnection::new(ours).expect("the socket is open");
    if let Ok(commands) = connection.read_commands() {
        assert!(commands.len() < lines);
    }
    let (ours, _peer) = socket_with(data);
    let mut client = QmpClient::new(ours).expect("the socket is open");
    match client.read_messages() {
        Ok(messages) => assert!(messages.len() < lines),
        Err(error) => assert!(error.to_string().len() <= ERROR_BYTES_MAX, "{} bytes", error.to_string().len()),
    }
}

/// A socket, and its peer, which has sent these bytes and no more.
fn socket_with(data: &[u8]) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets can be made");
    theirs.write_all(data).expect("the buffer is large enough");
    theirs.shutdown(Shutdown::Write).expect("the socket is open");
    (ours, theirs)
}

fn require_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("and read again"), value);
    Some(value)
}
