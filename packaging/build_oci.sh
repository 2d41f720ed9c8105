#!/usr/bin/env bash
# Makes an OCI image from the Debian package, without a container engine: LAYOUT is an OCI layout with the tag `anteroom`. It has Debian 12,
# QEMU and the package; not the machine image, which belongs into the volume /var/cache/anteroom (docs/install.md). Needs root.
# Usage: packaging/build_oci.sh PACKAGE.deb LAYOUT     (Debian packages: mmdebstrap, umoci)
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: packaging/build_oci.sh PACKAGE.deb LAYOUT" >&2; exit 2; }
deb=$(realpath "$1") layout=$(realpath -m "$2")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$deb")}
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
version=$(dpkg-deb --field "$deb" Version)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

options=(--quiet --variant=essential --format=tar '--aptopt=Apt::Install-Recommends "false"')
for path in '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/doc/*'; do options+=("--dpkgopt=path-exclude=$path"); done
options+=('--dpkgopt=path-include=/usr/share/doc/*/copyright' --include=adduser,ca-certificates,qemu-system-x86,tini)
# The ids are part of the image, so that volumes keep their owner.
options+=('--customize-hook=chroot "$1" groupadd --gid 7060 anteroom'
  '--customize-hook=chroot "$1" useradd --uid 7060 --gid 7060 --home-dir /var/lib/anteroom --no-create-home anteroom'
  "--customize-hook=copy-in '$deb' /tmp" "--customize-hook=chroot \"\$1\" sh -c 'dpkg --install /tmp/*.deb && rm /tmp/*.deb'")
mmdebstrap "${options[@]}" bookworm "$work/layer.tar" >&2

rm -rf "$layout"
umoci init --layout "$layout"
umoci new --image "$layout:anteroom"
umoci raw add-layer --image "$layout:anteroom" --history.created "$created" --history.created_by packaging/build_oci.sh "$work/layer.tar"
umoci config --image "$layout:anteroom" --created "$created" --no-history --os linux --architecture amd64 \
  --config.user anteroom --config.workingdir /var/lib/anteroom --config.stopsignal SIGTERM \
  --config.env ANTEROOM_CONFIG=/etc/anteroom/anteroom.toml --config.env ANTEROOM_LISTEN=0.0.0.0:7060 --config.env container=oci \
  --config.exposedports 7060/tcp --config.volume /var/lib/anteroom --config.volume /var/cache/anteroom \
  --config.label "org.opencontainers.image.title=anteroom" --config.label "org.opencontainers.image.version=$version" \
  --config.label "org.opencontainers.image.licenses=Apache-2.0" \
  --config.entrypoint /usr/bin/tini --config.entrypoint -- --config.entrypoint /usr/bin/anteroom --config.cmd serve
umoci gc --layout "$layout"
