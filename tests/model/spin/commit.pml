/* commit.pml - when may a reply leave, if every dispatcher has a commit log of its own (ENGINE H3,
 * rules 20 and 21; server/durable.h, server/commit.c, server/recover_commit.c)?
 *
 * Two dispatchers run batches of one or two operations on KEYS keys. A key's changes carry versions
 * 1, 2, 3 ... (the record's lock). A change is gathered, then in flight, then durable, in the log of
 * the dispatcher that made it. A crash comes at any moment; what was in flight is durable or is not.
 *
 * THE RULE, in the order that is proven here. Every access to `round` and `open[]` is seq_cst.
 *
 *  a change   before the first operation of a batch that may append (a batch that only reads skips
 *             this): tag = load(round); if nothing of mine is open: store(open[me], tag). Only then
 *             the operation. The first batch that puts something into an empty gather buffer
 *             remembers its tag: `first`.
 *  end of     r = load(round), after the last operation, reads too; then load every open[], one's
 *  a batch    own too: all > r: what the batch shows is durable, its replies leave (position 0).
 *             Else they are held with position r. If open was stored but nothing was gathered and
 *             nothing is in flight: close, as below, with nothing open.
 *  flush      begin: fetch_add(round), take the buffer, first = none. (Not needed for safety; with
 *             it the replies of one flush need not wait for the next one too.)
 *             end, durable: close.
 *  close      store(open[me], first of what has gathered meanwhile, or NOTHING); then
 *             fetch_add(round); then load every waits[], wake whose is set. This order: with the
 *             round first, or without it, a reply with r == round may be held for ever.
 *  release    x = load(round) FIRST, then every open[]; durable position = min(x, opens) - 1. Held
 *             replies at or below it leave, and anybody may be told this position, from whichever
 *             thread: no later batch gets an r that low and shows what is not durable.
 *  sleep      with replies held: store(waits[me], true); release once more; sleep; on waking clear
 *             waits[me]. A sleeper with a buffer that is not empty has a timer (here: it flushes).
 *  recovery   per key the durable versions without a gap. What is behind a gap is dropped and its
 *             serial counts as not applied. An entry that changed nothing (NOTHING) carries the
 *             version that it saw, and counts only if that version is recovered: else a resent
 *             operation would be answered from a state that never was.
 *
 * Checked, for a crash at any moment (crash(), called whenever what a crash would leave changes):
 * each version that an acknowledged reply showed, by a write or by a read, is recovered; a serial
 * counts as applied if and only if its effect is in what is recovered. And as invalid end states:
 * no reply is held for ever, nobody sleeps through his release.
 * Left out: more than two dispatchers (the arguments are of pairs), images of checkpoints (version
 * 0 stands for them), memory orders weaker than seq_cst.
 *
 * Definitions: KEYS=1, BATCHES0=2, BATCHES1=1 as default; OPS=2 operations a batch at most; NOTHING:
 * with operations that change nothing and leave an entry. Rules off, each of which Spin refutes
 * with -DOPS=1:
 *   HOLE_OWN       a reply waits for its own dispatcher's flush only
 *   HOLE_READS     replies of batches that only read do not wait
 *   HOLE_BOUNDARY  r is the round read before the first operation of the batch
 *   HOLE_LATE      tag and open come after the operation
 *   HOLE_CLOSE     the end of a flush says NOTHING although more has gathered
 *   HOLE_RETAG     it says the round of now instead of the round of then
 *   HOLE_ORDER     release loads the opens first and the round last
 *   HOLE_GAP       recovery takes the newest durable version, gaps or not
 *   HOLE_SERIAL    serials behind a gap count as applied
 *   HOLE_NOTHING   (with NOTHING) so do entries that changed nothing
 *   HOLE_BUMP      close does not raise the round
 *   HOLE_FIRST     it raises the round before it stores open
 *   HOLE_SLEEP     a sleeper does not look once more
 *
 * No error in any state (one core): -DOPS=1: 3.3 M states, 2 s. -DOPS=1 -DNOTHING: 11.7 M, 7 s.
 * -DBATCHES0=1: 0.6 M, 0.2 s. -DBATCHES0=1 -DKEYS=2: 2.8 M, 1.3 s. The defaults: 40 M, 33 s. */

#ifndef KEYS
#define KEYS 1
#endif
#ifndef BATCHES0
#define BATCHES0 2
#endif
#ifndef BATCHES1
#define BATCHES1 1
#endif
#ifndef OPS
#define OPS 2
#endif
#define NONE     255
#define VERSIONS (OPS * (BATCHES0 + BATCHES1) + 1)
#define AT(k, v) ((k) * VERSIONS + (v))
#define SHOWN(which, k) ((which) * KEYS + (k))

/* where a change, or an entry that changed nothing, is */
#define GATHERED 1
#define FLYING   2
#define DURABLE  3

