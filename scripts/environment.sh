# Sourced by the other scripts: makes .venv with the product and the extras named as arguments, again whenever the
# requirements change. Extras other than none and [test,docs] have no list in scripts/locked/.
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
  local extras="$1" python state installed locked
  python="$(find_python)"
  state="$(cat setup.cfg pyproject.toml constraints.txt scripts/locked/*.txt | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
  installed="$(cat .venv/installed 2>/dev/null || true)"
  # An environment with extras also serves calls without them.
  if [ "$installed" != "$state $extras" ] && { [ -n "$extras" ] || [ "${installed%% *}" != "$state" ]; }; then
    echo "installing ggn-tf and its requirements into $root/.venv"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    locked=product
    [ -z "$extras" ] || locked=test
    # Every downloaded file is compared with its digest. What is imported is compiled then: all of it would take a minute.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r "scripts/locked/$locked.txt"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    echo "$state $extras" > .venv/installed
  fi
}

# pyradiomics has no wheel for current Pythons, and its archive cannot be built in isolation: it needs numpy and setuptools
# at build time, and since Python 3.12 a class that was removed from configparser.
install_radiomics() {
  local shim
  compgen -G '.venv/lib/python*/site-packages/pyradiomics-*' > /dev/null && return
  echo "building pyradiomics into $root/.venv"
  shim="$(mktemp -d)"
  cat > "$shim/sitecustomize.py" <<'PY'
import configparser

if not hasattr(configparser, "SafeConfigParser"):
    configparser.SafeConfigParser = configparser.ConfigParser
    configparser.ConfigParser.readfp = configparser.ConfigParser.read_file
PY
  .venv/bin/python -m pip install --quiet --disable-pip-version-check setuptools wheel
  if ! PYTHONPATH="$shim" .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
    --no-build-isolation -e ".[radiomics]"; then
    rm -r "$shim"
    echo "note: pyradiomics could not be built (is there a C compiler, and are Python's headers there?)" >&2
    return 1
  fi
  rm -r "$shim"
}

# The archive of the integration tests: Debian's packages, unpacked and neither installed nor started.
install_orthanc() {
  local folder
  if [ -x .venv/orthanc/usr/sbin/Orthanc ] || command -v Orthanc > /dev/null; then
    return
  fi
  folder="$(mktemp -d)"
  mkdir "$folder/partial"
  download_orthanc() {
    apt-get install -qq --yes --download-only --no-install-recommends -o APT::Sandbox::User=root \
      -o "Dir::Cache::archives=$folder" orthanc orthanc-dicomweb > /dev/null
  }
  if ! { download_orthanc || { apt-get update -qq && download_orthanc; }; } 2> /dev/null; then
    rm -r "$folder"
    echo "note: Orthanc cannot be downloaded here (it needs root, apt-get and Debian's packages)" >&2
    return 1
  fi
  rm -rf .venv/orthanc.part .venv/orthanc
  printf '%s\0' "$folder"/*.deb | xargs -0 -I{} dpkg -x {} .venv/orthanc.part && mv .venv/orthanc.part .venv/orthanc
  rm -rf "$folder" .venv/orthanc.part
  [ -d .venv/orthanc ] || { echo "note: Orthanc's packages could not be unpacked" >&2; return 1; }
}

# The viewer of the integration tests: the files of OHIF's web application, which need no Node once they are there.
install_ohif() {
  local folder version=3.13.2 digest=b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1
  [ "$(cat .venv/ohif/version 2>/dev/null)" != "$version" ] || return 0
  folder="$(mktemp -d)"
  if ! npm pack --silent --pack-destination "$folder" "@ohif/app@$version" > /dev/null 2>&1; then
    rm -r "$folder"
    echo "note: OHIF cannot be downloaded here (it needs npm and its registry)" >&2
    return 1
  fi
  if ! .venv/bin/python -m pip hash "$folder/ohif-app-$version.tgz" | grep -q "sha256:$digest"; then
    rm -r "$folder"
    echo "error: OHIF $version has another digest than when it was tested" >&2
    # The caller continues without what could not be downloaded, and not here.
    exit 1
  fi
  rm -rf .venv/ohif.part .venv/ohif
  # Without the models of a tool that the tests do not use.
  mkdir .venv/ohif.part &&
    tar -xzf "$folder/ohif-app-$version.tgz" -C .venv/ohif.part --strip-components=2 --exclude=package/dist/ort package/dist &&
    echo "$version" > .venv/ohif.part/version && mv .venv/ohif.part .venv/ohif
  rm -rf "$folder" .venv/ohif.part
  [ -d .venv/ohif ] || { echo "note: OHIF could not be unpacked" >&2; return 1; }
}
