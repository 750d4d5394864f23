#!/usr/bin/env bash
# Every check of the repository: format, lint, types, layers, tests. Makes its own environment.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install "[test]"
# Without it, the tests that measure radiomic features are skipped and say so.
install_radiomics || true
export PATH="$root/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3
ruff format --check .
ruff check .
mypy
lint-imports
# A file's tests stay in one process. In their order, not by the number of tests: the files with few take longest.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
