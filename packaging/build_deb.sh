#!/usr/bin/env bash
# Makes the Debian package from the programs that are built, in DIR: anteroom_VERSION_amd64.deb and, of a release build, the package
# with its debug symbols. Prints the paths.
# Usage: packaging/build_deb.sh DIR [release|debug] [VERSION]     VERSION: default that of Cargo.toml
set -euo pipefail
cd "$(dirname "$0")/.."
. ./scripts/steps.sh

[ $# -ge 1 ] || fail "usage: packaging/build_deb.sh DIR [release|debug] [VERSION]"
out=$(realpath -m "$1") profile=${2:-release}
version=${3:-$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
need_cargo_program cargo-deb --debug >&2
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}

stage=$built/$profile/package
exec 9>"$stage.lock"
flock 9
rm -rf "$stage"
mkdir -p "$stage/lib" "$stage/completions" "$out"
cp "$built"/x86_64-unknown-linux-gnu/guest/anteroom-{agent,demo-cli} "$stage/lib/"
"$built/$profile/anteroom" man "$stage/man"
gzip -9n "$stage"/man/*
for shell in bash zsh fish; do "$built/$profile/anteroom" completions "$shell" > "$stage/completions/$shell"; done
{
  printf 'anteroom (%s) stable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n' "$version"
  printf ' -- Anteroom maintainers <maintainers@anteroom.invalid>  %s\n' "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$stage/changelog.gz"

arguments=(--package anteroom-cli --no-build --quiet --deb-version "$version" --output "$out/")
if [ "$profile" = release ]; then arguments+=(--dbgsym); else arguments+=(--profile dev --strip --no-dbgsym --fast); fi
cargo deb "${arguments[@]}"
