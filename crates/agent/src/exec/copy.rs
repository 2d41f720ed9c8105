//! Copies the bytes of a command until it has exited.

use super::{
    command::{CommandControl, CommandInput, ExecCommand},
    messages::{MessageReader, MessageWriter},
};
use crate::{log, platform::fd_stream::FdStream};
use anteroom_wire::exec::{
    CLOSE, ExecSignal, PAYLOAD_BYTES_MAX, RESIZE, SIGNAL, STDERR, STDIN, STDIN_WINDOW_BYTES, STDOUT, WINDOW,
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
};

/// After the command's exit its output has ended when nothing arrived for this long, milliseconds: a process that it left behind may keep
/// its output open.
const QUIET_MS: u64 = 200;
/// The end of input on a terminal at the beginning of a line: Ctrl-D.
const END_OF_INPUT: &[u8] = b"\x04";
/// Within a line the first Ctrl-D only submits the line.
const END_WITHIN_LINE: &[u8] = b"\x04\x04";

/// Copies the command's bytes until it has exited and its output was sent. Returns its exit code. If the peer is lost, the command is
/// ended.
pub(super) async fn copy_until_exit<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    command: ExecCommand,
    messages: &mut MessageReader<R>,
    writer: &MessageWriter<W>,
) -> i32 {
    let ExecCommand { mut child, control, input, stdout, stderr } = command;
    let (exited, on_exit) = watch::channel(false);
    let (parts, received) = mpsc::unbounded_channel();
    let outstanding = AtomicUsize::new(0);
    let until_exit = async {
        let code = tokio::select! {
            code = child.wait() => code,
            lost = handle_messages(messages, &control, parts, &outstanding) => {
                if let Err(error) = lost {
                    log::write_line(&format!("exec: {error}"));
                }
                control.hang_up(&mut child).await
            }
        };
        exited.send_replace(true);
        code
    };
    let copied = async {
        let output = copy_output(STDOUT, Some(stdout), writer, on_exit.clone());
        let errors = copy_output(STDERR, stderr, writer, on_exit);
        tokio::join!(until_exit, output, errors).0
    };
    tokio::select! {
        code = copied => code,
        never = feed_input(received, input, &outstanding, writer) => match never {},
    }
}

async fn copy_output<W: AsyncWrite + Unpin>(
    channel: u8,
    stream: Option<FdStream>,
    writer: &MessageWriter<W>,
    mut exited: watch::Receiver<bool>,
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; PAYLOAD_BYTES_MAX];
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read(&mut buffer) => read,
            () = wait_quiet(&mut exited) => return,
        };
        match read {
            Ok(count @ 1..) => {
                if writer.send(channel, &buffer[..count]).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}

async fn wait_quiet(exited: &mut watch::Receiver<bool>) {
    // The sender lives as long as the copying.
    let _ = exited.wait_for(|exited| *exited).await;
    tokio::time::sleep(Duration::from_millis(QUIET_MS)).await;
}

/// Handles the messages of the peer until it is lost.
///
/// # Errors
/// The peer violates the protocol.
async fn handle_messages<R: AsyncRead + Unpin>(
    messages: &mut MessageReader<R>,
    control: &CommandControl,
    parts: mpsc::UnboundedSender<Bytes>,
    outstanding: &AtomicUsize,
) -> io::Result<()> {
    let mut parts = Some(parts);
    while let Some((channel, payload)) = messages.next().await? {
        match channel {
            STDIN => {
                let bytes = outstanding.fetch_add(payload.len(), Relaxed) + payload.len();
                if bytes > STDIN_WINDOW_BYTES {
                    return Err(io::Error::other("more input than was granted"));
                }
                if let Some(parts) = &parts {
                    let _ = parts.send(payload);
                }
            }
            CLOSE if *payload == [STDIN] => parts = None,
            RESIZE => control.resize(serde_json::from_slice(&payload)?),
            SIGNAL => {
                let signal = ExecSignal::from_name(&payload);
                control.signal(signal.ok_or_else(|| io::Error::other("no such signal"))?);
            }
            other => return Err(io::Error::other(format!("a message on channel {other}"))),
        }
    }
    Ok(())
}

/// Writes the input as the command reads it, and grants further input.
async fn feed_input<W: AsyncWrite + Unpin>(
    mut parts: mpsc::UnboundedReceiver<Bytes>,
    input: CommandInput,
    outstanding: &AtomicUsize,
    writer: &MessageWriter<W>,
) -> Infallible {
    let (mut input, mut consumed, mut is_line_complete) = (Some(input), 0, true);
    while let Some(part) = parts.recv().await {
        let written = match &mut input {
            Some(CommandInput::Pipe(pipe)) => pipe.write_all(&part).await,
            Some(CommandInput::Terminal(terminal)) => terminal.write_all(&part).await,
            None => Ok(()),
        };
        if written.is_err() {
            // The command reads no more: what follows is discarded.
            input = None;
        }
        is_line_complete = part.last().is_none_or(|last| matches!(last, b'\n' | b'\r'));
        consumed += part.len();
        if parts.is_empty() || consumed >= STDIN_WINDOW_BYTES / 4 {
            outstanding.fetch_sub(consumed, Relaxed);
            let granted = u32::try_from(consumed).unwrap_or(u32::MAX);
            // A peer that is lost is noticed by the reader of its messages.
            let _ = writer.send(WINDOW, &granted.to_be_bytes()).await;
            consumed = 0;
        }
    }
    if let Some(CommandInput::Terminal(mut terminal)) = input.take() {
        let end = if is_line_complete { END_OF_INPUT } else { END_WITHIN_LINE };
        let _ = terminal.write_all(end).await;
        let _keep_open = terminal;
        return std::future::pending().await;
    }
    std::future::pending().await
}
