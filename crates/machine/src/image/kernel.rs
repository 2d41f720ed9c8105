//! Reads Debian's kernel package: the compressed ELF kernel in a bzImage, its options, the load order of modules, the installed
//! packages.

use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a kernel: a clause after its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidKernel {
    #[error("is not a bzImage")]
    NotABzImage,
    #[error("is truncated")]
    Truncated,
    #[error("has no payload")]
    NoPayload,
    #[error("is shorter than the length in its header")]
    ShorterThanHeader,
    #[error("is not compressed with zstd")]
    NotZstd,
}

/// Options that are not built into the kernel: a clause after its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is built without {}", .0.join(", "))]
pub(super) struct MissingOptions(pub(super) Vec<String>);

/// A module that the kernel does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has no module {0}")]
pub(super) struct MissingModule(pub(super) String);

/// The compressed kernel inside a bzImage (Linux, `Documentation/arch/x86/boot.rst`, fields `setup_sects`,
/// `payload_offset`, `payload_length`), without the size that the kernel's build appends to it.
///
/// # Errors
/// [`InvalidKernel`].
pub(super) fn find_payload(image: &[u8]) -> Result<&[u8], InvalidKernel> {
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    const APPENDED_SIZE_BYTES: usize = 4;
    let u32_at = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return Err(InvalidKernel::NotABzImage);
    }
    let (Some(&sectors), Some(offset), Some(length)) = (image.get(0x1f1), u32_at(0x248), u32_at(0x24c)) else {
        return Err(InvalidKernel::Truncated);
    };
    // "If setup_sects is 0, the real value is 4."
    let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
    let begin = (sectors + 1) * 512 + offset;
    let end = (begin + length).checked_sub(APPENDED_SIZE_BYTES).ok_or(InvalidKernel::NoPayload)?;
    let payload = image.get(begin..end).ok_or(InvalidKernel::ShorterThanHeader)?;
    if payload.starts_with(ZSTD) { Ok(payload) } else { Err(InvalidKernel::NotZstd) }
}

/// Checks that each of `wanted` (without `CONFIG_`) is built into the kernel with this configuration (Debian's `/boot/config-*`).
///
/// # Errors
/// [`MissingOptions`], all of them.
pub(super) fn check_built_in_options(config: &str, wanted: &[String]) -> Result<(), MissingOptions> {
    let built_in: BTreeSet<&str> =
        config.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.strip_suffix("=y")).collect();
    let missing: Vec<String> =
        wanted.iter().filter(|name| !built_in.contains(name.as_str())).map(|name| format!("CONFIG_{name}=y")).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingOptions(missing)) }
}

/// The paths (as in `modules.dep`) of `wanted` and their dependencies, each after its dependencies. Modules in `modules_builtin` are
/// part of the kernel and have no file.
///
/// # Errors
/// [`MissingModule`].
pub(super) fn module_load_order(
    modules_dep: &str,
    modules_builtin: &str,
    wanted: &[String],
) -> Result<Vec<String>, MissingModule> {
    let built_in: BTreeSet<&str> = modules_builtin.lines().map(module_name).collect();
    // depmod(8): "path: dependency dependency …", the dependencies in the order in which to *unload* them.
    let dependencies: BTreeMap<&str, Vec<&str>> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, list)| (path, list.split_ascii_whitespace().rev().collect()))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in wanted.iter().filter(|name| !built_in.contains(name.as_str())) {
        let path =
            dependencies.keys().find(|path| module_name(path) == name).ok_or_else(|| MissingModule(name.clone()))?;
        for path in dependencies[path].iter().chain([path]) {
            if !order.iter().any(|known| known == path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

/// `virtio_blk` of `kernel/drivers/block/virtio_blk.ko.xz`.
pub(super) fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

/// Package → version of all installed packages, from dpkg's status file.
pub(super) fn parse_installed_packages(status: &str) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().to_owned())
        };
        if let (Some(package), Some(version), Some(state)) = (field("Package"), field("Version"), field("Status"))
            && state.ends_with(" installed")
        {
            packages.insert(package, version);
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x260];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.resize(2 * 512 + 16, 0);
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn the_payload_is_found_without_the_appended_size() {
        let image = bz_image(b"\x28\xb5\x2f\xfdkernelSIZE");
        assert_eq!(find_payload(&image), Ok(&b"\x28\xb5\x2f\xfdkernel"[..]));
    }

    #[test]
    fn invalid_kernel_is_an_error_with_the_reason() {
        assert_eq!(find_payload(b"\x7fELF"), Err(InvalidKernel::NotABzImage));
        assert_eq!(find_payload(&bz_image(b"\x1f\x8bgzipSIZE")), Err(InvalidKernel::NotZstd));
        let image = bz_image(b"\x28\xb5\x2f\xfdkernelSIZE");
        assert_eq!(find_payload(&image[..image.len() - 6]), Err(InvalidKernel::ShorterThanHeader));
    }

    #[test]
    fn module_is_listed_once_and_after_its_dependencies() {
        let dep = "k/net/vsock.ko.xz:\nk/net/common.ko.xz: k/net/vsock.ko.xz\n\
                   k/net/virtio.ko.xz: k/net/common.ko.xz k/net/vsock.ko.xz\nk/fs/overlay.ko.xz:\n";
        let wanted = ["overlay", "virtio", "common"].map(str::to_owned);
        let order = module_load_order(dep, "", &wanted).unwrap();
        assert_eq!(
            order.iter().map(|path| module_name(path)).collect::<Vec<_>>(),
            ["overlay", "vsock", "common", "virtio"]
        );
        assert_eq!(module_load_order(dep, "", &["tun".into()]), Err(MissingModule("tun".into())));
        assert_eq!(module_load_order(dep, "kernel/drivers/net/tun.ko\n", &["tun".into()]), Ok(Vec::new()));
    }

    #[test]
    fn option_that_is_a_module_or_absent_is_an_error_with_its_name() {
        let config = "CONFIG_PVH=y\nCONFIG_VIRTIO_MMIO=m\n# CONFIG_X86_MPPARSE is not set\nCONFIG_PVH_EXTRA=y\n";
        let check = |names: &[&str]| {
            check_built_in_options(config, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(check(&["PVH"]), Ok(()));
        let error = check(&["PVH", "VIRTIO_MMIO", "X86_MPPARSE", "VMGENID"]).unwrap_err();
        assert_eq!(error.to_string(), "is built without CONFIG_VIRTIO_MMIO=y, CONFIG_X86_MPPARSE=y, CONFIG_VMGENID=y");
    }

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: deinstall ok config-files\nVersion: 2\n";
        assert_eq!(parse_installed_packages(status), BTreeMap::from([("a".into(), "1".into())]));
    }
}
