#!/usr/bin/env bash
# Makes tables and plots of what bench/engine.sh has stored: DIRECTORY/section.md, and the section
# between the markers <!-- engine --> and <!-- /engine --> of FILE; plots go to docs/plots, or with
# '-' as FILE to DIRECTORY/plots.
#
# usage: bench/engine_report.sh DIRECTORY FILE|-
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1 target=$2
plots=docs/plots
[ "$target" != - ] || plots=$out/plots
mkdir -p "$plots"
# shellcheck disable=SC1090 # what engine.sh has written there: date, cpu, ...
declare -A machine=()
while IFS='=' read -r name text; do
    machine[$name]=$text
done <"$out/machine"

# ---- numbers ----

# One line "NAME ROUND PATH VALUE" for each number or word of each document. A small reader of JSON,
# since a program for that is not everywhere.
flatten() {
    local file name
    for file in "$out"/*.json; do
        [ -s "$file" ] || continue
        name=$(basename "$file" .json)
        awk -v name="${name%.*}" -v round="${name##*.}" '
        function path(   i, p) {
            p = ""
            for (i = 1; i <= depth; i++)
                p = p (i > 1 ? "." : "") key[i]
            return p
        }
        { text = text $0 "\n" }
        END {
            n = length(text)
            for (i = 1; i <= n; i++) {
                c = substr(text, i, 1)
                if (c == "{" || c == "[") {
                    kind[++depth] = c
                    key[depth] = c == "[" ? 0 : ""
                    want = c == "{"
                } else if (c == "}" || c == "]") {
                    depth--
                } else if (c == ",") {
                    if (kind[depth] == "[") key[depth]++
                    want = kind[depth] == "{"
                } else if (c == ":") {
                    want = 0
                } else if (c == "\"") {
                    for (j = i + 1; substr(text, j, 1) != "\""; j++)
                        if (substr(text, j, 1) == "\\") j++
                    word = substr(text, i + 1, j - i - 1)
                    i = j
                    if (want) key[depth] = word
                    else print name "\t" round "\t" path() "\t" word
                } else if (c ~ /[-0-9a-z]/) {
                    match(substr(text, i), /^[-+.0-9a-zA-Z]+/)
                    print name "\t" round "\t" path() "\t" substr(text, i, RLENGTH)
                    i += RLENGTH - 1
                }
            }
        }' "$file"
    done
}
flat=$out/flat.tsv
flatten >"$flat"

# numbers NAME PATH: the value of each round.
numbers() {
    awk -F '\t' -v name="$1" -v path="$2" '$1 == name && $3 == path { print $4 }' "$flat"
}
# spread NAME PATH [FACTOR]: "median least most", nothing if there is no run.
spread() {
    numbers "$1" "$2" | sort -g | awk -v factor="${3:-1}" '{ v[NR] = $1 * factor }
        END { if (NR) print v[int((NR + 1) / 2)], v[1], v[NR] }'
}
median() {
    spread "$@" | cut -d ' ' -f 1
}
has() {
    [ -n "$(numbers "$1" "$2" | head -n 1)" ]
}
# ratios NAME PATH OTHER PATH FACTOR: the spread of the ratios within each round.
ratios() {
    awk -F '\t' -v a="$1" -v pa="$2" -v b="$3" -v pb="$4" -v factor="$5" '
        $1 == a && $3 == pa { x[$2] = $4 }
        $1 == b && $3 == pb { y[$2] = $4 }
        END { for (r in x) if (y[r] > 0) print x[r] / y[r] * factor }' "$flat" | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)], v[1], v[NR] }'
}
# show FORMAT "median least most": "M (L to H)"
show() {
    local format=$1
    # shellcheck disable=SC2086 # three words
    set -- ${2:-}
    [ $# -eq 3 ] || {
        printf -- '-'
        return
    }
    # shellcheck disable=SC2059 # the format is ours
    if [ "$2" != "$3" ]; then
        printf "$format ($format to $format)" "$1" "$2" "$3"
    else
        printf "$format" "$1"
    fi
}

# ---- tables ----

memory_row() { # NAME TITLE LINES: lines of memory an operation touches at least; 0: not compared
    has "$1" ops_per_second || return 0
    local dram=lines_per_second_one_core percent=-
    case $1 in threads-*-[2-9]*) dram=lines_per_second_all_cores ;; esac
    [ "$3" = 0 ] || percent="$(show %.0f "$(ratios "$1" ops_per_second dram $dram "$3")") %"
    printf '| %s | %s | %s | %.1f | %.1f | %.0f |\n' "$2" \
        "$(show %.2f "$(spread "$1" ops_per_second 1e-6)")" "$percent" \
        "$(median "$1" latency_us.p50)" "$(median "$1" latency_us.p999)" \
        "$(median "$1" cpu_ns_per_op)"
}

memory_table() {
    has memory-c ops_per_second || return 0
    cat <<END
### In memory

${machine[keys]} keys of 8 bytes, one thread, batches of 256, ${machine[seconds]} s a run after 1 s of warm-up, ${machine[rounds]} rounds: median (least to most).
The ceiling is this machine's rate of random cache lines on one core in the same round (\`godwit-bench dram\`:
$(show %.0f "$(spread dram lines_per_second_one_core 1e-6)") M lines/s on one core, $(show %.0f "$(spread dram lines_per_second_all_cores 1e-6)") M on all,
$(show %.1f "$(spread dram lines_per_second_dependent 1e-6)") M one after the other, $(numbers dram pages | head -n 1) huge pages), halved for 8-byte values (bucket and record),
a third for 100 bytes.

| workload | M ops/s | % of the ceiling | p50 of a batch, us | p99.9, us | ns of CPU an op |
| --- | --- | --- | --- | --- | --- |
END
    memory_row memory-c 'reads, uniform (c)' 200
    memory_row memory-add 'counter adds, uniform' 200
    memory_row memory-50:50 'half reads, half adds, uniform' 200
    memory_row memory-a 'half reads, half sets, uniform (a)' 200
    memory_row memory-b '95 % reads, 5 % sets, uniform (b)' 200
    memory_row memory-d '95 % reads of the latest, 5 % inserts (d), uniform' 0
    memory_row memory-d-latest '95 % reads of the latest, 5 % inserts (d), latest' 0
    memory_row memory-insert 'inserts into an empty store' 0
    memory_row memory-c-zipfian 'reads, zipfian 0.99' 200
    memory_row memory-c-zipfian12 'reads, zipfian 1.2' 200
    memory_row memory-add-zipfian 'counter adds, zipfian 0.99' 200
    memory_row memory-c-100 'reads of 100 bytes, uniform' 300
    memory_row memory-a-100 'half reads, half sets of 100 bytes, uniform' 300
    printf '\nIndex: %.1f bytes a key, log: %.1f bytes a key. Hashing a key of 16 bytes (CRC16 and XXH3): %.2f ns.\n' \
        "$(median memory-c store.index_bytes_per_key)" "$(median memory-c store.log_bytes_per_key)" \
        "$(median hash keys.1.both_ns)"
    if ! has memory-c counters_per_op.cache_misses; then
        echo 'Misses per operation: this machine has no hardware counters.'
    else
        printf 'Misses per read: %.2f of the cache, %.2f of the TLB.\n' \
            "$(median memory-c counters_per_op.cache_misses)" \
            "$(median memory-c counters_per_op.tlb_misses)"
    fi
    printf '\n| batch |'
    local n
    for n in 1 8 16 32 64 256 1024; do printf ' %s |' $n; done
    printf '\n| --- | --- | --- | --- | --- | --- | --- | --- |\n| M reads/s |'
    for n in 1 8 16 32 64; do printf ' %.1f |' "$(median batch-$n ops_per_second 1e-6)"; done
    printf ' %.1f | %.1f |\n\n' "$(median memory-c ops_per_second 1e-6)" \
        "$(median batch-1024 ops_per_second 1e-6)"
}

threads_table() {
    has threads-c-1 ops_per_second || return 0
    local t w
    printf '### Threads\n\nM ops/s, uniform but for the last column; %s processors.\n\n' \
        "${machine[cpus]}"
    printf '![Throughput against threads](plots/threads.svg)\n\n'
    printf '| threads | reads | counter adds | half and half | reads, zipfian 0.99 |\n| --- | --- | --- | --- | --- |\n'
    for t in $(thread_counts); do
        printf '| %s |' "$t"
        for w in c add 50:50 zipfian; do
            printf ' %s |' "$(show %.1f "$(spread "threads-$w-$t" ops_per_second 1e-6)")"
        done
        echo
    done
    echo
}
thread_counts() {
    awk -F '\t' '$1 ~ /^threads-c-/ { sub(/^threads-c-/, "", $1); print $1 }' "$flat" | sort -gu
}
value_sizes() {
    awk -F '\t' '$1 ~ /^values-c-/ { sub(/^values-c-/, "", $1); print $1 }' "$flat" | sort -gu
}
cold_ratios() {
    awk -F '\t' '$1 ~ /^cold-uniform-/ { sub(/^cold-uniform-/, "", $1); print $1 }' "$flat" | sort -gu
}

values_table() {
    has values-c-8 ops_per_second || return 0
    local size
    printf '### Value sizes\n\nOne thread, uniform, values of 8 bytes are counters.\n\n'
    printf '![Throughput against the size of values](plots/values.svg)\n\n'
    printf '| value, bytes | reads, M/s | half reads, half sets, M/s | GiB/s read |\n| --- | --- | --- | --- |\n'
    for size in $(value_sizes); do
        printf '| %s | %s | %s | %.1f |\n' "$size" \
            "$(show %.2f "$(spread "values-c-$size" ops_per_second 1e-6)")" \
            "$(show %.2f "$(spread "values-a-$size" ops_per_second 1e-6)")" \
            "$(median "values-c-$size" ops_per_second "$(awk "BEGIN { print $size / 1073741824 }")")"
    done
    echo
}

cold_table() {
    has cold-uniform-4 ops_per_second || return 0
    local ratio d
    cat <<END
### Larger than memory

--memory ${machine[memory]} (index and log), values of ${machine[value]} bytes, one thread, at most ${machine[depth]} operations waiting for the device; data is so
many times the memory number. fio in the same rounds (4 KiB, depth ${machine[depth]}, io_uring, O_DIRECT, a file of 4 x the memory):
$(show %.0f "$(spread fio jobs.0.read.iops)") reads/s.

![Throughput against data : memory](plots/ratio.svg)

| data : memory | distribution | k ops/s | reads/s of the device | of fio | reads an op | bytes read an op | us of CPU a read | p50 and p99.9 of hits, us | p50 and p99.9 of waits, us |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
END
    for ratio in $(cold_ratios); do
        for d in uniform zipfian a-zipfian; do
            has "cold-$d-$ratio" ops_per_second || continue
            printf '| %s | %s | %s | %.0f | %s | %.2f | %.0f | %s | %.0f, %.0f | %.0f, %.0f |\n' \
                "$ratio" "$([ $d = a-zipfian ] && echo 'zipfian, half sets' || echo "$d, reads")" \
                "$(show %.0f "$(spread "cold-$d-$ratio" ops_per_second 1e-3)")" \
                "$(median "cold-$d-$ratio" device.reads_per_second)" \
                "$(show '%.0f' "$(ratios "cold-$d-$ratio" device.reads_per_second fio jobs.0.read.iops 100)") %" \
                "$(median "cold-$d-$ratio" device.reads_per_op)" \
                "$(median "cold-$d-$ratio" device.read_bytes_per_op)" \
                "$(awk -v us="$(median "cold-$d-$ratio" device.cpu_us_per_read)" \
                    -v reads="$(median "cold-$d-$ratio" device.reads_per_op)" \
                    'BEGIN { if (reads < 0.01) print "-"; else printf "%.1f", us }')" \
                "$(median "cold-$d-$ratio" latency_us.p50)" \
                "$(median "cold-$d-$ratio" latency_us.p999)" \
                "$(median "cold-$d-$ratio" latency_cold_us.p50)" \
                "$(median "cold-$d-$ratio" latency_cold_us.p999)"
        done
    done
    echo
}

m() { # NAME PATH: in MiB
    median "$1" "$2" 9.5367431640625e-7
}

churn_text() {
    has churn-mixed ops_per_second || return 0
    local x=churn-mixed
    printf '### Churn\n\n`godwit-bench churn mixed`, --memory %s, data 8 times that, %.0f s: values of 8 B to 1 MiB, counters, keys that expire, keys that are deleted.\n' \
        "${machine[churn_memory]}" "$(median $x seconds)"
    printf '%.0f k ops/s; resident at most %.0f MiB (%.3f times --memory, of it %.1f MiB before there was a store); hits p50 %.0f us, p99.9 %.0f us, max %.0f us;\nwaits p50 %.0f us, p99.9 %.0f us. ' \
        "$(median $x ops_per_second 1e-3)" "$(m $x rss_max)" "$(median $x rss_over_memory)" \
        "$(m $x rss_before)" "$(median $x hit_us.p50)" "$(median $x hit_us.p999)" \
        "$(median $x hit_us.max)" "$(median $x waited_us.p50)" "$(median $x waited_us.p999)"
    printf '%s lost, %s torn, %s errors, %s refused, %s evicted; %s of %s adds counted.\n\n' \
        "$(median $x lost)" "$(median $x torn)" "$(median $x errors)" "$(median $x full)" \
        "$(median $x evicted)" "$(median $x adds_counted)" "$(median $x adds)"
    printf '![Memory and disk through the churn](plots/churn.svg)\n\n'
    x=churn-overwrite
    if has $x ops_per_second; then
        printf '`godwit-bench churn overwrite`: %.0f MiB of live data, %.0f MiB written over it in %.0f s. Disk at most %.2f times the live bytes, %.2f in the end.\n' \
            "$(m $x live_bytes)" "$(m $x written_bytes)" "$(median $x seconds)" \
            "$(median $x disk_over_live_max)" "$(median $x disk_over_live_end)"
        printf 'Compaction read %.0f MiB and copied %.0f MiB, with %s device reads only to tell the dead; %.0f k ops/s while it worked (%.0f s), %.0f k while it rested: %.0f %%.\n\n' \
            "$(m $x compacted_bytes)" "$(m $x compacted_live_bytes)" "$(median $x compact_reads)" \
            "$(median $x ops_per_second_compacting 1e-3)" "$(median $x seconds_compacting)" \
            "$(median $x ops_per_second_resting 1e-3)" \
            "$(awk -v a="$(median $x ops_per_second_compacting)" -v b="$(median $x ops_per_second_resting)" \
                'BEGIN { print (b > 0 ? a / b * 100 : 0) }')"
        printf '![Disk against live bytes while overwriting](plots/overwrite.svg)\n\n'
    fi
    x=churn-growth
    has $x ops_per_second || return 0
    printf '`godwit-bench churn growth`: %s to %s buckets in %.1f s, %.2f M ops/s, %.1f index bytes a key on the mean. Longest turn (32 operations and the\nstore'"'"'s own work): %.0f us while nothing was split, %.0f us while chunks were; by processor time %.0f and %.0f us.\n\n' \
        "$(median $x buckets_from)" "$(median $x buckets_to)" "$(median $x seconds)" \
        "$(median $x ops_per_second 1e-6)" "$(median $x index_bytes_per_key)" \
        "$(median $x turn_us.max)" "$(median $x turn_growing_us.max)" \
        "$(median $x turn_cpu_max_us)" "$(median $x turn_growing_cpu_max_us)"
}

profile_table() {
    has profile rows.0.name || return 0
    local i stage stages='fill hash enter execute exit check total_ns'
    cat <<END
### Where the time goes

\`godwit-bench profile\`, $(median profile keys) keys, one thread, batches of $(median profile batch): nanoseconds an operation between time stamps around the stages of a batch. Hot keys lie
in the first-level caches, so their rows are the cost of the instructions, and the difference to uniform is memory that was not hidden.
A read of an absent key touches a bucket and no record.

| ns an operation | fill | hash | enter | execute | exit | check | all |
| --- | --- | --- | --- | --- | --- | --- | --- |
END
    for ((i = 0; i < 64; i++)); do
        has profile rows.$i.name || break
        printf '| %s |' "$(numbers profile rows.$i.name | head -n 1)"
        for stage in $stages; do
            printf ' %.1f |' "$(median profile "rows.$i.$stage")"
        done
        echo
    done
    echo
}

# What was asked of the engine, and what these runs gave.
asked() { # WHAT ASKED MEASURED
    [ "$3" = - ] || [ -z "$3" ] || printf '| %s | %s | %s |\n' "$1" "$2" "$3"
}
asked_table() {
    local line=lines_per_second_one_core two=churn-overwrite x=churn-mixed
    printf '### Asked and measured\n\n| what | asked | measured |\n| --- | --- | --- |\n'
    asked 'reads, % of half the line rate' 'at least 70' \
        "$(show %.0f "$(ratios memory-c ops_per_second dram $line 200)")"
    asked 'counter adds, % of half the line rate' 'at least 60' \
        "$(show %.0f "$(ratios memory-add ops_per_second dram $line 200)")"
    asked 'half and half, % of half the line rate' 'at least 55' \
        "$(show %.0f "$(ratios memory-50:50 ops_per_second dram $line 200)")"
    asked 'two threads : one, reads' 'at least 1.8' \
        "$(show %.2f "$(ratios threads-c-2 ops_per_second threads-c-1 ops_per_second 1)")"
    asked 'zipfian 0.99 : uniform, reads' 'at least 1' \
        "$(show %.2f "$(ratios memory-c-zipfian ops_per_second memory-c ops_per_second 1)")"
    asked 'reads of 100 bytes, % of a third of the line rate' 'at least 45, or 5 M/s' \
        "$(show %.0f "$(ratios memory-c-100 ops_per_second dram $line 300)")"
    asked 'hashing 16 bytes, ns' 'below 8' "$(show %.1f "$(spread hash keys.1.both_ns)")"
    asked 'data 4 x memory, uniform: device reads, % of fio' 'at least 80' \
        "$(show %.0f "$(ratios cold-uniform-4 device.reads_per_second fio jobs.0.read.iops 100)")"
    asked 'the same, us of CPU a read' 'below 15' \
        "$(show %.1f "$(spread cold-uniform-4 device.cpu_us_per_read)")"
    asked 'the same, zipfian 0.99 : uniform' 'at least 5' \
        "$(show %.1f "$(ratios cold-zipfian-4 ops_per_second cold-uniform-4 ops_per_second 1)")"
    asked 'churn: resident : --memory' 'at most 1.1' "$(show %.3f "$(spread $x rss_over_memory)")"
    asked 'churn: p99.9 of hits, us' 'below 2000' "$(show %.0f "$(spread $x hit_us.p999)")"
    asked 'churn: evicted, lost, torn' '0, 0, 0' \
        "$(has $x lost && echo "$(median $x evicted), $(median $x lost), $(median $x torn)")"
    asked 'overwriting: disk : live bytes, at most' 'below 2' \
        "$(show %.2f "$(spread $two disk_over_live_max)")"
    asked 'overwriting: throughput lost to compaction, %' 'below 25' \
        "$(has $two ops_per_second && awk -v a="$(median $two ops_per_second_compacting)" \
            -v b="$(median $two ops_per_second_resting)" \
            'BEGIN { if (b > 0) printf "%.0f", (1 - a / b) * 100 }')"
    asked 'growth: longest turn, us (by processor time)' 'below 1000' \
        "$(has churn-growth splits && printf '%.0f (%.0f)' "$(median churn-growth turn_growing_us.max)" \
            "$(median churn-growth turn_growing_cpu_max_us)")"
    echo
}

# ---- plots ----

# points NAMES... on stdin as "x name": "x median least most", for ops/s times FACTOR.
points() {
    local x name
    while read -r x name; do
        has "$name" ops_per_second && echo "$x $(spread "$name" ops_per_second "$1")"
    done
    return 0
}

plot() { # FILE; commands on stdin
    {
        echo "set terminal svg size 760,400 font 'Helvetica,13' background '#ffffff'"
        echo "set output '$plots/$1.svg'"
        cat <<'END'
set border 3 lc '#555555'; set tics nomirror textcolor '#333333'; set grid ytics lt 1 lw 0.8 lc '#dddddd'
set key outside right top Left reverse samplen 1.5 spacing 1.2
set style line 1 lc '#1f5fa8' lw 2 pt 7 ps 0.7; set style line 2 lc '#c8501e' lw 2 pt 5 ps 0.7
set style line 3 lc '#2e8b57' lw 2 pt 9 ps 0.8; set style line 4 lc '#7a4fa3' lw 2 pt 13 ps 0.8
set style line 9 lc '#888888' lw 1.5 dt 2
END
        cat
    } >"$out/$1.gp"
    gnuplot "$out/$1.gp"
}

plot_all() {
    local x w
    mkdir -p "$out/points"
    if has threads-c-1 ops_per_second; then
        for w in c add 50:50 zipfian; do
            for x in $(thread_counts); do echo "$x threads-$w-$x"; done |
                points 1e-6 >"$out/points/threads-$w"
        done
        plot threads <<END
set xlabel 'threads (${machine[cpus]} processors)'; set ylabel 'M operations/s'; set yrange [0:*]; set xtics 1
set xrange [0.7:$(thread_counts | tail -n 1).3]
plot '$out/points/threads-c' with yerrorlines ls 1 title 'reads', \
     '$out/points/threads-add' with yerrorlines ls 2 title 'counter adds', \
     '$out/points/threads-50:50' with yerrorlines ls 3 title 'half and half', \
     '$out/points/threads-zipfian' with yerrorlines ls 4 title 'reads, zipfian 0.99'
END
    fi
    if has values-c-8 ops_per_second; then
        for w in c a; do
            for x in $(value_sizes); do echo "$x values-$w-$x"; done |
                points 1e-6 >"$out/points/values-$w"
        done
        plot values <<END
set xlabel 'bytes of a value'; set ylabel 'M operations/s'; set logscale xy; set xrange [6:100000]
set xtics (8, 32, 100, 256, '1 Ki' 1024, '4 Ki' 4096, '16 Ki' 16384, '64 Ki' 65536)
plot '$out/points/values-c' with yerrorlines ls 1 title 'reads', \
     '$out/points/values-a' with yerrorlines ls 2 title 'half reads, half sets'
END
    fi
    if has cold-uniform-4 ops_per_second; then
        for w in uniform zipfian a-zipfian; do
            for x in $(cold_ratios); do echo "$x cold-$w-$x"; done |
                points 1e-3 >"$out/points/cold-$w"
        done
        local fio
        fio=$(median fio jobs.0.read.iops 1e-3)
        plot ratio <<END
set xlabel 'data : memory (${machine[memory]})'; set ylabel 'thousand operations/s'; set logscale y
set xrange [0.5:8.5]; set xtics 1
plot '$out/points/cold-uniform' with yerrorlines ls 1 title 'reads, uniform', \
     '$out/points/cold-zipfian' with yerrorlines ls 2 title 'reads, zipfian 0.99', \
     '$out/points/cold-a-zipfian' with yerrorlines ls 3 title 'half sets, zipfian'${fio:+, \
     $fio with lines ls 9 title 'device reads of fio'}
END
    fi
    # Columns of a series: 1 seconds, 4 resident, 5 live, 7 disk, 9 index bytes, 10 buckets.
    if [ -s "$out/churn-mixed.tsv" ]; then
        plot churn <<END
set xlabel 'seconds'; set ylabel 'GiB'; set yrange [0:*]; set xrange [0:*] noextend; g = 1073741824.0
plot '$out/churn-mixed.tsv' using 1:(\$7/g) with lines ls 2 title 'disk', \
     '' using 1:(\$5/g) with lines ls 1 title 'live bytes', \
     '' using 1:(\$4/g) with lines ls 3 title 'resident memory', \
     $(bytes_of "${machine[churn_memory]}")/g with lines ls 9 title '--memory'
END
    fi
    if [ -s "$out/churn-overwrite.tsv" ]; then
        plot overwrite <<END
set xlabel 'seconds'; set ylabel 'GiB'; set yrange [0:*]; set xrange [0:*] noextend; g = 1073741824.0
plot '$out/churn-overwrite.tsv' using 1:(\$7/g) with lines ls 2 title 'disk', \
     '' using 1:(\$5/g) with lines ls 1 title 'live bytes', \
     '' using 1:(2*\$5/g) with lines ls 9 title 'twice the live bytes'
END
    fi
}
bytes_of() {
    numfmt --from=auto "${1%B}"
}

# ---- the section ----

plot_all
{
    cat <<END
## The engine

Measured on ${machine[date]} at ${machine[commit]} by \`bench/engine.sh\`: ${machine[cpu]}, ${machine[cpus]} CPUs, ${machine[ram]}, Linux ${machine[kernel]}. Each run is a process of its own;
the rows of a round follow one another, so that all of them see the same machine.

END
    asked_table
    memory_table
    threads_table
    values_table
    cold_table
    churn_text
    profile_table
} >"$out/section.md"

[ "$target" != - ] || {
    cat "$out/section.md"
    exit 0
}
if ! { grep -qx '<!-- engine -->' "$target" && grep -qx '<!-- /engine -->' "$target"; }; then
    echo "$target: no line '<!-- engine -->' or '<!-- /engine -->': the section is in $out/section.md" >&2
    exit 1
fi
awk -v section="$out/section.md" '
    $0 == "<!-- engine -->" { print; while ((getline line < section) > 0) print line; skip = 1 }
    $0 == "<!-- /engine -->" { skip = 0 }
    !skip' "$target" >"$out/target.md"
cat "$out/target.md" >"$target"
