#!/usr/bin/env bash
# Builds what a release publishes, into dist/: wheel, source archive, the list of all packages that an installation takes (SBOM,
# CycloneDX), and the digests of these files. The wheel is installed as a user would install it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools/build"
python3 -m venv "$tools/user"
"$tools/build/bin/pip" install --quiet --disable-pip-version-check build cyclonedx-bom
rm -rf dist
"$tools/build/bin/python" -m build --outdir dist .
"$tools/user/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r scripts/locked/product.txt
"$tools/user/bin/pip" install --quiet --disable-pip-version-check --no-deps dist/*.whl
version="$("$tools/user/bin/ggn-tf" --version | sed 's/.* //')"
"$tools/build/bin/cyclonedx-py" environment --output-reproducible --output-file "dist/ggn_tf-$version.cdx.json" \
  "$tools/user/bin/python"
(cd dist && sha256sum ./* > SHA256SUMS)
