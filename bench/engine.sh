#!/usr/bin/env bash
# The whole table of the engine: every row in fresh processes, in turns, several rounds, each round
# with the line rate of the memory and the read rate of the device beside it. Then
# bench/engine_report.sh makes the section of docs/BENCHMARKS.md and the plots from what was stored.
#
# usage: bench/engine.sh [--quick] [--only PART[,PART...]] [DIRECTORY of the programs]
#   parts: memory threads values cold churn profile   (default: all)
#   --quick   small data, one round, about three minutes: to see that everything works. Its section
#             goes to bench-out/engine/section.md, not into docs/
#   BENCH_ROUNDS=5       BENCH_SECONDS=3 (measured time of a run)
#   BENCH_KEYS=20000000  of the rows in memory
#   BENCH_MEMORY=1GiB    --memory of the rows with data on the device; data is 1 to 8 times that
#   BENCH_DATA=bench-out/data   where the device's files go: a real disk, with 30 times BENCH_MEMORY
#   BENCH_CHURN_SECONDS=600     BENCH_BUCKETS=67108864 (needs 16 GiB of memory)
# All of it takes about two hours: a quarter of an hour a round, half an hour for churn.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=no only=memory,threads,values,cold,churn,profile
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) quick=yes ;;
    --only)
        only=${2:?--only needs parts}
        shift
        ;;
    -*)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift
done
bin=${1:-build/release/bin}
if [ $quick = yes ]; then
    rounds=${BENCH_ROUNDS:-1} seconds=${BENCH_SECONDS:-1} keys=${BENCH_KEYS:-2000000}
    memory=${BENCH_MEMORY:-64MiB} churn_seconds=${BENCH_CHURN_SECONDS:-8}
    buckets_from=16384 buckets=${BENCH_BUCKETS:-1048576} values_bytes=268435456 dram=(--bytes 1GiB)
    churn_memory=128MiB warm=1
else
    rounds=${BENCH_ROUNDS:-5} seconds=${BENCH_SECONDS:-3} keys=${BENCH_KEYS:-20000000}
    memory=${BENCH_MEMORY:-1GiB} churn_seconds=${BENCH_CHURN_SECONDS:-600}
    buckets_from=1048576 buckets=${BENCH_BUCKETS:-67108864} values_bytes=4294967296 dram=()
    churn_memory=$memory warm=10
