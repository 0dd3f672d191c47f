#!/usr/bin/env bash
# An object store that answers nothing: what that does to hot traffic, and what comes after it. A server
# with several times more data than memory and disk has an S3 server (s3rver) as its shared tier; that
# process is stopped (SIGSTOP: connections are accepted by the kernel, nothing is ever answered) under an
# open load on hot keys and a stream of new ones, and goes on later.
#
# usage: bench/blob_outage.sh [DIRECTORY of the programs]
#   BENCH_OUTAGE=120  seconds of silence     BENCH_QUIET=40  seconds before, and after
#   BENCH_RATE=50000  hot operations a second     BENCH_INSERTS=2000  new keys a second, of 1000 bytes
#   BENCH_DIR=bench-out   BENCH_HOT=20000 keys   BENCH_COLD=700000 keys of 1000 bytes
# Exit code 0: pass, 1: miss, 77: s3rver is not installed (./dev setup).
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(readlink -f "${1:-build/release/bin}")
outage=${BENCH_OUTAGE:-120} quiet=${BENCH_QUIET:-40} rate=${BENCH_RATE:-50000}
inserts=${BENCH_INSERTS:-2000} hot=${BENCH_HOT:-20000} cold=${BENCH_COLD:-700000}
out=$(mkdir -p "${BENCH_DIR:-bench-out}" && readlink -f "${BENCH_DIR:-bench-out}")
repository=$PWD modules=$PWD/build/s3rver
[ -e "$modules/node_modules/s3rver/package.json" ] && command -v node >/dev/null || {
    echo "skipped: s3rver is not installed: ./dev setup"
    exit 77
}
work=$(mktemp -d "$out/outage.XXXXXX")
pids=()
clean() {
    [ -z "${s3:-}" ] || kill -CONT "$s3" 2>/dev/null || true
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

# until SECONDS COMMAND...: false when it was not true in time.
until_true() {
    local left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        ((left-- > 0)) || return 1
        sleep 0.2
    done
}
ready() {
    grep -q "$1" "$2"
}

mkdir "$work/objects" "$work/A"
mkfifo "$work/input"
sleep 100000 >"$work/input" & # it ends with its standard input
pids+=($!)
(cd "$modules" && exec node --openssl-legacy-provider "$repository/tests/s3rver/server.js" \
    "$work/objects" bench S3RVER 0) <"$work/input" >"$work/s3.out" 2>"$work/s3.log" &
s3=$!
pids+=("$s3")
until_true 30 ready '^port' "$work/s3.out" || { cat "$work/s3.log" && exit 1; }
port=$(sed -n 's/^port //p' "$work/s3.out")
export AWS_ACCESS_KEY_ID=S3RVER AWS_SECRET_ACCESS_KEY=S3RVER
"$bin/godwit-coordinator" --listen 127.0.0.1:0 --store "sqlite:$work/map.db" >"$work/coordinator.out" 2>"$work/coordinator.log" &
pids+=($!)
until_true 10 ready listen= "$work/coordinator.out" || { cat "$work/coordinator.log" && exit 1; }
coordinator=$(sed -n 's/.*listen=\([^ ]*\).*/\1/p' "$work/coordinator.out")
"$bin/godwit-server" --id A --listen 127.0.0.1:0 --coordinator "$coordinator" --data "$work/A" --threads 1 \
    --memory 256MiB --disk 512MiB --blob "s3://bench/outage?endpoint=http://127.0.0.1:$port" \
    >"$work/server.out" 2>"$work/server.log" &
pids+=($!)
until_true 30 ready listen= "$work/server.out" || { cat "$work/server.log" && exit 1; }

# number NAME: of the server's statistics; trouble: its sentence.
explain() {
    "$bin/godwit" -c "$coordinator" explain store --server A | sed -n "s/^blob_$1  *//p"
}
uploaded() {
    [ "$(explain lag_bytes)" = 0 ]
}
well() {
    [ -z "$(explain trouble)" ]
}
value() {
    sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p" "$1" | head -n 1
}

echo "== $cold keys of 1000 bytes behind 256 MiB of memory and 512 MiB of disk"
load() {
    "$bin/godwit-bench" cluster --servers "$coordinator" --value-size 1000 "$@"
}
# This one loads them, and then sets new keys, all the while: what they take has to be uploaded.
load --keys "$cold" --workload insert --rate "$inserts" --warm-up 0 --seconds $((outage + 2 * quiet + 60)) \
    --json >"$work/inserts.json" 2>&1 &
inserter=$!
pids+=("$inserter")
loaded() {
    [ "$("$bin/godwit" -c "$coordinator" --json status | tr ',' '\n' | sed -n 's/.*"keys": *\([0-9]*\).*/\1/p' | head -n 1)" -ge "$cold" ]
}
until_true 120 loaded || { echo "MISS: the data is not loaded" && exit 1; }
near() {
    [ "$(explain lag_bytes)" -le 67108864 ]
}
until_true 300 near || { echo "MISS: the data is not uploaded" && exit 1; }
[ "$(explain dropped_segments)" -gt 0 ] || { echo "MISS: nothing has left the disk" && exit 1; }

begin=$SECONDS end=0
windows=$work/windows
: >"$windows"
# A row for each window: its state, operations a second, p99, those that failed.
window() {
    local state=$1 file=$work/window.json
    load --keys "$hot" --workload a --seconds 9 --warm-up 1 --rate "$rate" --batch 64 \
        --json >"$file" || true
    local ops p50 p99 errors
    ops=$(value "$file" ops_per_second) p50=$(value "$file" p50) p99=$(value "$file" p99)
    errors=$(value "$file" errors)
    printf '%s %d %s %s %s %s %s\n' "$state" $((SECONDS - begin)) "${ops:-0}" "${p50:-0}" "${p99:-0}" \
        "${errors:-1}" "$(explain lag_bytes)" | tee -a "$windows" |
        awk '{ printf "%4d s  %-7s %8.0f ops/s  p50 %6.0f us  p99 %7.0f us  %s failed  %.1f MiB to upload\n", $2, $1, $3, $4, $5, $6, $7 / 1048576 }'
}
# windows STATE SECONDS: windows of ten seconds.
windows_of() {
    local until=$((SECONDS + $2))
    while ((SECONDS < until)); do
        window "$1"
    done
}

for round in 1 2 3; do # the hot keys are cold as yet: it may take longer than clients wait
    window "warm-up"
    [ "$(tail -n 1 "$windows" | cut -d' ' -f6)" != 0 ] || break
done
echo "== $rate operations a second, half of them writes, on $hot hot keys; $inserts new keys a second"
windows_of before "$quiet"
kill -STOP "$s3"
windows_of silent "$outage"
said=$(explain trouble)
behind=$(explain lag_bytes)
kill -CONT "$s3"
back=$SECONDS
windows_of after "$quiet"
kill "$inserter" 2>/dev/null || true
wait "$inserter" || true
result=0
until_true 120 well || { echo "MISS: still in trouble: $(explain trouble)" && result=1; }
until_true 300 uploaded || { echo "MISS: not caught up: $(explain lag_bytes) bytes" && result=1; }
printf 'caught up %d s after its return (with %d s of load); it was %s behind and had said:\n  %s\n' \
    $((SECONDS - back)) "$quiet" "$(awk -v b="$behind" 'BEGIN { printf "%.1f MiB", b / 1048576 }')" "$said"
[ -n "$said" ] || { echo "MISS: nothing was said of the outage" && result=1; }

# Within noise: the median of the silent windows against the range that those before span, widened by a tenth
# of the median for throughput; p99 by the same range, but at least twice the median before.
median() {
    awk -v s="$1" -v c="$2" '$1 == s { print $c }' "$windows" | sort -n |
        awk '{ v[NR] = $1 } END { print NR ? (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 : 0 }'
}
most() {
    awk -v s="$1" -v c="$2" '$1 == s && $c > m { m = $c } END { print m + 0 }' "$windows"
}
failed=$(awk '$1 != "warm-up" { n += $6 } END { print n + 0 }' "$windows")
awk -v ob="$(median before 3)" -v os="$(median silent 3)" -v oa="$(median after 3)" -v pb="$(median before 5)" \
    -v pm="$(most before 5)" -v ps="$(median silent 5)" -v pa="$(median after 5)" -v f="$failed" -v bad="$result" 'BEGIN {
    limit = pm > 2 * pb ? pm : 2 * pb
    printf "median: %.0f ops/s before, %.0f silent (%.1f %%), %.0f after; p99 %.0f us before (at most %.0f), %.0f silent, %.0f after; %d hot operations failed\n",
        ob, os, ob ? os * 100 / ob : 0, oa, pb, pm, ps, pa, f
    good = !bad && f == 0 && os >= 0.9 * ob && oa >= 0.9 * ob && ps <= limit
    print good ? "PASS" : "MISS"
    exit !good }'
