//! One client's connection to the desktop.

use super::{
    ServerBehaviour, TICK_MS,
    framebuffer::{Framebuffer, PixelFormat},
};
use anteroom_rfb::{
    client_messages::{self, MessageType},
    handshake::{OFFER_SECURITY_NONE, PROTOCOL_VERSION, SECURITY_NONE, SECURITY_OK, encode_server_init},
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};

/// The longest clipboard text that is read, bytes.
const TEXT_BYTES_MAX: i32 = 1 << 20;
/// Bytes that are sent at once with [`ServerBehaviour::Slow`].
const SLOW_BYTES: usize = 4 * 1024;

/// A message of the client that has an effect here.
enum ClientMessage {
    SetPixelFormat(PixelFormat),
    UpdateRequest { incremental: bool },
    KeyPress(u32),
    ButtonPress(u16, u16),
}

pub(super) async fn serve(
    stream: UnixStream,
    name: String,
    width: u16,
    height: u16,
    mut behaviour: watch::Receiver<ServerBehaviour>,
) {
    let mut closing = behaviour.clone();
    tokio::select! {
        // An error means that the client has closed the connection.
        _ = run(stream, &name, Framebuffer::new(&name, width, height), &mut behaviour) => {}
        _ = closing.wait_for(|behaviour| *behaviour == ServerBehaviour::Closed) => {}
    }
}

async fn run(
    stream: UnixStream,
    name: &str,
    mut framebuffer: Framebuffer,
    behaviour: &mut watch::Receiver<ServerBehaviour>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    wait_while_silent(behaviour).await;
    handshake(&mut reader, &mut writer, name, &framebuffer).await?;
    let (sender, mut messages) = mpsc::channel(64);
    let reading = async move {
        let mut buffer = Vec::new();
        loop {
            if let Some(message) = read_message(&mut reader, &mut buffer).await? {
                // The receiver is dropped together with this future.
                let _ = sender.send(message).await;
            }
        }
    };
    let drawing = async {
        let mut tick = interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // `Some(true)`: an update with all rows is requested; `Some(false)`: one with the changed rows.
        let (mut format, mut requested) = (PixelFormat::default(), None);
        loop {
            let flooding = *behaviour.borrow() == ServerBehaviour::Flood;
            tokio::select! {
                message = messages.recv() => match message {
                    Some(ClientMessage::SetPixelFormat(new)) => format = new,
                    Some(ClientMessage::UpdateRequest { incremental }) => {
                        requested = Some(!incremental || requested == Some(true));
                    }
                    Some(ClientMessage::KeyPress(keysym)) => framebuffer.handle_key(keysym),
                    Some(ClientMessage::ButtonPress(x, y)) => framebuffer.handle_press(x, y),
                    None => return Ok(()),
                },
                _ = tick.tick() => framebuffer.advance_animation(),
                () = std::future::ready(()), if flooding => {}
            }
            wait_while_silent(behaviour).await;
            match requested {
                _ if flooding => send(&mut writer, &framebuffer.encode_update(true, format), behaviour).await?,
                Some(all_rows) if all_rows || framebuffer.is_dirty() => {
                    requested = None;
                    send(&mut writer, &framebuffer.encode_update(all_rows, format), behaviour).await?;
                }
                Some(_) | None => {}
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = drawing => ended,
    }
}

async fn wait_while_silent(behaviour: &mut watch::Receiver<ServerBehaviour>) {
    // The sender outlives every connection.
    let _ = behaviour.wait_for(|behaviour| *behaviour != ServerBehaviour::Silent).await;
}

async fn send(
    writer: &mut OwnedWriteHalf,
    message: &[u8],
    behaviour: &watch::Receiver<ServerBehaviour>,
) -> io::Result<()> {
    for piece in message.chunks(SLOW_BYTES) {
        writer.write_all(piece).await?;
        if *behaviour.borrow() == ServerBehaviour::Slow {
            sleep(Duration::from_millis(TICK_MS)).await;
        }
    }
    Ok(())
}

async fn handshake(
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    name: &str,
    framebuffer: &Framebuffer,
) -> io::Result<()> {
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
    writer.write_all(PROTOCOL_VERSION).await?;
    let mut version = [0; 12];
    reader.read_exact(&mut version).await?;
    if version != *PROTOCOL_VERSION {
        return wrong("not RFB 3.8");
    }
    writer.write_all(&OFFER_SECURITY_NONE).await?;
    if reader.read_u8().await? != SECURITY_NONE {
        return wrong("not the offered security type");
    }
    writer.write_all(&SECURITY_OK).await?;
    reader.read_u8().await?; // shared or not
    writer.write_all(&encode_server_init(framebuffer.width, framebuffer.height, name)).await
}

/// Reads one message of the client; `None` for those without effect here. `buffer` keeps the bytes after it.
async fn read_message(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<Option<ClientMessage>> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    loop {
        if let Some(&first) = buffer.first()
            && !MessageType::from_first_byte(first).is_some_and(is_supported)
        {
            return Err(invalid(format!("message type {first}")));
        }
        let head = client_messages::parse_message_head(buffer).map_err(|unknown| invalid(format!("{unknown:?}")))?;
        if let Some(head) = head {
            let is_text = head.message_type == MessageType::ClientCutText;
            let text_bytes = client_messages::parse_cut_text_length(buffer).filter(|_| is_text).unwrap_or(0);
            if !(0..=TEXT_BYTES_MAX).contains(&text_bytes) {
                return Err(invalid("the clipboard text is too long".to_owned()));
            }
            if buffer.len() >= head.message_bytes {
                let message: Vec<u8> = buffer.drain(..head.message_bytes).collect();
                return effect(head.message_type, &message);
            }
        }
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The messages of RFC 6143; extensions are errors.
fn is_supported(message_type: MessageType) -> bool {
    match message_type {
        MessageType::SetPixelFormat
        | MessageType::SetEncodings
        | MessageType::FramebufferUpdateRequest
        | MessageType::KeyEvent
        | MessageType::PointerEvent
        | MessageType::ClientCutText => true,
        MessageType::EnableContinuousUpdates
        | MessageType::Fence
        | MessageType::Xvp
        | MessageType::SetDesktopSize
        | MessageType::QemuExtension => false,
    }
}

/// The effect of a complete message.
fn effect(message_type: MessageType, message: &[u8]) -> io::Result<Option<ClientMessage>> {
    let u16_at = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    match message_type {
        MessageType::SetPixelFormat if message[4] != 32 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "only 32-bit pixels"))
        }
        MessageType::SetPixelFormat => {
            let shifts = [message[14], message[15], message[16]];
            Ok(Some(ClientMessage::SetPixelFormat(PixelFormat { big_endian: message[6] != 0, shifts })))
        }
        MessageType::FramebufferUpdateRequest => {
            Ok(Some(ClientMessage::UpdateRequest { incremental: message[1] != 0 }))
        }
        MessageType::KeyEvent => {
            let keysym = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
            Ok((message[1] != 0).then_some(ClientMessage::KeyPress(keysym)))
        }
        MessageType::PointerEvent => Ok((message[1] != 0).then_some(ClientMessage::ButtonPress(u16_at(2), u16_at(4)))),
        MessageType::SetEncodings
        | MessageType::ClientCutText
        | MessageType::EnableContinuousUpdates
        | MessageType::Fence
        | MessageType::Xvp
        | MessageType::SetDesktopSize
        | MessageType::QemuExtension => Ok(None),
    }
}
