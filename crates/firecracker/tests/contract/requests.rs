//! Every request of the client, in an order that Firecracker accepts, and what was sent.

use crate::table::{Description, Fields};
use anteroom_firecracker::{Client, Error, Operation, Version, body::*};
use serde_json::Value;
use std::path::Path;

/// Configures a guest, boots it and saves it. The files of `dir` that are read must exist: `kernel`, `initrd`, `drive`, and before
/// 1.14 `log` and `metrics`.
pub(crate) fn boot_and_save(client: &mut Client, dir: &Path) -> Result<(), Error> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    client.put_logger(&Logger { log_path: path("log"), level: LogLevel::Info })?;
    client.put_metrics(&Metrics { metrics_path: path("metrics") })?;
    if client.version().has_serial() {
        client.put_serial_device(&SerialDevice { serial_out_path: path("serial") })?;
    }
    client.put_machine_configuration(&MachineConfiguration { vcpu_count: 1, mem_size_mib: 64 })?;
    client.put_guest_boot_source(&BootSource {
        kernel_image_path: path("kernel"),
        boot_args: "console=ttyS0".into(),
        initrd_path: Some(path("initrd")),
    })?;
    client.put_guest_drive_by_id(&Drive {
        drive_id: "rootfs".into(),
        path_on_host: path("drive"),
        is_root_device: true,
        is_read_only: true,
    })?;
    client.put_guest_vsock(&Vsock { guest_cid: 3, uds_path: path("vsock.sock") })?;
    client.put_entropy_device()?;
    client.start_instance()?;
    client.pause_vm()?;
    client.create_snapshot(&SnapshotCreateParams {
        snapshot_path: path("state"),
        mem_file_path: path("memory"),
        snapshot_type: SnapshotType::Full,
    })
}

/// Loads what [`boot_and_save`] saved, and lets it run.
pub(crate) fn load(client: &mut Client, dir: &Path) -> Result<(), Error> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let vsock_override =
        client.version().has_vsock_override().then(|| VsockOverride { uds_path: path("other-vsock.sock") });
    client.load_snapshot(&SnapshotLoadParams {
        snapshot_path: path("state"),
        mem_backend: MemoryBackend { backend_type: MemoryBackendType::File, backend_path: path("memory") },
        resume_vm: false,
        vsock_override,
    })?;
    client.resume_vm()?;
    client.describe_instance().map(drop)
}

/// A request as it was sent.
pub(crate) struct Recorded {
    pub(crate) operation: Operation,
    body: Option<Value>,
}

impl Recorded {
    /// The first request in `bytes`, and its length. `None`: it is not complete.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head) = request.parse(bytes).unwrap() else { return None };
        let length = request.headers.iter().find(|header| header.name == "Content-Length");
        let length = length.map_or(0, |header| std::str::from_utf8(header.value).unwrap().parse().unwrap());
        let body = bytes.get(head..head + length)?;
        let sent = format!("{} {}", request.method.unwrap(), request.path.unwrap());
        let template = sent.replace("/drives/rootfs", "/drives/{drive_id}");
        let operation = Operation::ALL.into_iter().find(|known| known.to_string() == template);
        let operation = operation.unwrap_or_else(|| panic!("{sent} is not an operation of the client"));
        let body = (length > 0).then(|| serde_json::from_slice(body).unwrap());
        Some((Self { operation, body }, head + length))
    }
}

/// Checks all that was sent to a version: every operation that it has, and nothing else.
pub(crate) fn check(recorded: &[Recorded], version: Version) {
    let description = Description::of(version);
    let fields = Fields::read();
    for request in recorded {
        fields.check_sent(request.operation, request.body.as_ref(), description);
    }
    for operation in Operation::ALL {
        let sent = recorded.iter().any(|request| request.operation == operation);
        assert_eq!(sent, fields.has(operation, description), "{operation} in {description:?}");
    }
}
