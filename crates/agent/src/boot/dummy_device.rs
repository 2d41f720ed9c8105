//! The network that pages see: a loopback, and a device called `eth0` that leads nowhere.
//!
//! Without an interface that is up Chromium reports that it is offline, and it checks the interface's *name*. Packets sent to the device
//! are read and dropped; every real connection goes through the proxy. It is set up with the ioctls of netdevice(7), whose structures are
//! encoded byte by byte.

use crate::platform::async_fd;
use anyhow::Context;
use rustix::{
    fd::AsFd,
    fs::{Mode, OFlags},
    ioctl::{self, Opcode, Setter},
    net::{AddressFamily, SocketType},
};
use std::{net::Ipv4Addr, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// A private network of two addresses.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 252);
const DEVICE: &str = "eth0";

/// `TUNSETIFF` of linux/if_tun.h.
const TUN_SET_IFF: Opcode = 0x4004_54ca;
const SET_FLAGS: Opcode = 0x8914;
const SET_ADDRESS: Opcode = 0x8916;
const SET_NETMASK: Opcode = 0x891c;
const ADD_ROUTE: Opcode = 0x890b;

const IFF_UP_RUNNING: u16 = 0x1 | 0x40;
const IFF_TUN_NO_PI: u16 = 0x1 | 0x1000;
const AF_INET: u16 = 2;
const RTF_UP: u16 = 1;
const PACKET_BYTES_MAX: usize = 2048;

/// `struct ifreq`: a name of 16 bytes, then a union of 24.
type IfReq = [u8; 40];
/// `struct rtentry` on 64-bit Linux.
type RtEntry = [u8; 120];

/// Keeps the device up; dropping it removes the carrier.
pub(super) struct DummyDevice {
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for DummyDevice {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Configures the loopback and the device.
pub(super) fn create_dummy_device() -> anyhow::Result<DummyDevice> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    set::<SET_FLAGS, _>(&socket, request("lo", &IFF_UP_RUNNING.to_ne_bytes())).context("lo")?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).context("/dev/net/tun")?;
    set::<TUN_SET_IFF, _>(&tun, request(DEVICE, &IFF_TUN_NO_PI.to_ne_bytes())).context("tun")?;
    set::<SET_ADDRESS, _>(&socket, request(DEVICE, &socket_address(ADDRESS))).context("address")?;
    set::<SET_NETMASK, _>(&socket, request(DEVICE, &socket_address(NETMASK))).context("netmask")?;
    set::<SET_FLAGS, _>(&socket, request(DEVICE, &IFF_UP_RUNNING.to_ne_bytes())).context("up")?;
    set::<ADD_ROUTE, _>(&socket, default_route()).context("route")?;
    let tun = async_fd::register_fd(tun, Interest::READABLE)?;
    Ok(DummyDevice { reader: tokio::spawn(drop_packets(tun)) })
}

fn set<const OPCODE: Opcode, T>(fd: impl AsFd, value: T) -> rustix::io::Result<()> {
    // SAFETY: each opcode above reads exactly the structure that its caller passes.
    #[expect(unsafe_code, reason = "ioctls that rustix does not wrap")]
    unsafe {
        ioctl::ioctl(fd, Setter::<OPCODE, T>::new(value))
    }
}

fn request(name: &str, value: &[u8]) -> IfReq {
    let mut request = [0; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..16 + value.len()].copy_from_slice(value);
    request
}

/// `struct sockaddr_in` without a port.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    out[4..8].copy_from_slice(&address.octets());
    out
}

/// The default route through the device: destination and mask 0.0.0.0, no gateway.
fn default_route() -> RtEntry {
    let mut route = [0; 120];
    route[8..24].copy_from_slice(&socket_address(Ipv4Addr::UNSPECIFIED));
    route[24..40].copy_from_slice(&socket_address(Ipv4Addr::UNSPECIFIED));
    route[40..56].copy_from_slice(&socket_address(Ipv4Addr::UNSPECIFIED));
    route[56..58].copy_from_slice(&RTF_UP.to_ne_bytes());
    // `rt_dev`: a pointer to the device's name, which must stay valid.
    let name: &'static std::ffi::CStr = c"eth0";
    route[88..96].copy_from_slice(&name.as_ptr().addr().to_ne_bytes());
    route
}

/// Reads and drops the packets that programs send without the proxy, so that the queue does not fill.
async fn drop_packets(tun: AsyncFd<OwnedFd>) {
    let mut packet = [0; PACKET_BYTES_MAX];
    while let Ok(mut ready) = tun.readable().await {
        let read = ready.try_io(|tun| Ok(rustix::io::read(tun.get_ref(), &mut packet)?));
        if matches!(read, Ok(Err(_))) {
            return;
        }
    }
}
