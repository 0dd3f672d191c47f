#!/usr/bin/env bash
# The demonstration's second act, called by bench/demo.sh: a server holds several times its memory,
# most of it in a shared tier, and gives half of its slots away while words are counted. What lies in
# the shared tier stays where it is: the target gets what is in memory, and indirections to the rest.
#
# The cold data are the records of all Debian packages, several times over under different keys. At
# the end every record and every count is read back and compared.
#
# usage: bench/demo_beyond.sh PROGRAMS WORDS WORK OUT
#   WORDS: words to count, one a line; WORK: an own directory; OUT: gets beyond.txt and logs
#   DEMO_BEYOND_MEMORY=64 (MiB of each server)   DEMO_BEYOND_COPIES=6
#   DEMO_BEYOND_WORDS=300000   so many of the words are counted, over and over: the hot part
set -euo pipefail
export LC_ALL=C
bin=$1 words=$2 work=$3 out=$4
memory=${DEMO_BEYOND_MEMORY:-64} copies=${DEMO_BEYOND_COPIES:-6} some=${DEMO_BEYOND_WORDS:-300000}

say() {
    printf '== %s\n' "$*" >&2
}

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

if ! "$bin/godwit-server" --help | grep -q -- '--blob'; then
    say "beyond memory: left out, this godwit-server has no shared tier (--blob)"
    exit 0
fi

pids=()
cleanup() {
    local i
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
    done
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        wait "${pids[i]}" 2>/dev/null || true
    done
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# start NAME PROGRAM WORDS...: waits for its ready line and leaves its address in $address.
start() {
    local name=$1 i
    shift
    "$@" >"$work/$name.out" 2>"$out/$name.log" &
    pids+=($!)
    for ((i = 0; i < 200; i++)); do
        address=$(sed -n 's/.* ready .*listen=\([^ ]*\).*/\1/p' "$work/$name.out")
        [ -z "$address" ] || return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    tail -n 5 "$out/$name.log" >&2 || true
    die "$name did not start"
}

start_server() {
    mkdir -p "$work/$1"
    start "$1" "$bin/godwit-server" --id "$1" --listen 127.0.0.1:0 --coordinator "$coordinator" \
        --data "$work/$1" --threads 1 --memory "${memory}MiB" --disk "$((memory * 2))MiB" \
        --blob "dir:$work/objects"
}

# field JOB NAME: one field of a job.
field() {
    "$bin/godwit" job show "$1" | awk -v name="$2" '$1 == name && !seen++ { print $2 }'
}

# lag: bytes of D's log that are closed and not uploaded.
lag() {
    "$bin/godwit" --json explain store --server D | tr ',{' '\n\n' |
        sed -n 's/.*"lag_bytes": *\([0-9]*\).*/\1/p'
}

say "records of all packages, $copies times"
apt-cache dumpavail | iconv -c -f UTF-8 -t UTF-8 | tr -d '\000-\010\013-\037\177' |
    awk -v copies="$copies" '
        BEGIN { RS = ""; FS = "\n" }
        { gsub(/\\/, "\\\\"); gsub(/\t/, "\\t"); gsub(/\n/, "\\n")
          for (i = 1; i <= copies; i++) print "record:" NR ":" i "\t" $0 }' >"$work/records"
bytes=$(stat -c %s "$work/records") records=$(wc -l <"$work/records")
[ "$records" -gt 100000 ] || die "only $records records: are there package lists?"

mkdir "$work/objects"
start beyond-coordinator "$bin/godwit-coordinator" --listen 127.0.0.1:0 \
    --store "sqlite:$work/beyond.db"
coordinator=$address
export GODWIT_COORDINATOR=$coordinator
start_server D
say "$records records, $((bytes >> 20)) MiB, into one server with $memory MiB of memory"
"$bin/godwit" load <"$work/records" >/dev/null || die "loading failed"
for ((i = 0; i < 600; i++)); do
    left=$(lag)
    [ "${left:-0}" -gt 0 ] || break
    sleep 0.1
done
start_server E
"$bin/godwit" status >&2

say "half of the slots to E, while words are counted"
head -n "$some" "$words" >"$work/some"
# Whole passes until the move is over, so that every count is a multiple of its number.
{
    passes=0
    until [ -e "$work/moved" ]; do
        cat "$work/some"
        passes=$((passes + 1))
    done
    echo $passes >"$work/passes"
} | "$bin/godwit" count >"$work/beyond-count" 2>"$work/beyond-count.err" &
count_pid=$!
pids+=("$count_pid")
sleep 2
job=$("$bin/godwit" migrate --slots 0-8191 --from D --to E --wait --timeout 150) ||
    die "the move failed"
kill -0 "$count_pid" 2>/dev/null || die "counting ended early: $(cat "$work/beyond-count.err")"
sleep 1
touch "$work/moved"
wait "$count_pid" || die "counting failed: $(cat "$work/beyond-count" "$work/beyond-count.err")"
passes=$(cat "$work/passes")
"$bin/godwit" status >&2

say "comparing every record and every count"
{
    cat "$work/records"
    sort "$work/some" | uniq -c | sed 's/\\/\\\\/g' | awk -v times="$passes" '{ printf "%s\t%.0f\n", $2, $1 * times }'
} | sort >"$work/beyond-expected"
"$bin/godwit" export | sort >"$work/beyond-actual"
rc=0
cmp -s "$work/beyond-expected" "$work/beyond-actual" || rc=1
moved=$(field "$job" bytes_moved)
{
    if [ $rc -eq 0 ]; then
        echo "verdict            all $records records and all counts exact"
    else
        echo "verdict            WRONG: records or counts differ"
    fi
    echo "data               $((bytes >> 20)) MiB of records, memory of a server $memory MiB, disk $((memory * 2)) MiB"
    echo "move               $(($(field "$job" finished_ms) - $(field "$job" created_ms))) ms, $((moved >> 20)) MiB sent, $(field "$job" indirections) indirections, $(field "$job" pulls) pulls"
    echo "pause              $(field "$job" pause_us) us, the longest that a request of the range waited at a server"
    echo "stayed             $((bytes / 2 > moved ? (bytes / 2 - moved) >> 20 : 0)) MiB of about $((bytes >> 21)) MiB of records that changed hands were not sent"
    sed 's/ /\n/g; s/=/ /g' "$work/beyond-count" | awk '{ printf "%-18s %s\n", $1, $2 }'
} | tee "$out/beyond.txt"
exit $rc
