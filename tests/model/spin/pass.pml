/* Godwit: the pass over the log and the walk over the index behind it bring every key, newest version first, whatever
   compaction, promotion, the head of the log and a split of the bucket do between any two steps. Spin model of the rules of
   migration/outgoing_pass.c and of gw_store_walk_rest.

   One bucket, one chain of three records at the addresses 1 to 3, of two keys in any order: chains of one key with old
   versions are among them. Each address is a page by itself. The range is frozen: nobody writes, but compaction copies what
   is live at begin to the tail and lets begin rise, look-ups promote cold records by a copy at the tail, head rises, pages
   are sent, acknowledged, lost by a restart, or cannot be read. The set of mixed chains is index/chains.h: it remembers the
   highest record that was put before one of another key, and forgets when begin has passed it. A split copies the entry to
   both children; from then on each key has its own. The target inserts what is absent. Sequentially consistent.

   Run:  ./run pass [-D...]      -DCOPIES= (2) copies at most      -DRESTARTS= (1)
   Checked: when the walk is over the target has the newest version of both keys.
   No error, all states: the default, 1.4 M states, 1 s; -DRESTARTS=2, 2.1 M, 2 s; -DCOPIES=3, 10.5 M, 19 s.
   One rule off, error found:
     HOLE_LED         every record of a page goes out, not only that to which the entry leads      rule 1: an older version is first
     HOLE_SENT        a page that was sent counts, lost with its connection or not                 rule 2: lost
     HOLE_MIXED       the walk leaves a chain of several keys out                                  rule 2: the keys behind are lost
     HOLE_UNREADABLE  a page that cannot be read counts as brought                                 rule 4: lost
     HOLE_EARLY       the walk begins before the pages are acknowledged, and takes them for brought */
#ifndef COPIES
#define COPIES 2
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif

#define LAST (3 + COPIES) /* addresses: 1 to LAST */

#define FREE       0
#define SENT       1
#define ACKED      2
#define UNREADABLE 3

byte key[LAST + 1], value[LAST + 1], previous[LAST + 1];
byte state[LAST + 1];
byte entry[2];         /* by key; the same one before the split */
bool split;
byte begin = 1, head = 1, tail = 4;
byte mark;             /* the mixed chain's highest record before one of another key */
byte newest[2];        /* values; 0: there is no such key */
byte target[2];        /* what it has; 0: nothing */
byte limit;            /* the pass is at its end; 0: it is not */
byte walked, restarts;

#define MIXED       (mark >= begin)
#define INSERT(k, v) if :: target[k] == 0 -> target[k] = v :: else fi

#ifdef HOLE_MIXED
#define ONE true
#else
#define ONE (!MIXED)
#endif
#ifdef HOLE_UNREADABLE
#define BROUGHT(a) (state[a] >= ACKED)
#elif defined(HOLE_EARLY)
#define BROUGHT(a) (state[a] == SENT || state[a] == ACKED)
#else
#define BROUGHT(a) (state[a] == ACKED)
#endif
#ifdef HOLE_LED
#define LED(a) true
#else
#define LED(a) (entry[key[a]] == a)
#endif

/* Puts a copy of the record at `a` in front of its chain. */
inline copy(a)
{
    key[tail] = key[a];
    value[tail] = value[a];
    previous[tail] = entry[key[a]];
    if
    :: entry[key[a]] >= begin && key[entry[key[a]]] != key[a] -> mark = tail
    :: else
    fi;
    if
    :: split -> entry[key[a]] = tail
    :: else -> entry[0] = tail; entry[1] = tail
    fi;
    tail++
}

/* at = the newest record of key k, or 0. */
inline find(k)
{
    at = entry[k];
    do
    :: at != 0 && at >= begin && key[at] != k -> at = previous[at]
    :: else -> break
    od;
    if
    :: at < begin -> at = 0
    :: else
    fi
}

inline set(a, k)
{
    key[a] = k;
    value[a] = a;
    newest[k] = a;
    previous[a] = a - 1;
    if
    :: a > 1 && key[a - 1] != k -> mark = a
    :: else
    fi
}

active proctype log()
{
    byte at;
    atomic {
        if :: set(1, 0) :: set(1, 1) fi;
        if :: set(2, 0) :: set(2, 1) fi;
        if :: set(3, 0) :: set(3, 1) fi;
        entry[0] = 3;
        entry[1] = 3;
    }
    do
    :: atomic { head < tail -> head++ }
    :: atomic { !split -> split = true }
    :: atomic { /* compaction */
           begin < head && tail <= LAST ->
           find(key[begin]);
           if
           :: at == begin -> copy(begin)
           :: else
           fi;
           begin++;
           at = 0
       }
    :: atomic { /* promotion */
           tail <= LAST ->
           if :: find(0) :: find(1) fi;
           if
           :: at != 0 && at < head -> copy(at)
           :: else
           fi;
           at = 0
       }
    :: atomic { walked == 2 -> break }
    od
}

active proctype source()
{
    byte p, at;
    (entry[0] != 0);
    /* The pass. */
    do
    :: atomic { /* a page that nobody has in hand, in any order */
           limit == 0 ->
           p = 1;
           do
           :: p < head && state[p] != FREE -> p++
           :: else -> break
           od;
           if
           :: p >= head -> limit = head
           :: p < head && p < begin -> state[p] = ACKED /* gone: nothing in it counts */
           :: p < head && p >= begin && !LED(p) -> state[p] = ACKED
           :: p < head && p >= begin && LED(p) -> state[p] = SENT
           :: p < head && p >= begin -> state[p] = UNREADABLE
           fi;
           p = 0
       }
    :: atomic { /* what was sent comes, and is acknowledged */
           p = 1;
           do
           :: p < LAST && state[p] != SENT -> p++
           :: else -> break
           od;
           if
           :: state[p] == SENT ->
              INSERT(key[p], value[p]);
              state[p] = ACKED
           :: else
           fi;
           p = 0
       }
    :: atomic { /* the connection is lost: what was sent did not come */
           restarts < RESTARTS ->
           restarts++;
           limit = 0;
           p = 1;
           do
           :: p <= LAST ->
              if
#ifdef HOLE_SENT
              :: state[p] == SENT -> state[p] = ACKED
#else
              :: state[p] == SENT -> state[p] = FREE
#endif
              :: else
              fi;
              p++
           :: else -> break
           od;
           p = 0
       }
    :: atomic { /* every page is settled */
           limit != 0 ->
           p = 1;
           do
#ifdef HOLE_EARLY
           :: p < limit && state[p] != FREE -> p++
#else
           :: p < limit && (state[p] == ACKED || state[p] == UNREADABLE) -> p++
#endif
           :: else -> break
           od;
           if
           :: p >= limit -> p = 0; break
           :: else -> p = 0
           fi
       }
    od;
    /* The walk: a key at a time, for after a split each is in a bucket of its own. */
    do
    :: atomic {
           walked < 2 ->
           at = entry[walked];
           if
           :: at < begin /* there is none */
           :: at >= begin && ONE && BROUGHT(at)
           :: at >= begin && !(ONE && BROUGHT(at)) ->
              find(walked);
              if
              :: at != 0 -> INSERT(walked, value[at])
              :: else
              fi
           fi;
           at = 0;
           walked++
       }
    :: atomic { walked == 2 -> break }
    od;
    assert(target[0] == newest[0] && target[1] == newest[1])
}
