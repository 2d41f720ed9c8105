//! What a desktop sends to our client: it must end in an update or an error, within the framebuffer's limits.
#![no_main]

use anteroom_rfb::client::RfbClient;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tokio::{io::AsyncWriteExt, runtime::Runtime};

/// Version, one security type (None), its result, then ServerInit for 64 × 48 pixels and an empty name.
const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x01\x00\x00\x00\x00\
    \x00\x40\x00\x30\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00\x00\x00\x00\x00";
const ANSWER_MS_MAX: u64 = 60_000;
const PIXELS_MAX: usize = 3840 * 2160;
const UPDATES_MAX: usize = 64;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made"),
    );
}

async fn read(bytes: Vec<u8>) {
    let (ours, mut theirs) = tokio::io::duplex(bytes.len() + 64 * 1024);
    theirs.write_all(&bytes).await.expect("the pipe is large enough");
    theirs.shutdown().await.expect("the pipe is open");
    let Ok(mut client) = RfbClient::connect(ours, ANSWER_MS_MAX).await else { return };
    for _ in 0..UPDATES_MAX {
        let frame = client.frame();
        let (width, height) = (frame.width(), frame.height());
        assert!(usize::from(width) * usize::from(height) <= PIXELS_MAX);
        assert!(frame.pixel(width, 0).is_none() && frame.pixel(0, height).is_none());
        match client.apply_next_update().await {
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().len() < 4 * 1024 || error.to_string().starts_with("RFB error"), "{error}");
                return;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    // Most inputs get past the handshake; some fuzz the handshake itself.
    let bytes = if first < 224 { [HANDSHAKE, data].concat() } else { data.to_vec() };
    RUNTIME.with_borrow(|runtime| runtime.block_on(read(bytes)));
});
