#!/usr/bin/env bash
# What durability costs: commit mode against memory mode for pipelined counter adds, the device's own
# fdatasync of the same run, and what a checkpoint does to those who are served.
#
# usage: bench/durable.sh [DIRECTORY of the programs]
#   BENCH_ROUNDS=3   BENCH_SECONDS=5   BENCH_KEYS=1000000   BENCH_DIR=bench-out
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${1:-build/release/bin}
rounds=${BENCH_ROUNDS:-3} seconds=${BENCH_SECONDS:-5} keys=${BENCH_KEYS:-1000000}
out=${BENCH_DIR:-bench-out}
mkdir -p "$out"

value() {
    sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" "$1" | head -n 1
}

# p99 of the device's own fdatasync behind writes of 64 KiB, which is what a group commit writes.
device_p99() {
    sed -n 's/.*"bytes":65536,"device":{[^}]*"p99_us":\([0-9.]*\).*/\1/p' "$1"
}

# one NAME WORDS...: a run with these words; its JSON in $out/durable-NAME.json.
one() {
    local name=$1
    shift
    TMPDIR=$PWD/$out "$bin/godwit-bench" cluster --spawn 1 --workload add --keys "$keys" \
        --seconds "$seconds" --memory 1GiB --json "$@" >"$out/durable-$name.json"
}

echo "== commit mode against memory mode: pipelined adds to $keys counters of 8-byte keys, one server, one client thread"
for ((round = 1; round <= rounds; round++)); do
    "$bin/godwit-bench" fsync --dir "$out" --json >"$out/durable-fsync.json" || true
    one memory --server-flag=--disk=4GiB --server-flag=--checkpoint-interval=0
    one commit --server-flag=--disk=4GiB --server-flag=--durability=commit \
        --server-flag=--checkpoint-interval=0
    one commit-deep --depth 64 --server-flag=--disk=4GiB --server-flag=--durability=commit \
        --server-flag=--checkpoint-interval=0
    one commit-shallow --batch 16 --depth 1 --server-flag=--disk=4GiB \
        --server-flag=--durability=commit --server-flag=--checkpoint-interval=0
    awk -v m="$(value "$out/durable-memory.json" ops_per_second)" \
        -v c="$(value "$out/durable-commit.json" ops_per_second)" \
        -v d="$(value "$out/durable-commit-deep.json" ops_per_second)" \
        -v p="$(value "$out/durable-commit.json" p99)" \
        -v s="$(value "$out/durable-commit-shallow.json" p99)" \
        -v f="$(device_p99 "$out/durable-fsync.json")" 'BEGIN {
        printf "memory %.2f M ops/s, commit %.2f M = %.0f %%, 64 batches deep %.2f M = %.0f %%; commit p99 %.0f us pipelined, %.0f us with 16 in flight; fdatasync p99 %.0f us: %.1f and %.1f times\n",
            m / 1e6, c / 1e6, m ? c * 100 / m : 0, d / 1e6, m ? d * 100 / m : 0, p, s, f, f ? p / f : 0, f ? s / f : 0 }'
done

echo "== a checkpoint every two seconds against none, memory mode"
for ((round = 1; round <= rounds; round++)); do
    one quiet --server-flag=--disk=4GiB --server-flag=--checkpoint-interval=0
    one checkpoints --server-flag=--disk=4GiB --server-flag=--checkpoint-interval=2
    awk -v q="$(value "$out/durable-quiet.json" ops_per_second)" \
        -v c="$(value "$out/durable-checkpoints.json" ops_per_second)" \
        -v qm="$(value "$out/durable-quiet.json" max)" \
        -v cm="$(value "$out/durable-checkpoints.json" max)" \
        -v cp="$(value "$out/durable-checkpoints.json" p999)" 'BEGIN {
        printf "none %.2f M ops/s (longest %.1f ms), checkpoints %.2f M = %.0f %% (p999 %.1f ms, longest %.1f ms)\n",
            q / 1e6, qm / 1e3, c / 1e6, q ? c * 100 / q : 0, cp / 1e3, cm / 1e3 }'
done
