//! One client's connection to the desktop.

use super::{
    Behaviour, TICK_MS,
    framebuffer::{Framebuffer, PixelFormat},
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
const TEXT_BYTES_MAX: u32 = 1 << 20;
/// Bytes that are sent at once with [`Behaviour::Slow`].
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
    mut behaviour: watch::Receiver<Behaviour>,
) {
    let mut closing = behaviour.clone();
    tokio::select! {
        // An error means that the client has closed the connection.
        _ = run(stream, &name, Framebuffer::new(&name, width, height), &mut behaviour) => {}
        _ = closing.wait_for(|behaviour| *behaviour == Behaviour::Closed) => {}
    }
}

async fn run(
    stream: UnixStream,
    name: &str,
    mut framebuffer: Framebuffer,
    behaviour: &mut watch::Receiver<Behaviour>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    wait_while_silent(behaviour).await;
    handshake(&mut reader, &mut writer, name, &framebuffer).await?;
    let (sender, mut messages) = mpsc::channel(64);
    let reading = async move {
        loop {
            if let Some(message) = read_message(&mut reader).await? {
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
            let flooding = *behaviour.borrow() == Behaviour::Flood;
            tokio::select! {
                message = messages.recv() => match message {
                    Some(ClientMessage::SetPixelFormat(new)) => format = new,
                    Some(ClientMessage::UpdateRequest { incremental }) => {
                        requested = Some(!incremental || requested == Some(true));
                    }
                    Some(ClientMessage::KeyPress(keysym)) => framebuffer.key(keysym),
                    Some(ClientMessage::ButtonPress(x, y)) => framebuffer.press(x, y),
                    None => return Ok(()),
                },
                _ = tick.tick() => framebuffer.tick(),
                () = std::future::ready(()), if flooding => {}
            }
            wait_while_silent(behaviour).await;
            match requested {
                _ if flooding => send(&mut writer, &framebuffer.update(true, format), behaviour).await?,
                Some(all_rows) if all_rows || framebuffer.is_dirty() => {
                    requested = None;
                    send(&mut writer, &framebuffer.update(all_rows, format), behaviour).await?;
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

async fn wait_while_silent(behaviour: &mut watch::Receiver<Behaviour>) {
    // The sender outlives every connection.
    let _ = behaviour.wait_for(|behaviour| *behaviour != Behaviour::Silent).await;
}

async fn send(writer: &mut OwnedWriteHalf, message: &[u8], behaviour: &watch::Receiver<Behaviour>) -> io::Result<()> {
    for piece in message.chunks(SLOW_BYTES) {
        writer.write_all(piece).await?;
        if *behaviour.borrow() == Behaviour::Slow {
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
    writer.write_all(b"RFB 003.008\n").await?;
    let mut version = [0; 12];
    reader.read_exact(&mut version).await?;
    if &version != b"RFB 003.008\n" {
        return wrong("not RFB 3.8");
    }
    writer.write_all(&[1, 1]).await?; // one security type: None
    if reader.read_u8().await? != 1 {
        return wrong("not the offered security type");
    }
    writer.write_u32(0).await?;
    reader.read_u8().await?; // shared or not
    let mut init = Vec::new();
    init.extend(framebuffer.width.to_be_bytes());
    init.extend(framebuffer.height.to_be_bytes());
    init.extend([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    init.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
    init.extend(name.as_bytes());
    writer.write_all(&init).await
}

/// Reads one message of the client (RFC 6143 §7.5); `None` for those without effect here.
async fn read_message(reader: &mut OwnedReadHalf) -> io::Result<Option<ClientMessage>> {
    match reader.read_u8().await? {
        0 => {
            let mut body = [0; 19];
            reader.read_exact(&mut body).await?;
            if body[3] != 32 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "only 32-bit pixels"));
            }
            let shifts = [body[13], body[14], body[15]];
            Ok(Some(ClientMessage::SetPixelFormat(PixelFormat { big_endian: body[5] != 0, shifts })))
        }
        2 => {
            reader.read_u8().await?;
            let count = reader.read_u16().await?;
            for _ in 0..count {
                reader.read_i32().await?;
            }
            Ok(None)
        }
        3 => {
            let incremental = reader.read_u8().await? != 0;
            reader.read_u64().await?;
            Ok(Some(ClientMessage::UpdateRequest { incremental }))
        }
        4 => {
            let down = reader.read_u8().await? != 0;
            reader.read_u16().await?;
            let keysym = reader.read_u32().await?;
            Ok(down.then_some(ClientMessage::KeyPress(keysym)))
        }
        5 => {
            let buttons = reader.read_u8().await?;
            let (x, y) = (reader.read_u16().await?, reader.read_u16().await?);
            Ok((buttons != 0).then_some(ClientMessage::ButtonPress(x, y)))
        }
        6 => {
            let mut padding = [0; 3];
            reader.read_exact(&mut padding).await?;
            let length = reader.read_u32().await?;
            if length > TEXT_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the clipboard text is too long"));
            }
            reader.read_exact(&mut vec![0; length as usize]).await?;
            Ok(None)
        }
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("message type {other}"))),
    }
}
