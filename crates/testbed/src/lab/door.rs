//! The door of a host: the test reaches a server that listens on the loopback of the host's network namespace, at the same address and whatever
//! happens to the host's cable.

use super::Place;
use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    path::Path,
    thread,
};
use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Passes connections on to the server. Clones are the same door, which closes with the last one.
#[derive(Debug, Clone)]
pub struct Door {
    prefix: Vec<String>,
    listeners: UnboundedSender<TcpListener>,
}

impl Door {
    /// Opens a door to a place.
    ///
    /// # Errors
    /// The place's namespace cannot be entered.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        let (listeners, opened) = unbounded_channel();
        let (ready, entered) = std::sync::mpsc::channel();
        let namespace = place.namespace();
        // Sockets belong to the namespace of the thread that makes them.
        thread::Builder::new().name("door".to_owned()).spawn(move || {
            let reactor = enter(&namespace);
            let is_inside = ready.send(reactor.as_ref().map(|_| ()).map_err(|error| format!("{error:#}")));
            if let (Ok(reactor), Ok(())) = (reactor, is_inside) {
                reactor.block_on(serve_last(opened));
            }
        })?;
        entered.recv().context("the door")?.map_err(anyhow::Error::msg)?;
        Ok(Self { prefix: place.prefix(), listeners })
    }

    /// The words before a command that runs behind the door.
    pub fn prefix(&self) -> &[String] {
        &self.prefix
    }

    /// The server listens at this address of its loopback, and the door from now on at the same address of the test's.
    ///
    /// # Errors
    /// Something of the test listens there.
    pub(crate) fn lead_to(&self, address: SocketAddr) -> anyhow::Result<()> {
        let listener = TcpListener::bind(address);
        // The server was started again at the address that the door has.
        if listener.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            return Ok(());
        }
        let listener = listener.with_context(|| format!("the door at {address}"))?;
        listener.set_nonblocking(true)?;
        self.listeners.send(listener).context("the door")
    }
}

fn enter(namespace: &Path) -> anyhow::Result<tokio::runtime::Runtime> {
    let namespace = File::open(namespace)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Serves the last listener until the door is closed.
async fn serve_last(mut listeners: UnboundedReceiver<TcpListener>) {
    let mut serving = None::<tokio::task::JoinHandle<()>>;
    while let Some(listener) = listeners.recv().await {
        if let Some(before) = serving.replace(tokio::spawn(serve(listener))) {
            before.abort();
        }
    }
}

async fn serve(listener: TcpListener) {
    let (Ok(address), Ok(listener)) = (listener.local_addr(), tokio::net::TcpListener::from_std(listener)) else {
        return;
    };
    while let Ok((mut client, _)) = listener.accept().await {
        tokio::spawn(async move {
            // A server that is dead refuses, which the client sees as a connection that closes.
            if let Ok(mut server) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
