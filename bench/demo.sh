#!/usr/bin/env bash
# The demonstration: a cluster counts millions of real events exactly while it scales out live.
#
# The events are the words of the records of all Debian packages (`apt-cache dumpavail`). They are
# counted several times over by `godwit count`; meanwhile half of the slots move from server A to B,
# a quarter comes back, and a third server C joins and takes an even share. At the end every count
# is compared with `sort | uniq -c`. Into demo-out/ go a report, a timeline and its picture.
# Then bench/demo_beyond.sh moves half of the slots of a server that holds several times its memory.
# Exit code 0 only if every count is exact and all migrations were done under load.
#
# usage: bench/demo.sh [DIRECTORY of the programs]   (./dev demo builds them first)
#   DEMO_SECONDS=30   about how long the counting lasts
#   DEMO_THREADS=2    threads of `godwit count`
#   DEMO_MEMORY=512MiB  of each server
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(cd "${1:-build/release/bin}" && pwd)
out=$PWD/demo-out # filled at the end, whatever that is
seconds=${DEMO_SECONDS:-30} threads=${DEMO_THREADS:-2} memory=${DEMO_MEMORY:-512MiB}

say() {
    printf '== %s\n' "$*" >&2
}

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# Our own processes, ended by their ids however we end. The coordinator is the first one.
pids=()
work=$(mktemp -d "${TMPDIR:-/tmp}/godwit-demo-XXXXXX")
cleanup() {
    local i
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
    done
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        wait "${pids[i]}" 2>/dev/null || true
    done
    mkdir -p "$out"
    cp "$work"/out/* "$out"/ 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ready NAME PID: waits for a program's ready line and prints the address in it.
ready() {
    local i
    for ((i = 0; i < 200; i++)); do
        if grep -q ' ready ' "$work/$1.out" 2>/dev/null; then
            sed -n 's/.* ready .*listen=\([^ ]*\).*/\1/p' "$work/$1.out"
            return
        fi
        kill -0 "$2" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 5 "$work/out/$1.log" >&2 || true
    die "$1 did not start"
}

start_server() {
    mkdir -p "$work/$1"
    "$bin/godwit-server" --id "$1" --listen 127.0.0.1:0 --coordinator "$coordinator" \
        --data "$work/$1" --threads 1 --memory "$memory" >"$work/$1.out" 2>"$work/out/$1.log" &
    pids+=($!)
    ready "$1" $! >/dev/null
}

# field JOB NAME: one field of a job.
field() {
    "$bin/godwit" job show "$1" | awk -v name="$2" '$1 == name { print $2 }'
}

# still_counting WHAT: the migrations must run under load.
still_counting() {
    kill -0 "$count_pid" 2>/dev/null || {
        cat "$work/count.err" >&2
        die "counting ended before $1: raise DEMO_SECONDS (now $seconds)"
    }
}

jobs_done=()
# phase TITLE VERB...: runs a migration verb under load, to its end.
phase() {
    local title=$1 id
    shift
    still_counting "'$title'"
    say "$title"
    "$bin/godwit" "$@" --wait --timeout 120 >"$work/ids" || die "'$title' failed"
    still_counting "the end of '$title'"
    while read -r id; do
        jobs_done+=("$id")
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$id" "$(field "$id" created_ms)" \
            "$(field "$id" finished_ms)" "$(field "$id" bytes_moved)" \
            "$(field "$id" pause_us)" "$title" >>"$work/phases"
    done <"$work/ids"
}

# ---- the events ------------------------------------------------------------------------------

rm -rf "$out"
mkdir "$work/out"
if [ "$(apt-cache dumpavail | head -c 1000 | wc -c)" -eq 0 ]; then
    say "the package lists are empty: apt-get update"
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q >&2
fi
say "words of the package records, and their counts by sort | uniq -c"
apt-cache dumpavail | iconv -c -f UTF-8 -t UTF-8 | tr -d '\000-\010\016-\037\177' |
    tr -s '[:space:]' '\n' | sed '/^$/d' >"$work/words"
sort "$work/words" | uniq -c >"$work/counts"
words=$(wc -l <"$work/words") distinct=$(wc -l <"$work/counts")
[ "$words" -gt 100000 ] || die "only $words words: are there package lists?"
say "$words words, $distinct distinct"

# ---- the cluster -----------------------------------------------------------------------------