byte round = 1;
byte open[2] = NONE;
bool waits[2];
bool ring[2]; /* somebody woke it */

byte version[KEYS];          /* newest, in memory */
byte place[KEYS * VERSIONS]; /* of version v of key k */
bit maker[KEYS * VERSIONS];  /* whose log has it */
byte acked[KEYS];            /* newest version that a client was shown */
byte told;                   /* durable position that anybody may have been told */
hidden byte flown, newest, recovered, c;
#define IN_LOG(p, m) ((p) == DURABLE || ((p) == FLYING && ((flown >> (m)) & 1)))
#ifdef NOTHING
byte nothing_place[2], nothing_key[2], nothing_saw[2]; /* one such entry of each dispatcher */
#endif

/* What a crash at this moment would leave; called whenever that changes. What is in flight in each
 * log is there or is not: `flown` is one bit of each dispatcher. */
inline crash()
{
    d_step {
        flown = 0;
        do
        :: flown < 4 ->
            c = 0;
            do
            :: c < KEYS ->
                v = 1;
                recovered = 0;
                newest = 0;
                do
                :: v < VERSIONS ->
                    if
                    :: IN_LOG(place[AT(c, v)], maker[AT(c, v)]) ->
                        newest = v;
                        if
                        :: recovered == v - 1 -> recovered = v
                        :: else -> skip
                        fi
                    :: else -> skip
                    fi;
                    v++
                :: else -> break
                od;
#ifdef HOLE_GAP
                recovered = newest;
#endif
                assert(recovered >= acked[c]);
                /* A change is in what is recovered, by itself or under a later one, or it is not:
                 * and its serial counts if its entry is met and kept. */
                v = 1;
                do
                :: v < VERSIONS ->
#ifdef HOLE_SERIAL
                    assert(IN_LOG(place[AT(c, v)], maker[AT(c, v)]) == (v <= recovered));
#else
                    assert((IN_LOG(place[AT(c, v)], maker[AT(c, v)]) && v <= recovered) ==
                           (v <= recovered));
#endif
                    v++
                :: else -> break
                od;
#ifdef HOLE_NOTHING
                v = 0;
                do
                :: v < 2 ->
                    assert(!IN_LOG(nothing_place[v], v) || nothing_key[v] != c ||
                           nothing_saw[v] <= recovered);
                    v++
                :: else -> break
                od;
#endif
                c++
            :: else -> break
            od;
            flown++
        :: else -> break
        od;
        flown = 0;
        newest = 0;
        recovered = 0;
        c = 0;
        v = 0
    }
}

inline move_all(from, to)
{
    d_step {
        k = 0;
        do
        :: k < KEYS ->
            v = 1;
            do
            :: v < VERSIONS ->
                if
                :: place[AT(k, v)] == from && maker[AT(k, v)] == me -> place[AT(k, v)] = to
                :: else -> skip
                fi;
                v++
            :: else -> break
            od;
            k++
        :: else -> break
        od;
#ifdef NOTHING
        if
        :: nothing_place[me] == from -> nothing_place[me] = to
        :: else -> skip
        fi;
#endif
        k = 0;
        v = 0
    }
}

inline acknowledge(which)
{
    d_step {
        k = 0;
        do
        :: k < KEYS ->
            if
            :: shown[SHOWN(which, k)] > acked[k] -> acked[k] = shown[SHOWN(which, k)]
            :: else -> skip
            fi;
            shown[SHOWN(which, k)] = 0;
            k++
        :: else -> break
        od;
        k = 0
    }
    crash()
}

inline shown_too()
{
    if
    :: v > shown[SHOWN(0, k)] -> shown[SHOWN(0, k)] = v
    :: else -> skip
    fi
}

/* One load. */
inline least(word)
{
    d_step {
        if
        :: word < low -> low = word
        :: else -> skip
        fi
    }
}

/* Before the first operation of a batch that may append. */
inline publish()
{
    if
    :: published -> skip
    :: else ->
        tag = round;
        if
        :: open[me] == NONE -> open[me] = tag
        :: else -> skip
        fi;
        published = true
    fi
}

inline close_open()
{
#ifdef HOLE_FIRST
    round++;
#endif
#if defined(HOLE_CLOSE)
    open[me] = NONE;
#elif defined(HOLE_RETAG)
    if
    :: first == NONE -> open[me] = NONE
    :: else -> open[me] = round
    fi;
#else
    open[me] = first;
#endif
#if !defined(HOLE_BUMP) && !defined(HOLE_FIRST)
    round++;
#endif
    if
    :: waits[1 - me] -> ring[1 - me] = true
    :: else -> skip
    fi
}

