#!/usr/bin/env bash
# Makes a root directory of a distribution with systemd and what the Debian package depends on, and prints its path. It has no compiler
# and no Node. Cached by the hash of this file for a month; then it is made again, with the packages of then. Needs root.
# Usage: packaging/test_root.sh debian|ubuntu
set -euo pipefail
cd "$(dirname "$0")"

distribution=$1
hash=$({ cat test_root.sh; date -u +%Y-%m; } | sha256sum | cut -c1-16)
tests=${XDG_CACHE_HOME:-$HOME/.cache}/anteroom/tests
directory=$tests/root-$distribution-$hash
mkdir -p "$tests"
exec 9>"$tests/root-$distribution.lock"
flock 9
if [ ! -e "$directory.complete" ]; then
  rm -rf "$tests/root-$distribution-"*
  options=(--quiet --variant=apt '--aptopt=Apt::Install-Recommends "false"'
    --include=adduser,ca-certificates,init-system-helpers,mount,qemu-system-x86,systemd,systemd-sysv)
  case $distribution in
    debian) mmdebstrap "${options[@]}" bookworm "$directory" >&2 ;;
    # Signed with Ubuntu's archive key of 2018, which Debian has in no package: F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C.
    ubuntu) mmdebstrap "${options[@]}" --include=apparmor --components=main,universe --keyring=ubuntu-archive-2018.asc noble "$directory" >&2 ;;
    *) echo "usage: packaging/test_root.sh debian|ubuntu" >&2; exit 2 ;;
  esac
  touch "$directory.complete"
fi
echo "$directory"
