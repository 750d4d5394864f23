#!/usr/bin/env bash
# Compares our scores, loss and exports with tensorflow-addons and the last TensorFlow that it works with, which cannot be
# installed beside ours: it has an environment of its own, .venv-addons, and the two exchange files.
# Without Python 3.11 or a wheel it is skipped with a note; with GGN_TF_REQUIRE_ADDONS it fails instead.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

missing() {
  echo "note: not compared with tensorflow-addons: $1" >&2
  [ -z "${GGN_TF_REQUIRE_ADDONS:-}" ] && exit 0
  exit 1
}

find_python_3_11() {
  local candidate
  for candidate in "${PYTHON_3_11:-}" python3.11 python3 .venv/bin/python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

install ""
python="$(find_python_3_11)" || missing "there is no Python 3.11; set PYTHON_3_11 to one"
state="$(cksum < scripts/addons/constraints.txt)"
if [ "$(cat .venv-addons/installed 2>/dev/null || true)" != "$state" ]; then
  echo "installing tensorflow-addons into $root/.venv-addons"
  rm -rf .venv-addons
  "$python" -m venv .venv-addons
  .venv-addons/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/addons/constraints.txt \
    tensorflow-cpu tensorflow-addons || missing "its wheels could not be installed"
  echo "$state" > .venv-addons/installed
fi

files="$(mktemp -d)"
trap 'rm -rf "$files"' EXIT
export TF_CPP_MIN_LOG_LEVEL=3
.venv/bin/python scripts/addons/ours.py "$files"
env -u PYTHONPATH .venv-addons/bin/python scripts/addons/theirs.py "$files"
