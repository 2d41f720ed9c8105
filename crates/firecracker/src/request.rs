//! Requests: one constructor per operation.

use crate::{
    body::{
        BootSource, Drive, EntropyDevice, InstanceActionInfo, Logger, MachineConfiguration, Metrics, SerialDevice,
        SnapshotCreateParams, SnapshotLoadParams, Vm, Vsock,
    },
    error::Error,
    operation::Operation,
    version::Version,
};
use serde::Serialize;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    operation: Operation,
    path: String,
    body: Option<String>,
    feature: Option<Feature>,
}

/// What not every supported version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    Serial,
    VsockOverride,
}

impl Feature {
    fn require(self, found: Version) -> Result<(), Error> {
        let (has, feature, needed) = match self {
            Self::Serial => (found.has_serial(), "PUT /serial", Version::minor(1, 14)),
            Self::VsockOverride => (found.has_vsock_override(), "vsock_override", Version::minor(1, 16)),
        };
        if has { Ok(()) } else { Err(Error::NotInVersion { feature, needed, found }) }
    }
}

/// Each constructor with a body fails only if the body cannot be written as JSON.
#[allow(clippy::missing_errors_doc, reason = "stated once, above")]
impl Request {
    /// `GET /version`: the first request of a connection.
    pub fn get_firecracker_version() -> Self {
        Self::without_body(Operation::GetFirecrackerVersion)
    }

    /// `GET /`: the state of the guest.
    pub fn describe_instance() -> Self {
        Self::without_body(Operation::DescribeInstance)
    }

    /// `PUT /machine-config`: virtual processors and memory.
    pub fn put_machine_configuration(body: &MachineConfiguration) -> Result<Self, Error> {
        Self::with_body(Operation::PutMachineConfiguration, body)
    }

    /// `PUT /boot-source`: the kernel.
    pub fn put_guest_boot_source(body: &BootSource) -> Result<Self, Error> {
        Self::with_body(Operation::PutGuestBootSource, body)
    }

    /// `PUT /drives/{drive_id}`: a disk.
    pub fn put_guest_drive_by_id(body: &Drive) -> Result<Self, Error> {
        let mut request = Self::with_body(Operation::PutGuestDriveByID, body)?;
        request.path = request.path.replace("{drive_id}", &body.drive_id);
        Ok(request)
    }

    /// `PUT /vsock`: the vsock device.
    pub fn put_guest_vsock(body: &Vsock) -> Result<Self, Error> {
        Self::with_body(Operation::PutGuestVsock, body)
    }

    /// `PUT /entropy`: the entropy device.
    pub fn put_entropy_device() -> Result<Self, Error> {
        Self::with_body(Operation::PutEntropyDevice, &EntropyDevice {})
    }

    /// `PUT /serial`: where the serial port's output goes.
    pub fn put_serial_device(body: &SerialDevice) -> Result<Self, Error> {
        Ok(Self { feature: Some(Feature::Serial), ..Self::with_body(Operation::PutSerialDevice, body)? })
    }

    /// `PUT /logger`: where Firecracker's log goes.
    pub fn put_logger(body: &Logger) -> Result<Self, Error> {
        Self::with_body(Operation::PutLogger, body)
    }

    /// `PUT /metrics`: where Firecracker's metrics go.
    pub fn put_metrics(body: &Metrics) -> Result<Self, Error> {
        Self::with_body(Operation::PutMetrics, body)
    }

    /// `PUT /actions` with `InstanceStart`: boots the guest.
    pub fn start_instance() -> Result<Self, Error> {
        Self::with_body(Operation::CreateSyncAction, &InstanceActionInfo::InstanceStart)
    }

    /// `PATCH /vm` with `Paused`.
    pub fn pause_vm() -> Result<Self, Error> {
        Self::with_body(Operation::PatchVm, &Vm::Paused)
    }

    /// `PATCH /vm` with `Resumed`.
    pub fn resume_vm() -> Result<Self, Error> {
        Self::with_body(Operation::PatchVm, &Vm::Resumed)
    }

    /// `PUT /snapshot/create`: saves the paused guest.
    pub fn create_snapshot(body: &SnapshotCreateParams) -> Result<Self, Error> {
        Self::with_body(Operation::CreateSnapshot, body)
    }

    /// `PUT /snapshot/load`: loads a saved guest. Before it, only logger and metrics may be configured.
    pub fn load_snapshot(body: &SnapshotLoadParams) -> Result<Self, Error> {
        let feature = body.vsock_override.is_some().then_some(Feature::VsockOverride);
        Ok(Self { feature, ..Self::with_body(Operation::LoadSnapshot, body)? })
    }

    fn without_body(operation: Operation) -> Self {
        Self { operation, path: operation.path().to_owned(), body: None, feature: None }
    }

    fn with_body(operation: Operation, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|source| Error::NotSerialized { operation, source })?;
        Ok(Self { body: Some(body), ..Self::without_body(operation) })
    }

    /// The operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Checks that `version` has all that this request uses.
    pub(crate) fn require_version(&self, version: Version) -> Result<(), Error> {
        self.feature.map_or(Ok(()), |feature| feature.require(version))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.operation.method(), self.path);
        match &self.body {
            None => format!("{head}\r\n").into_bytes(),
            Some(body) => {
                let length = body.len();
                format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
            }
        }
    }
}
