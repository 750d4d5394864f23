#!/usr/bin/env bash
# Installs Debian's headless Chromium and its driver, for the tests that open the report, if they are missing and if that is
# possible: as root, with apt-get.
set -euo pipefail
if command -v chromium > /dev/null && command -v chromedriver > /dev/null; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "note: chromium and chromium-driver are missing and cannot be installed here" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium chromium-driver > /dev/null
