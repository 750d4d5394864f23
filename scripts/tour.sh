#!/usr/bin/env bash
# The whole product once, from nothing: environment, synthetic CTs, training, evaluation, export, a served prediction.
# All output is in the folder that is its argument (default: tour).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install ""
export PATH="$root/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3

out="${1:-tour}"
if [ -e "$out" ]; then
  echo "error: $out exists; name another folder: scripts/tour.sh FOLDER" >&2
  exit 1
fi
mkdir -p "$out"
cd "$out"

step() { printf '\n== %s\n' "$*"; "$@"; }

step ggn-tf phantom ct --nodules 120 --seed 1
step ggn-tf prepare ct/cases.csv -o dataset
step ggn-tf fit dataset --task AAH+AIS,MIA+IAC --stage joint --epochs 25,45,10 --learning-rates 1e-3,1e-3,1e-4 -o runs/tour
step ggn-tf evaluate runs/tour
step ggn-tf export runs/tour -o models/ggn

printf '\n== ggn-tf serve models/ggn\n'
ggn-tf serve models/ggn --port 0 > serve.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 120); do
  address="$(sed -n 's/^serving .* on \([^ ]*:[0-9]*\).*$/\1/p' serve.log)"
  [ -z "$address" ] || break
  kill -0 $server 2>/dev/null || { cat serve.log >&2; exit 1; }
  sleep 0.5
done
cat serve.log

read -r ct mask < <(python - <<'PY'
import csv
row = next(csv.DictReader(open("ct/cases.csv")))
print("ct/" + row["image"], "ct/" + row["mask"])
PY
)
step ggn-tf predict --ct "$ct" --mask "$mask" --server "$address" -o prediction

cat <<SUMMARY

All output is in $PWD:
  ct/                           synthetic CTs (DICOM), masks, cases.csv
  dataset/                      the prepared dataset: patches, splits, previews
  runs/tour/                    the run; tensorboard --logdir $PWD/runs/tour/tensorboard
  runs/tour/evaluation/         predictions.csv, scores.json, figures, report.html
  models/ggn/                   the SavedModel that TensorFlow Serving loads
  prediction/                   the served prediction on the CT's own grid
SUMMARY
