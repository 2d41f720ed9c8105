#!/usr/bin/env bash
# Generates the clients of the API from web/openapi.json and compiles them. Usage: clients/build.sh [DIRECTORY]; default: target/clients.
# Prerequisites: Node 20 with `npm ci` in web/, and Python 3.11.
set -euo pipefail
cd "$(dirname "$0")"
out=$(realpath -m "${1:-${CARGO_TARGET_DIR:-../target}/clients}")
tools=${ANTEROOM_TEST_PYTHON_TOOLS:-$(../scripts/python_tools.sh)}
rm -rf "$out"
mkdir -p "$out"
cp -r python typescript "$out/"

PATH=$tools:$PATH "$tools/openapi-python-client" generate --path ../web/openapi.json --meta none --fail-on-warning \
  --config python/generator.yaml --output-path "$out/python/anteroom_client/api_client"
"$tools/python" -m compileall -q "$out/python/anteroom_client"

web=$(realpath ../web)
"$web/node_modules/.bin/openapi-typescript" ../web/openapi.json --output "$out/typescript/src/api-types.ts" --empty-objects-unknown
"$web/node_modules/.bin/tsc" -p "$out/typescript/tsconfig.json"
