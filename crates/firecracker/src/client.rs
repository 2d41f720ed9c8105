//! A client that blocks: one method per operation.

use crate::{
    body::{
        BootSource, Drive, InstanceInfo, Logger, MachineConfiguration, Metrics, SerialDevice, SnapshotCreateParams,
        SnapshotLoadParams, Vsock,
    },
    connection::Connection,
    error::Error,
    operation::Operation,
    request::Request,
    response::Response,
    version::Version,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

/// A client of one Firecracker process. Each method blocks until the answer: a thread that must answer Firecracker's system
/// calls uses [`Connection`] instead.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    version: Version,
    timeout: Duration,
}

/// The errors of the methods are those of [`Error`].
#[allow(clippy::missing_errors_doc, reason = "stated once, above")]
impl Client {
    /// Connects to the socket at `path` and reads the version. Each operation may take `timeout`.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let failed = |source| Error::Connect { path: path.to_owned(), source };
        Self::new(UnixStream::connect(path).map_err(failed)?, timeout)
    }

    /// Reads the version through a connected socket. Each operation may take `timeout`.
    pub fn new(stream: UnixStream, timeout: Duration) -> Result<Self, Error> {
        let operation = Operation::GetFirecrackerVersion;
        let mut connection = Connection::new(stream)?;
        wait_response(&mut connection, operation, timeout)?;
        let version = connection.version().ok_or(Error::VersionUnknown { operation })?;
        Ok(Self { connection, version, timeout })
    }

    /// Firecracker's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The connection, for a poll loop.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// `GET /`: the state of the guest.
    pub fn describe_instance(&mut self) -> Result<InstanceInfo, Error> {
        self.execute(&Request::describe_instance())?.instance_info()
    }

    /// `PUT /machine-config`: virtual processors and memory.
    pub fn put_machine_configuration(&mut self, body: &MachineConfiguration) -> Result<(), Error> {
        self.execute(&Request::put_machine_configuration(body)?).map(drop)
    }

    /// `PUT /boot-source`: the kernel.
    pub fn put_guest_boot_source(&mut self, body: &BootSource) -> Result<(), Error> {
        self.execute(&Request::put_guest_boot_source(body)?).map(drop)
    }

    /// `PUT /drives/{drive_id}`: a disk.
    pub fn put_guest_drive_by_id(&mut self, body: &Drive) -> Result<(), Error> {
        self.execute(&Request::put_guest_drive_by_id(body)?).map(drop)
    }

    /// `PUT /vsock`: the vsock device.
    pub fn put_guest_vsock(&mut self, body: &Vsock) -> Result<(), Error> {
        self.execute(&Request::put_guest_vsock(body)?).map(drop)
    }

    /// `PUT /entropy`: the entropy device.
    pub fn put_entropy_device(&mut self) -> Result<(), Error> {
        self.execute(&Request::put_entropy_device()?).map(drop)
    }

    /// `PUT /serial`: where the serial port's output goes; needs 1.14.
    pub fn put_serial_device(&mut self, body: &SerialDevice) -> Result<(), Error> {
        self.execute(&Request::put_serial_device(body)?).map(drop)
    }

    /// `PUT /logger`: where Firecracker's log goes.
    pub fn put_logger(&mut self, body: &Logger) -> Result<(), Error> {
        self.execute(&Request::put_logger(body)?).map(drop)
    }

    /// `PUT /metrics`: where Firecracker's metrics go.
    pub fn put_metrics(&mut self, body: &Metrics) -> Result<(), Error> {
        self.execute(&Request::put_metrics(body)?).map(drop)
    }

    /// `PUT /actions` with `InstanceStart`: boots the guest.
    pub fn start_instance(&mut self) -> Result<(), Error> {
        self.execute(&Request::start_instance()?).map(drop)
    }

    /// `PATCH /vm` with `Paused`.
    pub fn pause_vm(&mut self) -> Result<(), Error> {
        self.execute(&Request::pause_vm()?).map(drop)
    }

    /// `PATCH /vm` with `Resumed`.
    pub fn resume_vm(&mut self) -> Result<(), Error> {
        self.execute(&Request::resume_vm()?).map(drop)
    }

    /// `PUT /snapshot/create`: saves the paused guest.
    pub fn create_snapshot(&mut self, body: &SnapshotCreateParams) -> Result<(), Error> {
        self.execute(&Request::create_snapshot(body)?).map(drop)
    }

    /// `PUT /snapshot/load`: loads a saved guest. Before it, only logger and metrics may be configured.
    pub fn load_snapshot(&mut self, body: &SnapshotLoadParams) -> Result<(), Error> {
        self.execute(&Request::load_snapshot(body)?).map(drop)
    }

    fn execute(&mut self, request: &Request) -> Result<Response, Error> {
        self.connection.send(request)?;
        wait_response(&mut self.connection, request.operation(), self.timeout)
    }
}

fn wait_response(connection: &mut Connection, operation: Operation, timeout: Duration) -> Result<Response, Error> {
    let began = Instant::now();
    loop {
        if let Some(response) = connection.read_response()? {
            return Ok(response);
        }
        let left = timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::Timeout { operation, timeout_ms });
        }
        let mut files = [PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut files, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Socket { operation, source: error.into() }),
        }
    }
}
