//! Reads the rectangles of a framebuffer update and paints them.

use super::{Encoding, RfbClient, RfbError, UpdateSize, broken};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Position and size of a rectangle.
#[derive(Debug, Clone, Copy)]
struct Rect {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
}

impl Rect {
    fn pixels(self) -> usize {
        usize::from(self.width) * usize::from(self.height)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RfbClient<S> {
    pub(super) async fn read_rectangles(&mut self, doing: &'static str) -> Result<UpdateSize, RfbError> {
        self.stream.read_u8().await.map_err(broken(doing))?;
        let count = self.stream.read_u16().await.map_err(broken(doing))?;
        let mut update = UpdateSize { rectangle_count: 0, pixel_count: 0 };
        for _ in 0..count {
            let mut head = [0; 12];
            self.stream.read_exact(&mut head).await.map_err(broken(doing))?;
            let at = |i: usize| u16::from_be_bytes([head[i], head[i + 1]]);
            let rect = Rect { x: at(0), y: at(2), width: at(4), height: at(6) };
            let number = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            let encoding = Encoding::from_rectangle_number(number, &self.offered);
            match encoding {
                Some(Encoding::Raw) => self.read_raw(rect, doing).await?,
                Some(Encoding::CopyRect) => self.read_copy(rect, doing).await?,
                Some(Encoding::Tight) => self.read_tight(rect).await?,
                Some(Encoding::DesktopSize) => self.resize(rect.width, rect.height)?,
                Some(Encoding::LastRect) => break,
                Some(Encoding::CompressLevel(_)) | None => {
                    return Err(RfbError::Protocol(format!("encoding {number}, which was not offered")));
                }
            }
            update.rectangle_count += 1;
            if encoding != Some(Encoding::DesktopSize) {
                update.pixel_count += rect.pixels();
            }
        }
        Ok(update)
    }

    async fn read_raw(&mut self, rect: Rect, doing: &'static str) -> Result<(), RfbError> {
        self.require_inside(rect)?;
        let mut line = vec![0; usize::from(rect.width) * 4];
        for row in rect.y..rect.y + rect.height {
            self.stream.read_exact(&mut line).await.map_err(broken(doing))?;
            self.frame.paint_row(rect.x, row, &line);
        }
        Ok(())
    }

    async fn read_copy(&mut self, rect: Rect, doing: &'static str) -> Result<(), RfbError> {
        let x = self.stream.read_u16().await.map_err(broken(doing))?;
        let y = self.stream.read_u16().await.map_err(broken(doing))?;
        self.require_inside(rect)?;
        self.require_inside(Rect { x, y, ..rect })?;
        self.frame.copy_rectangle((x, y), (rect.x, rect.y), (rect.width, rect.height));
        Ok(())
    }

    async fn read_tight(&mut self, rect: Rect) -> Result<(), RfbError> {
        self.require_inside(rect)?;
        let pixels = self.tight.read_rectangle(&mut self.stream, rect.width, rect.height).await?;
        self.frame.paint_rectangle(rect.x, rect.y, rect.width, &pixels);
        Ok(())
    }

    fn require_inside(&self, Rect { x, y, width, height }: Rect) -> Result<(), RfbError> {
        let fits = |start: u16, length: u16, end: u16| u32::from(start) + u32::from(length) <= u32::from(end);
        if fits(x, width, self.frame.width()) && fits(y, height, self.frame.height()) {
            Ok(())
        } else {
            Err(RfbError::Protocol(format!("a rectangle of {width} × {height} at {x}, {y}, outside the framebuffer")))
        }
    }
}
