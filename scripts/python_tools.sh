#!/usr/bin/env bash
# Prepares the Python programs that the tests of the API and of the webhook use (scripts/python_tools.txt) and prints the directory with them. Cached by the
# hash of that list and Python's version.
set -euo pipefail
cd "$(dirname "$0")"

hash=$({ cat python_tools.txt; python3 -c 'import sys; print(sys.version, sys.executable)'; } | sha256sum | cut -c1-16)
directory=${XDG_CACHE_HOME:-$HOME/.cache}/anteroom/tests/python-tools-$hash
mkdir -p "${directory%/*}"
exec 9>"$directory.lock"
flock 9
if [ ! -e "$directory/complete" ]; then
  rm -rf "$directory"
  python3 -m venv "$directory" >&2
  "$directory/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement python_tools.txt >&2
  touch "$directory/complete"
fi
echo "$directory/bin"
