#!/usr/bin/env bash
# One dispatcher and one client thread of Godwit against Debian's Redis, counters, uniform, in turns,
# so that both see the same machine. Two questions: how many operations a second with deep pipelines,
# and how long one takes in batches of 16 of which one is under way. Prints every run and the ratio
# of the medians.
#
# usage: bench/redis.sh [DIRECTORY of the programs]
#   BENCH_ROUNDS=3   BENCH_SECONDS=5
#   BENCH_KEYS=20000000   Godwit's; Redis draws from BENCH_REDIS_KEYS=1000000, which suits it better
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${1:-build/release/bin}
rounds=${BENCH_ROUNDS:-3} seconds=${BENCH_SECONDS:-5}
keys=${BENCH_KEYS:-20000000} redis_keys=${BENCH_REDIS_KEYS:-1000000}

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
        port=$((20000 + RANDOM % 10000))
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
    sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# redis REQUESTS FLAGS...: "requests a second, p50 in us". Its columns: test, rps, then avg, min, p50,
# p95, p99 and max in ms.
redis() {
    local requests=$1
    shift
    redis-benchmark -p $port -t incr -r "$redis_keys" -n "$requests" --csv "$@" |
        awk -F '","' '/^"INCR"/ { printf "%.0f %.1f\n", $2, $5 * 1000 }'
}
# About so many requests as take `seconds`, from the speed of a first short run.
requests_for() {
    redis 300000 "$@" | awk -v seconds="$seconds" '{ printf "%.0f\n", $1 * seconds }'
}

# godwit FLAGS...: the same two numbers.
godwit() {
    "$bin/godwit-bench" cluster --spawn 1 --threads 1 --workload add --seconds "$seconds" --json \
        "$@" >"$work/json"
    grep -q '"errors": *0[,}]' "$work/json" || {
        cat "$work/json" >&2
        exit 1
    }
    echo "$(sed -n 's/.*"ops_per_second": *\([0-9]*\).*/\1/p' "$work/json")" \
        "$(sed -n 's/.*"p50": *\([0-9.]*\).*/\1/p' "$work/json")"
}

# compare NAME "flags of redis-benchmark" "flags of godwit-bench": runs both in turns.
compare() {
    local name=$1 round line
    local -a redis_flags godwit_flags
    read -ra redis_flags <<<"$2"
    read -ra godwit_flags <<<"$3"
    echo
    echo "== $name"
    echo "redis:  redis-benchmark -t incr -r $redis_keys $2"
    echo "godwit: godwit-bench cluster --spawn 1 --threads 1 --workload add --seconds $seconds $3"
    local requests
    requests=$(requests_for "${redis_flags[@]}")
    for ((round = 1; round <= rounds; round++)); do
        line=$(redis "$requests" "${redis_flags[@]}")
        echo "$line" >>"$work/$name.redis"
        echo "round $round: redis  ${line% *}/s, p50 ${line#* } us"
        line=$(godwit "${godwit_flags[@]}")
        echo "$line" >>"$work/$name.godwit"
        echo "round $round: godwit ${line% *}/s, p50 ${line#* } us"
    done
    awk -v r="$(cut -d ' ' -f 1 "$work/$name.redis" | median)" \
        -v g="$(cut -d ' ' -f 1 "$work/$name.godwit" | median)" \
        -v rl="$(cut -d ' ' -f 2 "$work/$name.redis" | median)" \
        -v gl="$(cut -d ' ' -f 2 "$work/$name.godwit" | median)" 'BEGIN {
        printf "median: redis %d/s, p50 %.1f us; godwit %d/s, p50 %.1f us: %.1f times the operations, %.2f times the p50\n",
            r, rl, g, gl, g / r, gl / rl }'
}

start_redis
redis-server --version
compare throughput '-P 64' "--keys $keys"
compare latency '-P 16 -c 1' "--keys 1000000 --batch 16 --depth 1"
