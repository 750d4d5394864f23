# Sourced by the other scripts: makes .venv with the product and the extras named as arguments, once for each state of
# the requirements.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11, 3.12 or 3.13 found; set PYTHON to one" >&2
  return 1
}

install() {
  local extras="$1" state
  state="$extras $(cat setup.cfg pyproject.toml constraints.txt | sha256sum)"
  if [ "$(cat .venv/installed 2>/dev/null)" != "$state" ]; then
    local python
    python="$(find_python)"
    echo "installing ggn-tf and its requirements into $root/.venv"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$extras"
    echo "$state" > .venv/installed
  fi
}
