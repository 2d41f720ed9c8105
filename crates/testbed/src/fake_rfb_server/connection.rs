//! One viewer's connection to the desktop.

use super::{
    Behaviour, TICK_MS,
    framebuffer::{Format, Picture},
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
const SLOW_BYTES: usize = 4 * 1024;

/// What a viewer said.
enum Said {
    Format(Format),
    Request { everything: bool },
    Key(u32),
    Press(u16, u16),
}

pub(super) async fn serve(
    stream: UnixStream,
    name: String,
    width: u16,
    height: u16,
    mut orders: watch::Receiver<Behaviour>,
) {
    let mut closing = orders.clone();
    tokio::select! {
        // A viewer that breaks off is no fault of the desktop.
        _ = converse(stream, &name, Picture::new(&name, width, height), &mut orders) => {}
        _ = closing.wait_for(|behaviour| *behaviour == Behaviour::Closed) => {}
    }
}

async fn converse(
    stream: UnixStream,
    name: &str,
    mut picture: Picture,
    orders: &mut watch::Receiver<Behaviour>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    speak_up(orders).await;
    shake_hands(&mut reader, &mut writer, name, &picture).await?;
    let (tell, mut said) = mpsc::channel(64);
    let listening = async move {
        loop {
            if let Some(message) = hear(&mut reader).await? {
                // The other side of the channel ends with this future.
                let _ = tell.send(message).await;
            }
        }
    };
    let drawing = async {
        let mut tick = interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut format, mut wanted) = (Format::default(), None);
        loop {
            let flooding = *orders.borrow() == Behaviour::Flood;
            tokio::select! {
                message = said.recv() => match message {
                    Some(Said::Format(asked)) => format = asked,
                    Some(Said::Request { everything }) => wanted = Some(everything || wanted == Some(true)),
                    Some(Said::Key(keysym)) => picture.key(keysym),
                    Some(Said::Press(x, y)) => picture.press(x, y),
                    None => return Ok(()),
                },
                _ = tick.tick() => picture.tick(),
                () = std::future::ready(()), if flooding => {}
            }
            speak_up(orders).await;
            match wanted {
                _ if flooding => send(&mut writer, &picture.update(true, format), orders).await?,
                Some(everything) if everything || picture.is_dirty() => {
                    wanted = None;
                    send(&mut writer, &picture.update(everything, format), orders).await?;
                }
                Some(_) | None => {}
            }
        }
    };
    tokio::select! {
        ended = listening => ended,
        ended = drawing => ended,
    }
}

/// Waits while the desktop is silent.
async fn speak_up(orders: &mut watch::Receiver<Behaviour>) {
    // The sender outlives every connection.
    let _ = orders.wait_for(|behaviour| *behaviour != Behaviour::Silent).await;
}

async fn send(writer: &mut OwnedWriteHalf, message: &[u8], orders: &watch::Receiver<Behaviour>) -> io::Result<()> {
    for piece in message.chunks(SLOW_BYTES) {
        writer.write_all(piece).await?;
        if *orders.borrow() == Behaviour::Slow {
            sleep(Duration::from_millis(TICK_MS)).await;
        }
    }
    Ok(())
}

async fn shake_hands(
    reader: &mut OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    name: &str,
    picture: &Picture,
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
    init.extend(picture.width.to_be_bytes());
    init.extend(picture.height.to_be_bytes());
    init.extend([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    init.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
    init.extend(name.as_bytes());
    writer.write_all(&init).await
}

/// One message of the viewer's (RFC 6143 §7.5); `None` for those without effect here.
async fn hear(reader: &mut OwnedReadHalf) -> io::Result<Option<Said>> {
    match reader.read_u8().await? {
        0 => {
            let mut body = [0; 19];
            reader.read_exact(&mut body).await?;
            if body[3] != 32 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "only 32-bit pixels"));
            }
            let shifts = [body[13], body[14], body[15]];
            Ok(Some(Said::Format(Format { big_endian: body[5] != 0, shifts })))
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
            let everything = reader.read_u8().await? == 0;
            reader.read_u64().await?;
            Ok(Some(Said::Request { everything }))
        }
        4 => {
            let down = reader.read_u8().await? != 0;
            reader.read_u16().await?;
            let keysym = reader.read_u32().await?;
            Ok(down.then_some(Said::Key(keysym)))
        }
        5 => {
            let buttons = reader.read_u8().await?;
            let (x, y) = (reader.read_u16().await?, reader.read_u16().await?);
            Ok((buttons != 0).then_some(Said::Press(x, y)))
        }
        6 => {
            let mut padding = [0; 3];
            reader.read_exact(&mut padding).await?;
            let length = reader.read_u32().await?;
            if length > TEXT_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a clipboard text that long"));
            }
            reader.read_exact(&mut vec![0; length as usize]).await?;
            Ok(None)
        }
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("message type {other}"))),
    }
}
