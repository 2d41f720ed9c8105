#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ on their corpora, two at a time, with the stable toolchain.
# Usage: scripts/fuzz.sh [--seconds N] [--keep] [TARGET…]     default: 20 s, all targets; --keep adds what it finds to the corpora, minimised
set -euo pipefail
cd "$(dirname "$0")/.."
. ./scripts/steps.sh

seconds=20 keep=
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --keep) keep=1 ;;
    -*) fail "unknown argument $1; usage: scripts/fuzz.sh [--seconds N] [--keep] [TARGET…]" ;;
    *) targets+=("$1") ;;
  esac
  shift
done
if [ "${#targets[@]}" -eq 0 ]; then for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done; fi

packages g++   # libFuzzer is C++
need_rust
step "Building the fuzz targets"
# Only the crates of the workspace are compiled again, with libFuzzer's counters; the dependencies are those of the tests' build.
RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/fuzz_rustc.sh CARGO_INCREMENTAL=0 \
  cargo build --locked --workspace --features anteroom-fuzz/fuzzing --example with_features_of_tests "${targets[@]/#/--bin=}"
programs=$built/debug
work=$built/fuzz
mkdir -p "$work"

# Runs one target; its new inputs stay out of the committed corpus.
run_target() {
  local target=$1 new=$work/$1/new
  mkdir -p "$new" "$work/$1/failures"
  # A target's temporary files stay in its folder.
  rm -rf "$work/$target/tmp" && mkdir "$work/$target/tmp"
  TMPDIR=$work/$target/tmp "$programs/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -close_fd_mask=1 -print_final_stats=1 \
    -artifact_prefix="$work/$target/failures/" "$new" "fuzz/corpus/$target" > "$work/$target/log" 2>&1
}

# Prints the result of a target: executions, edges of the control flow that were reached, inputs that reach them. Without counters there are none.
report() {
  local target=$1 runs last
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target/log")
  last=$(grep -o 'cov: [0-9]* .*corp: [0-9]*' "$work/$target/log" | tail -n 1)
  [[ $last =~ ^cov:\ ([0-9]+).*corp:\ ([0-9]+)$ ]] || return 1
  printf '%-24s %12s executions %6s edges %6s inputs\n' "$target" "${runs:-0}" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
}

step "Fuzzing ${#targets[@]} targets for $seconds s each"
failed=()
declare -A running=()
# Waits until one of the running targets has ended, and reports it.
finish_one() {
  local ended status=0
  wait -n -p ended "${!running[@]}" || status=$?
  if [ "$status" -ne 0 ] || ! report "${running[$ended]}"; then failed+=("${running[$ended]}"); fi
  unset "running[$ended]"
}
for target in "${targets[@]}"; do
  if [ "${#running[@]}" -eq 2 ]; then finish_one; fi
  run_target "$target" &
  running[$!]=$target
done
while [ "${#running[@]}" -gt 0 ]; do finish_one; done

for target in "${failed[@]}"; do
  printf '\n%s failed; run it again with: %s/%s FILE\n' "$target" "$programs" "$target" >&2
  grep -E 'panicked|ERROR|SUMMARY|Test unit written' -A1 "$work/$target/log" >&2 || tail -n 20 "$work/$target/log" >&2
done
[ "${#failed[@]}" -eq 0 ] || fail "${#failed[@]} of ${#targets[@]} fuzz targets found a fault"

if [ -n "$keep" ]; then
  step "Minimising the corpora"
  for target in "${targets[@]}"; do
    minimal=$work/$target/minimal
    rm -rf "$minimal" && mkdir -p "$minimal"
    # Without counters: an input is kept for an edge that no other reaches, not for the number of times.
    "$programs/$target" -set_cover_merge=1 -use_counters=0 -max_len=2048 "$minimal" "fuzz/corpus/$target" "$work/$target/new" > "$work/$target/log" 2>&1
    # The largest inputs go until the corpus has at most 200 KiB.
    find "$minimal" -type f -printf '%s %p\n' | sort -n | awk '{ bytes += $1 } bytes > 200 * 1024 { print $2 }' | xargs -r rm
    rm -rf "fuzz/corpus/$target" && mv "$minimal" "fuzz/corpus/$target"
  done
fi
