#!/usr/bin/env bash
# Writes scripts/locked/: every package that an installation takes, with its version from constraints.txt where that has one,
# and the digests of its files. For all supported Pythons and systems. Run it after a change of setup.cfg or constraints.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check uv
lock() {
  "$tools/bin/uv" pip compile setup.cfg --universal --python-version 3.11.7 --constraint constraints.txt --generate-hashes \
    --no-annotate --no-header --quiet --output-file "scripts/locked/$1.txt" "${@:2}"
}
lock product
lock test --extra test --extra docs
