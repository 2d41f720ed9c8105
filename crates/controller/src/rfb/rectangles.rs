//! Reading an update: its rectangles, one after the other, painted into the picture.

use super::{Encoding, RfbClient, RfbError, Update, broken};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Where a rectangle goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: u16,
    y: u16,
    width: u16,
    height: u16,
}

impl Place {
    fn pixels(self) -> usize {
        usize::from(self.width) * usize::from(self.height)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RfbClient<S> {
    pub(super) async fn read_rectangles(&mut self, doing: &'static str) -> Result<Update, RfbError> {
        self.stream.read_u8().await.map_err(broken(doing))?;
        let announced = self.stream.read_u16().await.map_err(broken(doing))?;
        let mut update = Update { rectangles: 0, pixels: 0 };
        for _ in 0..announced {
            let mut head = [0; 12];
            self.stream.read_exact(&mut head).await.map_err(broken(doing))?;
            let at = |i: usize| u16::from_be_bytes([head[i], head[i + 1]]);
            let place = Place { x: at(0), y: at(2), width: at(4), height: at(6) };
            let number = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            let encoding = Encoding::of_rectangle(number, &self.offered);
            match encoding {
                Some(Encoding::Raw) => self.read_raw(place, doing).await?,
                Some(Encoding::CopyRect) => self.read_copy(place, doing).await?,
                Some(Encoding::Tight) => self.read_tight(place).await?,
                Some(Encoding::DesktopSize) => self.resize(place.width, place.height)?,
                Some(Encoding::LastRect) => break,
                Some(Encoding::CompressLevel(_)) | None => {
                    return Err(RfbError::Said(format!("encoding {number}, which was not asked for")));
                }
            }
            update.rectangles += 1;
            if encoding != Some(Encoding::DesktopSize) {
                update.pixels += place.pixels();
            }
        }
        Ok(update)
    }

    async fn read_raw(&mut self, place: Place, doing: &'static str) -> Result<(), RfbError> {
        self.expect_inside(place)?;
        let mut line = vec![0; usize::from(place.width) * 4];
        for row in place.y..place.y + place.height {
            self.stream.read_exact(&mut line).await.map_err(broken(doing))?;
            self.frame.paint_row(place.x, row, &line);
        }
        Ok(())
    }

    async fn read_copy(&mut self, place: Place, doing: &'static str) -> Result<(), RfbError> {
        let x = self.stream.read_u16().await.map_err(broken(doing))?;
        let y = self.stream.read_u16().await.map_err(broken(doing))?;
        self.expect_inside(place)?;
        self.expect_inside(Place { x, y, ..place })?;
        self.frame.copy((x, y), (place.x, place.y), (place.width, place.height));
        Ok(())
    }

    async fn read_tight(&mut self, place: Place) -> Result<(), RfbError> {
        self.expect_inside(place)?;
        let pixels = self.tight.read(&mut self.stream, place.width, place.height).await?;
        self.frame.paint(place.x, place.y, place.width, &pixels);
        Ok(())
    }

    fn expect_inside(&self, Place { x, y, width, height }: Place) -> Result<(), RfbError> {
        let fits = |start: u16, length: u16, end: u16| u32::from(start) + u32::from(length) <= u32::from(end);
        if fits(x, width, self.frame.width()) && fits(y, height, self.frame.height()) {
            Ok(())
        } else {
            Err(RfbError::Said(format!("a rectangle of {width} × {height} at {x}, {y}: outside of the picture")))
        }
    }
}
