#!/usr/bin/env bash
# Makes everything that is committed here:   bash results/make.sh [nw_ucla_all_sqe.zip]
# What records.tar.xz holds is not measured again; without that file, all of it takes many hours on two cores (--plan says how many).
set -uo pipefail
archive=${1:+$(realpath "$1")}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
status=0

bench() { python run_bench.py --protocols knn,linear "$@" || status=1; }  # a stage that fails keeps nothing else

[ ! -f results/records.tar.xz ] || tar -xJf results/records.tar.xz -C results --skip-old-files || exit
[ -z "$archive" ] || python run_bench.py data prepare nw_ucla --source "$archive" || exit

bench --methods all --set encoder=all
bench --ablate all
bench --methods all --datasets nw_ucla/xview
python run_bench.py compare
python run_bench.py figures curves knn_linear confusion gain || status=1  # what records without weights can show
python run_bench.py report || status=1

# Records and scores, enough for every table and every page; no weights, no features, and nothing about the machine.
(cd results && find runs \( -name '*.json' -o -path 'runs/evaluate/*' -name scores.npz \) ! -name provenance.json | sort) |
    tar -cJf results/records.tar.xz -C results --files-from=- --owner=0 --group=0 --mtime=@0 || status=1
exit "$status"
