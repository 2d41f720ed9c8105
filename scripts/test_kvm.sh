#!/usr/bin/env bash
# Tests what needs KVM that boots Linux, with machines of QEMU on KVM and of Firecracker. Run by `./test --kvm`; see docs/kvm.md.
# Exits with an error if KVM does not boot Linux here, or if a test fails. Lists what was not run, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./scripts/steps.sh

no_kvm() { fail "KVM does not boot Linux here: $*
       docs/kvm.md describes hosts where it does."; }

# Fails unless these steps of KVM succeed: device, guest, Linux.
need_kvm() {
  # `doctor` also fails for checks that are about something else.
  { "$built/debug/anteroom" doctor --json || true; } | node scripts/need_kvm.mjs "$@"
}

# The tests that did not run, with their reasons, from a JUnit report.
not_run() {
  awk 'match($0, /<testcase name="[^"]*"/) { test = substr($0, RSTART + 16, RLENGTH - 17) }
    match($0, /(not run|skipped): .*/) { reason = substr($0, RSTART, RLENGTH); sub(/<\/system-.*/, "", reason); print test " " reason }' "$1" \
    | sed 's/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&apos;/'"'"'/g; s/&amp;/\&/g' | sort -u
}

# Runs the tests of a kind of machine that match a filter.
test_kind() {
  local kind=$1 filter=$2 report=$built/nextest/kvm/junit.xml result=passed reasons
  step "Tests with machines of $kind"
  rm -f "$report"
  if ! ANTEROOM_TEST_KIND=$kind cargo nextest run --locked --profile kvm -p anteroom-machine -p anteroom-testbed -E "$filter"; then
    result=FAILED
    failed=1
  fi
  if [ ! -f "$report" ]; then result="FAILED: no test was run"; failed=1; reasons=; else reasons=$(not_run "$report"); fi
  summary+="$kind: $result"$'\n'
  if [ -n "$reasons" ]; then summary+=$(sed 's/^/  /' <<<"$reasons")$'\n'; fi
}

if [ ! -e /dev/kvm ]; then no_kvm "there is no /dev/kvm"; fi
if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
  no_kvm "the user $(id -un 2>/dev/null || true) may not open /dev/kvm ($(stat -c '%A, owner %U, group %G' /dev/kvm))"
fi

test_packages
need_rust
need_node 20   # one of the released tools needs it
need_chromium
need_cargo_program cargo-nextest
build_pages
step "Building the server and the tests"
cargo build --locked -p anteroom-cli -p anteroom-machine -p anteroom-testbed -p anteroom-agent -p anteroom-demo --all-targets
step "Whether KVM runs a tiny guest"
need_kvm device guest
build_guest
build_test_image
step "Whether KVM boots Linux"
need_kvm device guest Linux

failed=
summary=
export ANTEROOM_TEST_KVM=1
common='kind(test) & binary(contract) or test(/^journey_|::journey_/)'
test_kind qemu "$common or kind(test) & binary(~qemu) or binary(conformance) & test(/^qemu::/)"

step "Firecracker"
ANTEROOM_TEST_FIRECRACKER=$(./scripts/test_firecracker.sh)
export ANTEROOM_TEST_FIRECRACKER
programs=$ANTEROOM_TEST_FIRECRACKER
if [ ! -e "$programs/missing" ]; then PATH=$PATH:$programs; fi   # one that is installed comes first
if command -v firecracker >/dev/null; then
  printf '%s: %s\n' "$(command -v firecracker)" "$(firecracker --version | head -n1)"
  test_kind firecracker "$common or kind(test) & binary(firecracker) or binary(conformance) & test(/^firecracker::/)"
else
  failed=1
  summary+="firecracker: FAILED: $(cat "$programs/missing"); docs/kvm.md describes how to install it"$'\n'
fi

step "Results"
printf '%s' "$summary"
if [ -n "$failed" ]; then fail "not all tests passed"; fi
step "All tests passed"
