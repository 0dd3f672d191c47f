#!/usr/bin/env bash
# What clients see while slots move, as docs/BENCHMARKS.md ("Reading the migration figures") says it:
# one command for each of its tables, all of them without an argument.
#
#   bench/migrate.sh beyond     4 GiB of data, 512 MiB a server, shared tier; half of the slots,
#                               zipfian; with and without indirections; every key compared (about 30 min)
#   bench/migrate.sh memory     1 M and 5 M keys of 100 bytes in memory, 10 % of the slots: closed
#                               loop, closed loop with a target that serves from the start, open
#                               loop (about 6 min)
#   bench/migrate.sh bulk       records of 130 bytes with an idle cluster, beside loopback (about 1 min)
#   bench/migrate.sh ablations  sampling, indirections, pulls: each off in turns, in memory (about 3 min)
#
#   BENCH_BIN=build/release/bin   the programs
#   BENCH_ROUNDS=3                clusters of each kind, one after the other
#   BENCH_OUT=bench-out/migrate   JSON, tables, pictures and words; the clusters' own files, meanwhile
#   BENCH_RATE=1000000            operations a second of the open loop
#   BENCH_SCALE=100               sizes in percent, to try it: 1 takes seconds
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=${BENCH_BIN:-build/release/bin} rounds=${BENCH_ROUNDS:-3} out=${BENCH_OUT:-bench-out/migrate}
rate=${BENCH_RATE:-1000000} scale=${BENCH_SCALE:-100}
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=0

# of N: so much of it as BENCH_SCALE says, at least 1000.
of() {
    local n=$(($1 * scale / 100))
    echo $((n < 1000 ? 1000 : n))
}

# one NAME WORDS...: its words also in $out/NAME/report.txt.
one() {
    local name=$1
    shift
    mkdir -p "$out/$name"
    printf '== %s: godwit-bench migrate %s\n' "$name" "$*" | tee "$out/$name/report.txt"
    TMPDIR=$out "$bin/godwit-bench" migrate --rounds "$rounds" --out "$out/$name" "$@" |
        tee -a "$out/$name/report.txt" || failed=1
}

beyond() {
    if ! "$bin/godwit-server" --help | grep -q -- '--blob'; then
        echo "== beyond: left out: this godwit-server has no shared tier (--blob)"
        return
    fi
    one beyond --blob dir --memory 512MiB --disk 2GiB --keys "$(of 4160000)" --value-size 1000 \
        --part 50% --workload b --distribution zipfian --batch 64 --depth 8 --warm-up 10 --before 5 \
        --after 5 --timeout 900 --verify --ablate indirection
}

memory() {
    local keys loop
    for keys in 1000000 5000000; do
        for loop in closed both open; do
            local words=(--keys "$(of $keys)" --value-size 100 --workload b --verify)
            case $loop in
            closed) words+=(--part 10% --apart) ;;
            both) words+=(--part 20% --target-serves --apart) ;; # of a half: 10 % of all
            open) words+=(--part 10% --rate "$rate") ;;
            esac
            one "memory-$((keys / 1000000))m-$loop" "${words[@]}"
        done
    done
}

bulk() {
    one bulk --idle --loopback --keys "$(of 5000000)" --key-size 30 --value-size 100 --part 100% \
        --warm-up 0 --before 1 --after 1 --verify
}

ablations() {
    one ablations --keys "$(of 1000000)" --value-size 100 --part 50% --workload b \
        --distribution zipfian --ablations
}

[ $# -gt 0 ] || set -- beyond memory bulk ablations
for show; do
    case $show in
    beyond | memory | bulk | ablations) $show ;;
    *)
        echo "bench/migrate.sh: '$show' is not one of: beyond memory bulk ablations" >&2
        exit 2
        ;;
    esac
done
exit $failed
