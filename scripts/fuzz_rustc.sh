#!/usr/bin/env bash
# Compiles a crate of the workspace for the fuzz targets: what cargo-fuzz passes, without the sanitizers, which stable Rust does not have.
# Cargo runs it as RUSTC_WORKSPACE_WRAPPER, so that the dependencies are those of the debug build. Clippy checks what only the targets compile.
set -euo pipefail

crate=
for ((at = 1; at < $#; at++)); do
  if [ "${!at}" = --crate-name ]; then next=$((at + 1)) crate=${!next}; fi
done
case $crate in
  build_script_build) exec clippy-driver "$@" ;;   # it runs without libFuzzer
  # Large crates, of which the targets use little: optimising them takes longer than it gains.
  anteroom_agent | anteroom_controller | anteroom_machine | anteroom_server | anteroom_store) level=0 ;;
  *) level=1 ;;
esac
exec clippy-driver "$@" -Copt-level=$level -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
