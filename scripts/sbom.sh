#!/usr/bin/env bash
# Writes the software bills of materials (CycloneDX, JSON) of the server's binary and of the current image into DIR, and validates them against
# CycloneDX's schema. Needs the built program and an image.
# Usage: scripts/sbom.sh DIR [PROGRAM]     PROGRAM: default target/debug/anteroom
set -euo pipefail
cd "$(dirname "$0")/.."
. ./scripts/steps.sh

[ $# -ge 1 ] || fail "usage: scripts/sbom.sh DIR [PROGRAM]"
out=$1 program=${2:-$built/debug/anteroom}
mkdir -p "$out"
packages python3-pip
need_rust
need_cargo_program cargo-cyclonedx

# The program writes one file into the directory of each crate.
remove_written() { find crates fuzz -maxdepth 2 -name '*.cdx.json' -delete; }
trap remove_written EXIT
cargo cyclonedx --quiet --manifest-path crates/cli/Cargo.toml --format json --spec-version 1.5 --describe binaries --target x86_64-unknown-linux-gnu
# Without the path of this working copy.
sed "s#$PWD#.#g" crates/cli/anteroom_bin.cdx.json > "$out/anteroom.cdx.json"
"$program" image sbom > "$out/image.cdx.json"

validator=$built/cyclonedx-validator
[ -d "$validator" ] || pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$validator" 'cyclonedx-python-lib[json-validation]==11.12.0'
PYTHONPATH=$validator python3 - "$out/anteroom.cdx.json" "$out/image.cdx.json" <<'EOF'
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for path in sys.argv[1:]:
    text = open(path).read()
    bom = json.loads(text)
    fault = JsonStrictValidator(SchemaVersion.from_version(bom["specVersion"])).validate_str(text)
    if fault is not None:
        sys.exit(f"{path} is not valid CycloneDX {bom['specVersion']}: {fault}")
    count = len(bom.get("components", []))
    if count < 100:
        sys.exit(f"{path} has only {count} components")
    print(f"{path}: {count} components, valid CycloneDX {bom['specVersion']}")
EOF
