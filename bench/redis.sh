#!/usr/bin/env bash
# One dispatcher and one client thread of Godwit against Debian's Redis, counters, 1 M keys, uniform,
# in turns, so that both see the same machine. Prints every run and the ratio of the medians.
#
# usage: bench/redis.sh [DIRECTORY of the programs]
#   BENCH_ROUNDS=3   BENCH_SECONDS=5
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${1:-build/release/bin}
rounds=${BENCH_ROUNDS:-3} seconds=${BENCH_SECONDS:-5}

work=$(mktemp -d "${TMPDIR:-/tmp}/godwit-redis-XXXXXX")
redis_pid=
cleanup() {
    if [ -n "$redis_pid" ]; then
        kill "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

start_redis() {
    local i
    for ((i = 0; i < 20; i++)); do
        port=$((20000 + RANDOM))
        redis-server --port $port --bind 127.0.0.1 --save '' --appendonly no --daemonize no \
            --dir "$work" >"$work/redis.log" 2>&1 &
        redis_pid=$!
        sleep 0.5
        redis-cli -p $port ping >/dev/null 2>&1 && return
        kill "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
        redis_pid=
    done
    echo "redis-server does not start: $(cat "$work/redis.log")" >&2
    exit 1
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

start_redis
echo "redis: $(redis-server --version)"
echo "       redis-benchmark -P 64 -t incr -r 1000000"
echo "godwit: godwit-bench cluster --spawn 1 --threads 1 --workload f --keys 1000000 --seconds $seconds"
# About as long as the other one, from the speed of a first short run.
rate=$(redis-benchmark -p $port -P 64 -t incr -r 1000000 -n 500000 --csv | sed -n 's/^"INCR","\([0-9]*\).*/\1/p')
requests=$((rate * seconds))
for ((round = 1; round <= rounds; round++)); do
    redis-benchmark -p $port -P 64 -t incr -r 1000000 -n $requests --csv |
        sed -n 's/^"INCR","\([0-9]*\).*/\1/p' | tee -a "$work/redis" | sed "s/^/round $round: redis  /"
    "$bin/godwit-bench" cluster --spawn 1 --threads 1 --workload f --keys 1000000 \
        --seconds "$seconds" --json >"$work/json"
    grep -q '"errors": *0[,}]' "$work/json" || { cat "$work/json" >&2; exit 1; }
    sed -n 's/.*"ops_per_second": *\([0-9]*\).*/\1/p' "$work/json" | tee -a "$work/godwit" |
        sed "s/^/round $round: godwit /"
done
redis=$(median <"$work/redis") godwit=$(median <"$work/godwit")
awk -v r="$redis" -v g="$godwit" 'BEGIN {
    printf "median: redis %d/s, godwit %d/s: %.1f times\n", r, g, g / r }'