"$bin/godwit-coordinator" --listen 127.0.0.1:0 --store "sqlite:$work/coordinator.db" \
    >"$work/coordinator.out" 2>"$work/out/coordinator.log" &
pids+=($!)
coordinator=$(ready coordinator $!)
export GODWIT_COORDINATOR=$coordinator
start_server A
start_server B
"$bin/godwit" status >&2

# ---- counting, and moving slots meanwhile ------------------------------------------------------

say "first pass: every word once"
"$bin/godwit" count --threads "$threads" <"$work/words" >"$work/first" ||
    die "the first pass failed: $(cat "$work/first")"
rate=$(sed -n 's/.*events_per_second=\([0-9]*\).*/\1/p' "$work/first")
repeat=$((rate * seconds / words + 1))
say "$rate events/s: $repeat more passes"

"$bin/godwit" count --threads "$threads" --repeat "$repeat" --timeline "$work/out/timeline.tsv" \
    <"$work/words" >"$work/count" 2>"$work/count.err" &
count_pid=$!
pids+=("$count_pid")
pause=$((seconds / 8 > 2 ? seconds / 8 : 2))
sleep "$pause"
phase "half: A to B" migrate --slots 0-8191 --from A --to B
sleep "$pause"
phase "a quarter back: B to A" migrate --slots 0-4095 --from B --to A
sleep "$pause"
say "server C joins"
start_server C
phase "scale-out to C" scale-out --to C
say "counting goes on to its end"
wait "$count_pid" || die "counting failed: $(cat "$work/count" "$work/count.err")"
"$bin/godwit" status >&2

# ---- is every count right? -------------------------------------------------------------------

say "comparing every count"
times=$((repeat + 1))
sed 's/\\/\\\\/g' "$work/counts" | awk -v times="$times" '{ printf "%s\t%.0f\n", $2, $1 * times }' |
    sort >"$work/expected"
"$bin/godwit" export >"$work/exported"
sort "$work/exported" >"$work/actual"
if cmp -s "$work/expected" "$work/actual"; then
    verdict="all $distinct counts exact, $((words * times)) events" rc=0
else
    diff "$work/expected" "$work/actual" >"$work/out/wrong-counts.diff" || true
    verdict="WRONG: see demo-out/wrong-counts.diff" rc=1
fi

# ---- report and picture ----------------------------------------------------------------------

start_ms=$(awk '/start_unix_ms/ { print $3 }' "$work/out/timeline.tsv")
# Phases in seconds of the timeline: start, end, title; the jobs of one scale-out become one.
awk -F'\t' -v zero="$start_ms" '
    { s = ($2 - zero) / 1000; e = ($3 - zero) / 1000
      if (!($6 in first)) { first[$6] = s; last[$6] = e; order[++n] = $6 }
      if (s < first[$6]) first[$6] = s
      if (e > last[$6]) last[$6] = e }
    END { for (i = 1; i <= n; i++) printf "%.3f\t%.3f\t%s\n", first[order[i]], last[order[i]], order[i] }
' "$work/phases" >"$work/out/phases.tsv"

# For each phase the rows of 100 ms that it touches are compared with the median of the quiet rows
# before it: those since the phase before, but for its last 200 ms (the first: the first 500 ms).
phase_rows() { # NUMBER KIND: the events and the longest wait of its rows, KIND is before or during
    awk -v wanted="$1" -v kind="$2" '
        FNR == NR { split($0, f, "\t"); from[++n] = f[1] * 1000; to[n] = f[2] * 1000; next }
        /^#/ { next }
        { start = wanted > 1 ? to[wanted - 1] + 200 : 500
          during = $1 + 100 > from[wanted] && $1 < to[wanted]
          before = $1 >= start && $1 + 100 <= from[wanted]
          if ((kind == "during" && during) || (kind == "before" && before)) print $2, $5 }
    ' "$work/out/phases.tsv" "$work/out/timeline.tsv"
}
median() {
    sort -n | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}