/* Lets go what is durable, and remembers what clients have been told. */
inline release()
{
#ifdef HOLE_ORDER
    low = open[me];
    least(open[1 - me]);
    least(round);
#else
    low = round;
    least(open[me]);
    least(open[1 - me]);
#endif
    d_step {
        if
        :: low - 1 > told -> told = low - 1
        :: else -> skip
        fi;
        low = 0
    }
    if
    :: held1 != NONE && held1 <= told -> acknowledge(1); held1 = NONE
    :: else -> skip
    fi;
    if
    :: held2 != NONE && held2 <= told -> acknowledge(2); held2 = NONE
    :: else -> skip
    fi
}

inline hold()
{
    d_step {
        k = 0;
        do
        :: k < KEYS ->
            if
            :: held1 == NONE -> shown[SHOWN(1, k)] = shown[SHOWN(0, k)]
            :: else -> shown[SHOWN(2, k)] = shown[SHOWN(0, k)]
            fi;
            shown[SHOWN(0, k)] = 0;
            k++
        :: else -> break
        od;
        if
        :: held1 == NONE -> held1 = r
        :: else ->
            assert(held2 == NONE);
            held2 = r
        fi;
        k = 0
    }
}

inline operation()
{
    if
    :: k = 0
#if KEYS > 1
    :: k = 1
#endif
    fi;
    if
    :: /* read */
        atomic {
            v = version[k];
            shown_too();
            v = 0;
            k = 0
        }
    :: true -> /* change */
#ifndef HOLE_LATE
        publish();
#endif
        atomic {
            version[k]++;
            v = version[k];
            place[AT(k, v)] = GATHERED;
            maker[AT(k, v)] = me;
            shown_too();
            wrote = true;
            k = 0;
            crash()
        }
#ifdef HOLE_LATE
        publish();
#endif
        if
        :: first == NONE -> first = tag
        :: else -> skip
        fi
    :: true -> /* might have changed something, failed, and has left no entry */
        publish();
        atomic {
            v = version[k];
            shown_too();
            v = 0;
            k = 0
        }
#ifdef NOTHING
    :: nothing_place[me] == 0 ->
        publish();
        atomic {
            v = version[k];
            nothing_place[me] = GATHERED;
            nothing_key[me] = k;
            nothing_saw[me] = v;
            shown_too();
            wrote = true;
            k = 0;
            crash()
        }
        if
        :: first == NONE -> first = tag
        :: else -> skip
        fi
#endif
    fi
}

proctype dispatcher(bit me; byte batches)
{
    byte k, v, tag, r, low, ops;
    byte first = NONE;
    bool flying, published, wrote;
    byte held1 = NONE, held2 = NONE;
    byte shown[3 * KEYS]; /* newest version: in the batch that runs, in the two that are held */

    do
    :: batches > 0 && (held1 == NONE || held2 == NONE) ->
        batches--;
#ifdef HOLE_BOUNDARY
        r = round;
#endif
        ops = OPS;
        do
        :: ops > 0 -> operation(); ops--
        :: ops > 0 && ops < OPS -> break
        :: ops == 0 -> break
        od;
        ops = 0;
#ifndef HOLE_BOUNDARY
        r = round;
#endif
        if
        :: published && first == NONE && !flying -> close_open()
        :: else -> skip
        fi;
        published = false;
        tag = 0;
#if defined(HOLE_OWN)
        low = open[me];
#elif defined(HOLE_READS)
        low = NONE;
        if
        :: !wrote -> skip
        :: else ->
            low = open[me];
            least(open[1 - me])
        fi;
#else
        low = open[me];
        least(open[1 - me]);
#endif
        wrote = false;
        if
        :: low > r || r <= told -> acknowledge(0)
        :: else -> hold()
        fi;
        r = 0;
        low = 0
    :: first != NONE && !flying -> /* flush: begin */
        round++;
        atomic {
            move_all(GATHERED, FLYING);
            crash()
        }
        first = NONE;
        flying = true
    :: flying -> /* the device has said so */
        atomic {
            move_all(FLYING, DURABLE);
            crash()
        }
        flying = false;
        close_open()
#ifdef HOLE_OWN
        ;
        if
        :: held1 != NONE -> acknowledge(1); held1 = NONE
        :: else -> skip
        fi;
        if
        :: held2 != NONE -> acknowledge(2); held2 = NONE
        :: else -> skip
        fi
#endif
    :: (held1 != NONE || held2 != NONE) -> /* a turn, and then sleep if nothing else is to do */
#ifndef HOLE_SLEEP
        waits[me] = true;
#endif
        release();
#ifdef HOLE_SLEEP
        waits[me] = true;
#endif
        if
        :: (held1 == NONE && held2 == NONE) || first != NONE || flying
        :: else ->
            if
            :: ring[me]
            :: batches > 0 /* a request comes */
            fi;
            ring[me] = false
        fi;
        waits[me] = false
    :: batches == 0 && first == NONE && !flying && held1 == NONE && held2 == NONE -> break
    od
}

init
{
    atomic {
        run dispatcher(0, BATCHES0);
        run dispatcher(1, BATCHES1)
    }
}
