#!/usr/bin/env bash
# Builds everything that a release consists of into DIR: the Debian package and the one with its debug symbols, an archive of the program
# for other distributions, the machine image, bills of materials (CycloneDX), and SHA256SUMS. The same programs give the same packages
# and archive: times come from SOURCE_DATE_EPOCH, by default that of the last commit.
# Usage: scripts/release.sh DIR [release|debug]     debug: packs the debug build as it is, without bills of materials and machine image
set -euo pipefail
cd "$(dirname "$0")/.."
. ./scripts/steps.sh

[ $# -ge 1 ] || fail "usage: scripts/release.sh DIR [release|debug]"
out=$(realpath -m "$1") profile=${2:-release}
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
mkdir -p "$out"
[ -z "$(ls -A "$out")" ] || fail "$out is not empty"

if [ "$profile" = release ]; then
  packages qemu-system-x86 mmdebstrap squashfs-tools uidmap debian-archive-keyring xz-utils build-essential ca-certificates
  need_rust
  need_node
  build_pages
  build_release
fi
step "The Debian package"
packaging/build_deb.sh "$out" "$profile" "$version"

step "The archive for other distributions"
name=anteroom-$version-x86_64-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --extract "$out/anteroom_${version}_amd64.deb" "$work/deb"
mkdir -p "$work/$name"/packaging
cp -r "$work"/deb/usr/{bin,lib,share/man,share/bash-completion,share/zsh,share/fish} "$work/$name/"
cp -r LICENSE README.md SECURITY.md CHANGELOG.md anteroom.example.toml providers "$work/$name/"
cp --parents docs/*.md docs/decisions/*.md "$work/$name/"
cp -r packaging/{anteroom.service,anteroom.toml,apparmor,cluster,deb,kubernetes,nomad,proxies} "$work/$name/packaging/"
tar -C "$work" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" \
  | gzip -9n > "$out/$name.tar.gz"

if [ "$profile" = release ]; then
  step "The machine image (cached by the hash of its inputs)"
  "$built/release/anteroom" image build
  "$built/release/anteroom" image export "$out/anteroom-image-$version.tar"
  ./scripts/sbom.sh "$out" "$built/release/anteroom"
fi
step "SHA256SUMS"
(cd "$out" && find . -maxdepth 1 -type f ! -name '*SUMS*' ! -name '*.sha256' -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum > SHA256SUMS)
(cd "$out" && sha256sum --check --quiet SHA256SUMS && ls -l)
