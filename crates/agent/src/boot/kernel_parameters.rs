//! The agent's parameters on the kernel's command line. Other keys are ignored.

/// The `anteroom.*` keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelParameters {
    /// `anteroom.image=HASH`.
    pub(super) image_hash: String,
    /// `anteroom.geometry=WxH`, or `anteroom.width=` and `anteroom.height=`, pixels.
    pub(super) width: u16,
    pub(super) height: u16,
    /// `anteroom.overlay_mib=`: how much may be written over the image, MiB of guest memory.
    pub(super) overlay_mib: u32,
    /// `anteroom.channel_device=vsock`: the device of the two channels; virtio-serial without it.
    pub(super) channel_device: ChannelDevice,
    /// `anteroom.probe=1`: print that the kernel has booted, and power off.
    pub(super) probe: bool,
}

/// The device behind the two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelDevice {
    /// QEMU's.
    VirtioSerial,
    /// Firecracker's.
    Vsock,
}

const WIDTH: u16 = 1280;
const HEIGHT: u16 = 800;
const OVERLAY_MIB: u32 = 512;

impl KernelParameters {
    /// Parses `line`. An invalid value is replaced by the default: a machine that boots can report the error, one that does not boot
    /// cannot.
    pub(super) fn parse(line: &str) -> Self {
        let value = |key: &str| {
            line.split_ascii_whitespace()
                .rev()
                .find_map(|word| word.strip_prefix("anteroom.")?.strip_prefix(key)?.strip_prefix('='))
        };
        let pixels = |text: &str, min: u16, max: u16| text.parse::<u16>().ok().filter(|n| (min..=max).contains(n));
        let (width, height) = value("geometry").and_then(|size| size.split_once('x')).unzip();
        let width = width.or_else(|| value("width")).and_then(|text| pixels(text, 320, 3840));
        let height = height.or_else(|| value("height")).and_then(|text| pixels(text, 240, 2160));
        let overlay = value("overlay_mib").and_then(|text| text.parse().ok()).filter(|mib| (16..=65_536).contains(mib));
        Self {
            image_hash: value("image").unwrap_or_default().to_owned(),
            width: width.unwrap_or(WIDTH),
            height: height.unwrap_or(HEIGHT),
            overlay_mib: overlay.unwrap_or(OVERLAY_MIB),
            channel_device: match value("channel_device") {
                Some("vsock") => ChannelDevice::Vsock,
                _ => ChannelDevice::VirtioSerial,
            },
            probe: value("probe") == Some("1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_parameters_are_parsed_and_unknown_ones_ignored() {
        let line = KernelParameters::parse(
            "console=ttyS0 anteroom.image=sha256:ab anteroom.geometry=1024x768 anteroom.overlay_mib=256 quiet\n",
        );
        let expected = KernelParameters {
            image_hash: "sha256:ab".into(),
            width: 1024,
            height: 768,
            overlay_mib: 256,
            channel_device: ChannelDevice::VirtioSerial,
            probe: false,
        };
        assert_eq!(line, expected);
        assert!(KernelParameters::parse("anteroom.probe=1").probe);
        assert_eq!(KernelParameters::parse("anteroom.channel_device=vsock").channel_device, ChannelDevice::Vsock);
        assert_eq!(KernelParameters::parse("anteroom.width=800 anteroom.height=600").height, 600);
    }

    #[test]
    fn invalid_value_is_replaced_by_the_default() {
        let line = KernelParameters::parse("anteroom.geometry=$(id)x1 anteroom.overlay_mib=-1 anteroom.probe=yes");
        assert_eq!((line.width, line.height, line.overlay_mib, line.probe), (WIDTH, HEIGHT, OVERLAY_MIB, false));
        assert_eq!(KernelParameters::parse(""), KernelParameters::parse("anteroom.width=99999 anteroom.widthx=3"));
    }
}
