#!/usr/bin/env bash
# The demonstration: a cluster counts millions of real events exactly while it scales out live.
#
# The events are the words of the records of all Debian packages (`apt-cache dumpavail`). They are
# counted several times over by `godwit count`; meanwhile half of the slots move from server A to B,
# a quarter comes back, and a third server C joins and takes an even share. At the end every count
# is compared with `sort | uniq -c`. Into demo-out/ go a report, a timeline and its picture.
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
out=$PWD/demo-out
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
    tail -n 5 "$out/$1.log" >&2 || true
    die "$1 did not start"
}

start_server() {
    mkdir -p "$work/$1"
    "$bin/godwit-server" --id "$1" --listen 127.0.0.1:0 --coordinator "$coordinator" \
        --data "$work/$1" --threads 1 --memory "$memory" >"$work/$1.out" 2>"$out/$1.log" &
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
mkdir -p "$out"
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
    >"$work/coordinator.out" 2>"$out/coordinator.log" &
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

"$bin/godwit" count --threads "$threads" --repeat "$repeat" --timeline "$out/timeline.tsv" \
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
    verdict="exact: all $distinct counts, $((words * times)) events" rc=0
else
    diff "$work/expected" "$work/actual" >"$out/wrong-counts.diff" || true
    verdict="WRONG: see demo-out/wrong-counts.diff" rc=1
fi

# ---- report and picture ----------------------------------------------------------------------

start_ms=$(awk '/start_unix_ms/ { print $3 }' "$out/timeline.tsv")
# Phases in seconds of the timeline: start, end, title; the jobs of one scale-out become one.
awk -F'\t' -v zero="$start_ms" '
    { s = ($2 - zero) / 1000; e = ($3 - zero) / 1000
      if (!($6 in first)) { first[$6] = s; last[$6] = e; order[++n] = $6 }
      if (s < first[$6]) first[$6] = s
      if (e > last[$6]) last[$6] = e }
    END { for (i = 1; i <= n; i++) printf "%.3f\t%.3f\t%s\n", first[order[i]], last[order[i]], order[i] }
' "$work/phases" >"$out/phases.tsv"

# Rows of 100 ms: those that a phase touches are "while migrating", those before the first one (but
# for the first half second) "before".
awk -F'\t' '
    FNR == NR { from[++n] = $1 * 1000; to[n] = $2 * 1000; next }
    { split($0, f, " ") }
    /^#/ { next }
    { in_phase = 0
      for (i = 1; i <= n; i++) if (f[1] + 100 > from[i] && f[1] < to[i]) in_phase = 1
      if (in_phase) print "during", f[2], f[5]
      else if (f[1] + 100 <= from[1] && f[1] >= 500) print "before", f[2], f[5] }
' "$out/phases.tsv" "$out/timeline.tsv" >"$work/rows"
median() {
    awk -v kind="$1" '$1 == kind { print $2 }' "$work/rows" | sort -n |
        awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'
}
before=$(median before) during=$(median during)
least=$(awk '$1 == "during" { print $2 }' "$work/rows" | sort -n | head -n 1)
wait_us=$(awk '$1 == "during" && $3 > max { max = $3 } END { printf "%.0f", max }' "$work/rows")
{
    echo "verdict            $verdict"
    sed 's/ /\n/g; s/=/ /g' "$work/count" | awk '{ printf "%-18s %s\n", $1, $2 }'
    awk -F'\t' '{ bytes += $4; if ($5 > pause) pause = $5 }
        END { printf "jobs               %d\nbytes_moved        %d\njob_pause_ms       %.2f\n",
              NR, bytes, pause / 1000 }' "$work/phases"
    awk -v b="$before" -v d="$during" -v l="$least" -v w="$wait_us" 'BEGIN {
        printf "wait_migrating_ms  %.2f\n", w / 1000
        printf "before_per_100ms   %d (median)\n", b
        printf "migrating_per_100ms %d (median), %d (least)\n", d, l
        printf "throughput_kept    %.0f %% (median), %.0f %% (least)\n", b ? d * 100 / b : 0, b ? l * 100 / b : 0
        printf "targets            least kept > 50 %%: %s, longest wait < 50 ms: %s\n",
            (b && l > b / 2) ? "met" : "MISSED", (w < 50000) ? "met" : "MISSED" }'
} | tee "$out/report.txt"

awk '!/^#/ { printf "%.3f %.4f %s %s %s\n", $1 / 1000, $2 / 100000, $3 / 1000, $4 / 1000, $5 / 1000 }' \
    "$out/timeline.tsv" | sed '$d' >"$work/plot" # the last row is not a whole one
{
    cat <<'END'
set terminal pngcairo size 1400,900 font "sans,12"
set multiplot
set lmargin 11
set rmargin 3
set grid xtics ytics lc rgb "#dddddd"
set key outside top center horizontal
END
    # Shaded phases, with their names above the upper panel.
    awk -F'\t' '{
        split("#cfe3f7 #d8f0d3 #fbe3c6 #eadcf5", colour, " ")
        printf "set object %d rectangle from first %s, graph 0 to first %s, graph 1 fc rgb \"%s\" fs solid noborder behind\n", NR, $1, $2, colour[(NR - 1) % 4 + 1]
        printf "set label %d \"%s\" at first %s, graph %s offset 0.5,0 font \"sans,11\" front\n", NR, $3, $1, 0.96 - (NR - 1) % 3 * 0.06
    }' "$out/phases.tsv"
    echo "set xrange [0:$(tail -n 1 "$work/plot" | cut -d' ' -f1)]"
    cat <<END
set title "Godwit counts while slots move: $verdict"
set origin 0, 0.5
set size 1, 0.5
set ylabel "million events / s"
set yrange [0:*]
plot "$work/plot" using 1:2 with steps lw 2 lc rgb "#1f4e8c" title "throughput, every 100 ms"
unset title
END
    awk '{ printf "unset label %d\n", NR }' "$out/phases.tsv"
    cat <<END
set origin 0, 0
set size 1, 0.5
set xlabel "seconds"
set ylabel "latency, ms (log scale)"
set logscale y
set yrange [*:*]
plot "$work/plot" using 1:3 with lines lw 2 lc rgb "#2a9d4a" title "p50", \\
     "$work/plot" using 1:4 with lines lw 2 lc rgb "#e08a00" title "p99", \\
     "$work/plot" using 1:5 with lines lw 1 lc rgb "#c0392b" title "max"
unset multiplot
END
} >"$work/timeline.gp"
gnuplot "$work/timeline.gp" >"$work/png" && mv "$work/png" "$out/timeline.png"
say "demo-out/: report.txt, timeline.tsv, phases.tsv, timeline.png"
exit $rc