number=0
while IFS=$'\t' read -r from to title; do
    number=$((number + 1))
    before=$(phase_rows $number before | median) during=$(phase_rows $number during | median)
    least=$(phase_rows $number during | sort -n | awk 'NR == 1 { print $1 }')
    wait_us=$(phase_rows $number during | awk '$2 > max { max = $2 } END { printf "%.0f", max }')
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$title" "$from" "$to" "$before" "$during" "$least" "$wait_us"
done <"$work/out/phases.tsv" >"$work/kept"
{
    echo "verdict            $verdict"
    sed 's/ /\n/g; s/=/ /g' "$work/count" | awk '{ printf "%-18s %s\n", $1, $2 }'
    awk -F'\t' '{ bytes += $4; if ($5 > pause) pause = $5 }
        END { printf "jobs               %d\nbytes_moved        %d\njob_pause_ms       %.2f\n",
              NR, bytes, pause / 1000 }' "$work/phases"
    awk -F'\t' '
        BEGIN { print "\nphase                      ms  before/100ms  median kept  least kept  longest wait" }
        { kept = $4 ? $6 * 100 / $4 : 0
          printf "%-24s %4d  %12d  %9.0f %%  %8.0f %%  %9.2f ms\n", $1, ($3 - $2) * 1000, $4,
              $4 ? $5 * 100 / $4 : 0, kept, $7 / 1000
          if (NR == 1 || kept < worst) worst = kept
          if ($7 > longest) longest = $7 }
        END { printf "\ntargets: at least 50 %% of the throughput kept in every 100 ms: %s; no wait over 50 ms: %s\n",
                  (worst > 50) ? "met" : "MISSED", (longest < 50000) ? "met" : "MISSED" }' "$work/kept"
} | tee "$work/out/report.txt"

awk '!/^#/ { printf "%.3f %.4f %s %s %s\n", $1 / 1000, $2 / 100000, $3 / 1000, $4 / 1000, $5 / 1000 }' \
    "$work/out/timeline.tsv" | sed '$d' >"$work/plot" # the last row is not a whole one
{
    cat <<'END'
set terminal pngcairo size 1400,900 font "sans,12"
set multiplot
set lmargin 11
set rmargin 3
set grid xtics ytics back lt 1 lw 1 lc rgb "#c8c8c8"
set key outside top center horizontal
END
    # Shaded phases, with their names above the upper panel.
    awk -F'\t' '{
        split("#cfe3f7 #d8f0d3 #fbe3c6 #eadcf5", colour, " ")
        printf "set object %d rectangle from first %s, graph 0 to first %s, graph 1 fc rgb \"%s\" fs solid noborder behind\n", NR, $1, $2, colour[(NR - 1) % 4 + 1]
        printf "set label %d \"%s\" at first %s, graph %s offset 0.5,0 font \"sans,11\" front\n", NR, $3, $1, 0.96 - (NR - 1) % 3 * 0.06
    }' "$work/out/phases.tsv"
    echo "set xrange [0:$(tail -n 1 "$work/plot" | cut -d' ' -f1)]"
    cat <<END
set title "Counting while slots move: $verdict" offset 0,-0.5
set origin 0, 0.5
set size 1, 0.5
set ylabel "million events / s"
set yrange [0:$(awk '$2 > max { max = $2 } END { print max ? max * 1.25 : 1 }' "$work/plot")]
plot "$work/plot" using 1:2 with steps lw 2 lc rgb "#1f4e8c" title "throughput, every 100 ms"
unset title
END
    awk '{ printf "unset label %d\n", NR }' "$work/out/phases.tsv"
    cat <<END
set origin 0, 0
set size 1, 0.5
set xlabel "seconds"
set ylabel "latency, ms (log scale)"
set logscale y
set yrange [*:*]
plot "$work/plot" using 1:3 with lines lw 2 lc rgb "#2a9d4a" title "p50", \\
     "$work/plot" using 1:4 with lines lw 2 lc rgb "#e08a00" title "p99", \\
     "$work/plot" using 1:5 with lines lw 1 lc rgb "#c0392b" title "max", \\
     50 with lines dt 2 lc rgb "#808080" title "target for max: 50"
unset multiplot
END
} >"$work/timeline.gp"
gnuplot "$work/timeline.gp" >"$work/png" && mv "$work/png" "$work/out/timeline.png"

# ---- beyond memory -----------------------------------------------------------------------------

for pid in "${pids[@]}"; do # the machine is needed
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
done
pids=()
bench/demo_beyond.sh "$bin" "$work/words" "$work" "$work/out" || rc=1
say "demo-out/: report.txt, timeline.tsv, phases.tsv, timeline.png, beyond.txt"
exit $rc