fi
depth=128 value=1024 record=1056 # of the rows with data on the device; 16 + 8 + 1024, rounded up
out=bench-out/engine
mkdir -p "$out" "${BENCH_DATA:-bench-out/data}"
data=$(mktemp -d "${BENCH_DATA:-bench-out/data}/engine-XXXXXX")
fio_file=$data/fio.bin
cleanup() {
    rm -rf "$data"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

wanted() {
    case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac
}

bytes_of() {
    numfmt --from=auto "${1%B}"
}

# run NAME FLAGS...: one process; its document goes to NAME.ROUND.json.
run() {
    local name=$1 file=$out/$1.$round.json
    shift
    if ! "$bin/godwit-bench" "$@" --json >"$file.new" 2>"$out/errors"; then
        printf 'round %s: %s failed: %s\n' "$round" "$name" "$(tail -n 1 "$out/errors")" >&2
        rm -f "$file.new" "$file"
        failures=$((failures + 1))
        return 0
    fi
    mv "$file.new" "$file"
    printf 'round %s: %-28s %s\n' "$round" "$name" \
        "$(grep -o '"ops_per_second":[0-9.]*\|"lines_per_second_one_core":[0-9.]*' "$file" | head -n 1)" >&2
}

engine() {
    local name=$1
    shift
    run "$name" engine --seconds "$seconds" "$@"
}

# The rate at which the device gives random blocks to somebody who does nothing else: the same size,
# depth, interface and directory as ours.
run_fio() {
    command -v fio >/dev/null || return 0
    fio --name=godwit --filename="$fio_file" --size="$(($(bytes_of "$memory") * 4))" --rw=randread \
        --bs=4k --iodepth=$depth --ioengine=io_uring --direct=1 --time_based --runtime="$seconds" \
        --randrepeat=0 --norandommap --output-format=json 2>"$out/errors" |
        sed -n '/^{/,$p' >"$out/fio.$round.json"
    printf 'round %s: %-28s %s\n' "$round" fio \
        "$(grep -o '"iops" : [0-9.]*' "$out/fio.$round.json" | head -n 1)" >&2
}

rows_memory() {
    local w d
    for w in c add 50:50 a b d insert; do
        engine "memory-$w" --workload $w --keys "$keys"
    done
    engine memory-c-zipfian --workload c --distribution zipfian --keys "$keys"
    engine memory-add-zipfian --workload add --distribution zipfian --keys "$keys"
    engine memory-c-zipfian12 --workload c --distribution zipfian --theta 1.2 --keys "$keys"
    engine memory-d-latest --workload d --distribution latest --keys "$keys"
    engine memory-c-100 --workload c --value-size 100 --keys "$keys"
    engine memory-a-100 --workload a --value-size 100 --keys "$keys"
    for d in 1 8 16 32 64 1024; do
        engine "batch-$d" --workload c --batch $d --keys "$keys"
    done
}

rows_threads() {
    local t w
    for t in $threads; do
        for w in c add 50:50; do
            engine "threads-$w-$t" --workload $w --threads "$t" --keys "$keys"
        done
        engine "threads-zipfian-$t" --workload c --distribution zipfian --threads "$t" --keys "$keys"
    done
}

# As many keys as there are in memory, at most so many that the data takes values_bytes.
rows_values() {
    local size n
    for size in 8 32 100 256 1024 4096 16384 65536; do
        n=$((values_bytes / ((size + 47) / 16 * 16)))
        n=$((n < keys ? n : keys))
        engine "values-c-$size" --workload c --value-size $size --keys $n
        engine "values-a-$size" --workload a --value-size $size --keys $n
    done
}

rows_cold() {
    local ratio n flags
    for ratio in 1 2 3 4 6 8; do
        [ $ratio != 4 ] || run_fio
        n=$(($(bytes_of "$memory") * ratio / record))
        flags=(--memory "$memory" --disk "$(($(bytes_of "$memory") * (ratio + 1) * 3))" --data "$data"
            --value-size "$value" --keys "$n" --depth "$depth")
        engine "cold-uniform-$ratio" --workload c "${flags[@]}" --warm-up 2
        # What is read often comes to memory first.
        flags+=(--distribution zipfian --warm-up "$warm")
        engine "cold-zipfian-$ratio" --workload c "${flags[@]}"
        engine "cold-a-zipfian-$ratio" --workload a "${flags[@]}"
    done
}

rows_churn() {
    run churn-mixed churn mixed --memory "$churn_memory" --data "$data" --seconds "$churn_seconds" \
        --series "$out/churn-mixed.tsv"
    run churn-overwrite churn overwrite --memory "$churn_memory" --ratio 4 --data "$data" \
        --seconds $((churn_seconds * 4)) --series "$out/churn-overwrite.tsv"
    run churn-growth churn growth --buckets-from $buckets_from --buckets-to "$buckets" \
        --seconds 600 --series "$out/churn-growth.tsv"
}

threads="1 2 3 4"
[ "$(nproc)" -le 4 ] || threads=$(seq -s ' ' 1 "$(nproc)" | awk '{
    for (i = 1; i <= NF; i *= 2) printf "%d ", i
    if (i / 2 != NF) print NF }')
failures=0
# What a part does not measure again stays from the time before; the ceilings go with what they are
# compared to.
forget() { # PART NAME...: the documents of a part
    local part=$1 name
    shift
    ! wanted "$part" || for name in "$@"; do rm -f "$out/$name"*.json "$out/$name"*.tsv; done
}
forget memory memory- batch- dram hash
forget threads threads-
forget values values-
forget cold cold- fio
forget churn churn-
forget profile profile
{
    echo "date=$(date -u +%Y-%m-%d)"
    echo "cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
    echo "cpus=$(nproc)"
    echo "ram=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel=$(uname -r)"
    echo "commit=$(git rev-parse --short HEAD 2>/dev/null || echo '?')"
    echo "rounds=$rounds" "seconds=$seconds" "keys=$keys" "memory=$memory" "value=$value" \
        "depth=$depth" "churn_seconds=$churn_seconds" "churn_memory=$churn_memory" | tr ' ' '\n'
} >"$out/machine"

for ((round = 1; round <= rounds; round++)); do
    if wanted memory; then
        run dram dram "${dram[@]}"
        run hash hash
    fi
    for part in memory threads values cold; do
        ! wanted $part || "rows_$part"
    done
done
# These take long and answer yes or no: once.
round=1
! wanted churn || rows_churn
! wanted profile || run profile profile --keys "$keys"

target=docs/BENCHMARKS.md
[ $quick = no ] || target=-
bench/engine_report.sh "$out" $target
[ $failures -eq 0 ] || echo "$failures runs failed" >&2
[ $failures -eq 0 ]
