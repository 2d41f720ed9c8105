//! A stream to a machine's desktop, or to what a guest without one has in its place.

use crate::host::Host;
use anteroom_machine::{AgentClient, ByteStream};
use anteroom_rfb::client::RfbClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a desktop may take to answer, milliseconds.
const ANSWER_MS_MAX: u64 = 60_000;

/// See the module.
pub(crate) enum Desktop {
    Viewer(Box<RfbClient<ByteStream>>),
    /// Sends everything back.
    Echo(Box<ByteStream>),
}

impl Desktop {
    pub(crate) async fn open(host: &Host, agent: &AgentClient) -> Self {
        let stream = agent.open_desktop().await.unwrap();
        if host.has_tools() {
            Self::Viewer(Box::new(RfbClient::connect(stream, ANSWER_MS_MAX).await.unwrap()))
        } else {
            Self::Echo(Box::new(stream))
        }
    }

    /// Sends something and receives the answer.
    pub(crate) async fn check(&mut self) {
        match self {
            Self::Viewer(viewer) => {
                let frame = viewer.request_full_frame().await.unwrap();
                assert!(frame.width() > 100 && frame.height() > 100, "{} × {}", frame.width(), frame.height());
            }
            Self::Echo(stream) => {
                let (sent, mut received) = ([7, 8, 9], [0; 3]);
                stream.write_all(&sent).await.unwrap();
                stream.read_exact(&mut received).await.unwrap();
                assert_eq!(received, sent);
            }
        }
    }
}
