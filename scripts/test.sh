#!/usr/bin/env bash
# Every check of the repository: format, lint, spelling, wording, types, layers, tests, and the documentation's build. Makes
# its own environment. Further arguments are passed to pytest.
#   scripts/test.sh             everything
#   scripts/test.sh --fast      all static checks, and the tests that train no network: under 3 minutes on two cores
#   scripts/test.sh --coverage  everything, and fails where fewer than 95 % of the lines are covered
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
tests=()
case "${1:-}" in
  --fast)
    shift
    tests=(-m "not slow and not nightly" tests/cases tests/evaluation/statistics tests/evaluation/report tests/test_*.py)
    ;;
  --coverage)
    shift
    tests=(--cov --cov-report=term)
    ;;
esac
install "[test,docs]"
# Without it, the tests that measure radiomic features are skipped and say so.
install_radiomics || true
# Without it, the tests with a real archive are.
install_orthanc || true
# Without it, and without Chromium, those with a viewer are.
install_ohif || true
export PATH="$root/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3
# Tests start some hundred processes: none has to compile the modules again.
unset PYTHONDONTWRITEBYTECODE
ruff format --check .
ruff check .
# It takes one core, and the others the other.
mypy &
types=$!
git ls-files -z | xargs -0 codespell
lint-imports
wait "$types"
# All tests of a file run in the same process. The order is that of the files: those with few tests take longest.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${tests[@]}" "$@"
