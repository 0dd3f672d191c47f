#!/usr/bin/env bash
# Every benchmark in one go (./dev bench): the memory of this machine, the engine against it, a
# cluster on loopback, moving slots, and Redis beside it. Prints a report, which also goes to bench-out/report.txt.
#
# usage: bench/run.sh [DIRECTORY of the programs]
#   BENCH_SECONDS=5   BENCH_ROUNDS=3   BENCH_ENGINE_KEYS=20000000
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${1:-build/release/bin}
seconds=${BENCH_SECONDS:-5} rounds=${BENCH_ROUNDS:-3} engine_keys=${BENCH_ENGINE_KEYS:-20000000}
out=bench-out
mkdir -p $out

# value FILE FIELD: a number of a JSON document on one line.
value() {
    sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" "$1"
}

machine() {
    echo "$(date -u +%Y-%m-%dT%H:%MZ) $(git rev-parse --short HEAD 2>/dev/null || echo '?')"
    echo "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) CPUs, $(
        awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
}

# cluster NAME FLAGS...: one line of the report.
cluster() {
    local name=$1
    shift
    "$bin/godwit-bench" cluster --seconds "$seconds" --json "$@" >"$out/cluster-$name.json"
    printf '%-34s %7.2f M ops/s   p50 %8.1f us  p99 %8.1f us  p999 %8.1f us  max %9.1f us  errors %d\n' \
        "$name" "$(value "$out/cluster-$name.json" ops_per_second | awk '{ print $1 / 1e6 }')" \
        "$(value "$out/cluster-$name.json" p50)" "$(value "$out/cluster-$name.json" p99)" \
        "$(value "$out/cluster-$name.json" p999)" "$(value "$out/cluster-$name.json" max)" \
        "$(value "$out/cluster-$name.json" errors)"
}

{
    machine
    echo
    echo "== memory and engine (workload c, $engine_keys keys of 8 bytes, uniform, one thread)"
    for ((round = 1; round <= rounds; round++)); do
        "$bin/godwit-bench" dram --json >"$out/dram-$round.json"
        "$bin/godwit-bench" engine --workload c --threads 1 --keys "$engine_keys" \
            --seconds "$seconds" --json >"$out/engine-$round.json"
        awk -v lines="$(value "$out/dram-$round.json" lines_per_second_one_core)" \
            -v all="$(value "$out/dram-$round.json" lines_per_second_all_cores)" \
            -v ops="$(value "$out/engine-$round.json" ops_per_second)" 'BEGIN {
            printf "lines/s: one core %.1f M, all cores %.1f M; engine %.1f M ops/s = %.0f %% of half the line rate\n",
                lines / 1e6, all / 1e6, ops / 1e6, ops * 200 / lines }'
    done
    echo
    echo "== cluster on loopback"
    cluster f-uniform --spawn 1
    cluster a-zipfian --spawn 1 --workload a --distribution zipfian
    cluster b-zipfian --spawn 1 --workload b --distribution zipfian
    cluster c-uniform --spawn 1 --workload c
    cluster d-zipfian --spawn 1 --workload d --distribution zipfian
    cluster c-values-100-bytes --spawn 1 --workload c --value-size 100
    cluster f-two-servers --spawn 2
    cluster f-depth-1-batch-1 --spawn 1 --batch 1 --depth 1
    cluster f-open-loop-1M --spawn 1 --rate 1000000
    echo
    echo "== moving slots"
    BENCH_BIN=$bin BENCH_ROUNDS=$rounds bench/migrate.sh memory bulk || true # says what it missed
    echo
    echo "== against Redis"
    BENCH_ROUNDS=$rounds BENCH_SECONDS=$seconds bench/redis.sh "$bin"
} | tee $out/report.txt
