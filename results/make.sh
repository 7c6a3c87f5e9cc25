#!/usr/bin/env bash
# Makes everything that is committed here: bash results/make.sh [nw_ucla_all_sqe.zip]
# Records in records.tar.xz are not measured again; without that file, all of it takes some seven hours on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -f results/records.tar.xz ]; then tar -xJf results/records.tar.xz -C results --skip-old-files; fi
if [ $# -gt 0 ]; then python run_bench.py data prepare nw_ucla --source "$1"; fi

bench() { python run_bench.py --protocols knn,linear "$@"; }
bench --methods all --datasets synthetic,nw_ucla/xview
bench --methods all --set encoder=all
bench --ablate all
python run_bench.py report

# Records and scores, no weights and no features: enough for every table, and for the page.
(cd results && find runs -name '*.json' -o -path 'runs/evaluate/*' -name scores.npz) | grep -v '/features/' | sort |
    tar -cJf results/records.tar.xz -C results --files-from=- --owner=0 --group=0 --mtime=@0
