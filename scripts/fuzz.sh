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
# What cargo-fuzz passes, without the sanitizers, which stable Rust does not have. `--target` keeps build scripts out of it.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
  cargo build --locked --release --manifest-path fuzz/Cargo.toml --target x86_64-unknown-linux-gnu --target-dir "$built/fuzz" --bins
programs=$built/fuzz/x86_64-unknown-linux-gnu/release
work=$built/fuzz/work
mkdir -p "$work"

# Runs one target; its new inputs stay out of the committed corpus.
run_target() {
  local target=$1 new=$work/$1/new
  mkdir -p "$new" "$work/$1/failures"
  "$programs/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -close_fd_mask=1 -print_final_stats=1 \
    -artifact_prefix="$work/$target/failures/" "$new" "fuzz/corpus/$target" > "$work/$target/log" 2>&1
}

report() {
  local target=$1 runs
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target/log")
  printf '%-24s %12s executions\n' "$target" "${runs:-0}"
}

step "Fuzzing ${#targets[@]} targets for $seconds s each"
failed=()
for ((at = 0; at < ${#targets[@]}; at += 2)); do
  running=() pair=("${targets[@]:at:2}")
  for target in "${pair[@]}"; do
    [ -x "$programs/$target" ] || fail "there is no target $target; see fuzz/fuzz_targets"
    run_target "$target" &
    running+=($!)
  done
  for index in "${!running[@]}"; do
    wait "${running[$index]}" || failed+=("${pair[$index]}")
    report "${pair[$index]}"
  done
done

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
    "$programs/$target" -merge=1 -max_len=2048 "$minimal" "fuzz/corpus/$target" "$work/$target/new" > "$work/$target/log" 2>&1
    rm -rf "fuzz/corpus/$target" && mv "$minimal" "fuzz/corpus/$target"
  done
fi
