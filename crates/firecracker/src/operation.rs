//! The operations that are used.

use std::fmt;

/// An operation of the API, by its `operationId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `GET /version`.
    GetFirecrackerVersion,
    /// `GET /`.
    DescribeInstance,
    /// `PUT /machine-config`.
    PutMachineConfiguration,
    /// `PUT /boot-source`.
    PutGuestBootSource,
    /// `PUT /drives/{drive_id}`.
    PutGuestDriveByID,
    /// `PUT /vsock`.
    PutGuestVsock,
    /// `PUT /entropy`.
    PutEntropyDevice,
    /// `PUT /serial`, from 1.14 on.
    PutSerialDevice,
    /// `PUT /logger`.
    PutLogger,
    /// `PUT /metrics`.
    PutMetrics,
    /// `PUT /actions`.
    CreateSyncAction,
    /// `PATCH /vm`.
    PatchVm,
    /// `PUT /snapshot/create`.
    CreateSnapshot,
    /// `PUT /snapshot/load`.
    LoadSnapshot,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 14] = [
        Self::GetFirecrackerVersion,
        Self::DescribeInstance,
        Self::PutMachineConfiguration,
        Self::PutGuestBootSource,
        Self::PutGuestDriveByID,
        Self::PutGuestVsock,
        Self::PutEntropyDevice,
        Self::PutSerialDevice,
        Self::PutLogger,
        Self::PutMetrics,
        Self::CreateSyncAction,
        Self::PatchVm,
        Self::CreateSnapshot,
        Self::LoadSnapshot,
    ];

    /// The HTTP method.
    pub fn method(self) -> &'static str {
        match self {
            Self::GetFirecrackerVersion | Self::DescribeInstance => "GET",
            Self::PatchVm => "PATCH",
            Self::PutMachineConfiguration
            | Self::PutGuestBootSource
            | Self::PutGuestDriveByID
            | Self::PutGuestVsock
            | Self::PutEntropyDevice
            | Self::PutSerialDevice
            | Self::PutLogger
            | Self::PutMetrics
            | Self::CreateSyncAction
            | Self::CreateSnapshot
            | Self::LoadSnapshot => "PUT",
        }
    }

    /// The path; `{drive_id}` is a parameter.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetFirecrackerVersion => "/version",
            Self::DescribeInstance => "/",
            Self::PutMachineConfiguration => "/machine-config",
            Self::PutGuestBootSource => "/boot-source",
            Self::PutGuestDriveByID => "/drives/{drive_id}",
            Self::PutGuestVsock => "/vsock",
            Self::PutEntropyDevice => "/entropy",
            Self::PutSerialDevice => "/serial",
            Self::PutLogger => "/logger",
            Self::PutMetrics => "/metrics",
            Self::CreateSyncAction => "/actions",
            Self::PatchVm => "/vm",
            Self::CreateSnapshot => "/snapshot/create",
            Self::LoadSnapshot => "/snapshot/load",
        }
    }
}

/// Method and path, for example `PUT /vsock`.
impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method(), self.path())
    }
}
