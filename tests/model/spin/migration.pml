/* Godwit: one range moves from S to T. Spin model of the migration protocol with the rules of docs/MIGRATION.md.

   Two dispatchers each at S and T, two clients (client c talks to dispatcher c of either; client 0 may give up on S and resend
   to T), two keys in one chain of one chunk, FIFO per connection, any order between connections, background frames, on-demand
   pulls, blind delete, counter add, read, cold rest of the chain (an indirection), tombstone dropping and resolution at T, purge at S.
   The coordinator has committed at the start: S crosses whenever it likes, a client learns the map whenever it likes.

   Run:  ./run migration -DINIT=0 (what run does: spin -a, gcc -DSAFETY -DCOLLAPSE, pan)
         (a trace of an error: spin -t -p with the same -D flags, see README.md)
   -DINIT=  0 no cold rest | 1 key 0 newer in memory over cold, key 1 deleted in memory over cold | 2 key 1 only cold
   -DNOPS0= -DNOPS1= operations a client (default 2 and 1) | -DWALKS=2 the chunk is sent again on the other connection
   -DINDFIRST the indirection's frame comes before the records'
   -DLEADS a pull of a key that is only cold is answered with where it lies: T reads it there and inserts it
   Checked: every server sees the truth when it executes (no lost add, no resurrected delete, absent answered as absent), nothing is applied
   twice, S executes nothing after T did, all clients get their answers, T's end state is the truth, no invalid end state.
   Not modelled: crashes, checkpoints, growth, several jobs or chunks, fairness (a deadlock is found, an endless loop is not).

   No error, all states:      ops 1+1: INIT=0 2.0 M states 5 s, INIT=1 3.7 M 9 s, INIT=1 INDFIRST 3.8 M 9 s, INIT=2 4.1 M 9 s,
                              INIT=0 WALKS=2 24 M 94 s;  ops 2+1: INIT=0 13 M 45 s, INIT=2 26 M 87 s
                              LEADS: INIT=0 2.0 M, INIT=1 3.7 M, INIT=2 4.4 M (a third longer than without)
   Not finished: INIT=1 WALKS=2 INDFIRST, no error in the first 38 M states (150 s).
   One rule off, error found (ops 1+1, each within seconds):
     HOLE_EARLY   INIT=0  "yours" after the first dispatcher's cut                       R5: two owners
     HOLE_DRAIN   INIT=2  "yours" while a device read of S is outstanding                R5: two owners
     HOLE_DEDUPE  INIT=0  replay entries do not travel with "yours"                      R7: applied twice
     HOLE_FLAG    INIT=0  lookup first, completeness after                               R10: present key answered absent
     HOLE_NEG     INIT=0  negative pull answer believed without a new lookup             R10: the same
     HOLE_LATE    INIT=0  pull answer inserted in a complete chunk                       R12: resurrected
     HOLE_LATEDUP INIT=0 WALKS=2  frame inserted in a complete chunk                     R12: resurrected
     HOLE_EPOCH   INIT=0  tombstone dropped at completion, not an epoch later            R13: resurrected
     HOLE_EAGER   INIT=0  tombstone dropped in an incomplete chunk                       R13: resurrected
     HOLE_TOMBIND INIT=2  tombstone dropped above a live indirection                     R13: resurrected
     HOLE_STOMB   INIT=1  tombstones in S's memory not shipped                           R14: resurrected
     HOLE_IND     INIT=1 INDFIRST  indirection followed before its chain's records came  R15: stale value (no error without INDFIRST)
     HOLE_LEAD    INIT=2 LEADS  what an answer leads to inserted in a complete chunk     R11, R15: resurrected
     HOLE_STALE   INIT=2  followed record inserted after its indirection was retired     R11: resurrected
   The first draft of this model had a hole of its own: S counted a pending operation as done before its effect (two owners). */
#ifndef NOPS0
#define NOPS0 2
#endif
#ifndef NOPS1
#define NOPS1 1
#endif
#ifndef WALKS
#define WALKS 1
#endif
#ifndef INIT
#define INIT 0
#endif
#define ABS  0
#define TOMB 99
#define LEAD 98           /* a pull's answer: it is cold, read it there */
#define EFF(v) ((v)==TOMB -> 0 : (v))

mtype = { ADD, DEL, READ };

/* ghosts */
byte truth[2];            /* what a single linearisable store would hold */
byte applied[2];          /* bit s: serial s of this client took effect  */
bool tAnswered;           /* T has executed something                    */
byte done;                /* clients that got all their answers          */

/* source: shot = newest version in memory, scold = what the cold rest of the chain holds */
byte shot[2], scold[2];
bool hascold;             /* the one chain has a cold rest: an indirection is sent */
bool sview[2];               /* view of each source dispatcher: 0 owns, 1 gave away */
byte npend;               /* operations accepted, waiting for a device   */
bool committed, yoursSent, purged;
byte sded[2];             /* highest serial applied, per client (one op in flight) */
byte walks;

/* target */
byte tv[2]; bool tind, complete, tseen[2], tyours, tserve[2];
byte tded[2]; byte got; bool acked;

chan c2s[2]  = [1] of { mtype, byte, byte };
chan s2c[2]  = [1] of { bit };
chan c2t[2]  = [1] of { mtype, byte, byte };
chan t2c[2]  = [1] of { bit };
chan ctl     = [1] of { byte, byte };          /* "yours" + sessions' state   */
chan bulk[2] = [2] of { byte, byte };          /* background frames S.d -> T.d */
chan preq[2] = [1] of { byte };
chan pans[2] = [1] of { byte, byte };
chan ack     = [1] of { bit };

inline effect(c, ser, kind, key, old) {        /* only inside atomic */
    assert(truth[key] == old);                 /* the server saw the truth */
    assert((applied[c] & (1 << ser)) == 0);    /* exactly once */
    applied[c] = applied[c] | (1 << ser);
    if :: kind == ADD -> truth[key] = truth[key] + 1
       :: kind == DEL -> truth[key] = 0
       :: else -> skip fi
}

#ifdef INDFIRST
#define FNO ((wpos + 2) % 3)
#else
#define FNO wpos
#endif
#ifdef HOLE_EARLY
#define CUTDONE (sview[0] || sview[1])
#else
#define CUTDONE (sview[0] && sview[1])
#endif
#ifdef HOLE_DRAIN
#define DRAINED true
#else
#define DRAINED (npend == 0)
#endif

proctype S(byte d) {
    mtype kind; byte key, ser, o, k1; bool pend, claimed; byte wpos;
end: do
    :: atomic { !pend && nempty(c2s[d]) -> c2s[d]?kind,key,ser;
         if :: sview[d] -> s2c[d]!0; ser = 0; key = 0; kind = READ
            :: else ->
               if :: kind != DEL && shot[key] == ABS && scold[key] != ABS -> pend = true; npend++
                  :: else -> goto exec fi
         fi }
    :: pend -> goto exec                                           /* the device has answered */
    :: atomic { committed && !sview[d] -> sview[d] = true }
    :: atomic { CUTDONE && DRAINED && !yoursSent -> yoursSent = true;
#ifdef HOLE_DEDUPE
         ctl!0,0
#else
         ctl!sded[0],sded[1]
#endif
       }
    :: atomic { preq[d]?k1 ->
         if :: purged -> o = 0
            :: !purged && shot[k1] != ABS -> o = EFF(shot[k1])
#ifdef LEADS
            :: !purged && shot[k1] == ABS && hascold -> o = LEAD
            :: !purged && shot[k1] == ABS && !hascold -> o = scold[k1] fi;
#else
            :: else -> o = scold[k1] fi;
#endif
         pans[d]!k1,o; o = 0; k1 = 0 }
    /* the chunk is walked by one dispatcher; walked again by the other when "the connection broke" */
    :: atomic { yoursSent && !claimed && !purged && walks < WALKS -> claimed = true; walks++ }
    :: atomic { claimed && wpos < 3 && nfull(bulk[d]) ->
#ifdef HOLE_STOMB
         bulk[d]!FNO,(FNO == 2 -> hascold : EFF(shot[FNO % 2]));
#else
         bulk[d]!FNO,(FNO == 2 -> hascold : shot[FNO % 2]);
#endif
         wpos++ }
    :: atomic { ack?_ -> purged = true }
    od;
exec: atomic {
        assert(!tAnswered);                    /* single owner */
        if :: pend -> pend = false; npend-- :: else -> skip fi;
        o = (shot[key] == ABS -> scold[key] : EFF(shot[key]));
        if :: kind == READ -> assert(truth[key] == o)
           :: kind == ADD -> effect(d, ser, ADD, key, o); shot[key] = o + 1
           :: kind == DEL -> effect(d, ser, DEL, key, truth[key]); shot[key] = TOMB fi;
        sded[d] = ser; s2c[d]!1; o = 0; ser = 0; key = 0; kind = READ; goto end }
}

#ifdef HOLE_EPOCH
#define SETTLED complete
#else
#ifdef HOLE_EAGER
#define SETTLED tyours
#else
#define SETTLED (complete && tseen[0] && tseen[1])
#endif
#endif
#ifdef HOLE_TOMBIND
#define DROPPABLE SETTLED
#else
#define DROPPABLE (SETTLED && !tind)
#endif

proctype T(byte d) {
    mtype kind; byte key, ser, k2, v, g, w, f; bool c, i, neg, parked, drop;
#ifdef LEADS
    bool led;                                                      /* an answer says where to read */
#endif
end: do
    :: atomic { ctl?tded[0],tded[1] -> tyours = true }
    :: atomic { tyours && !tserve[d] -> tserve[d] = true }       /* a view from the future waits in the connection */
    :: atomic { complete && !tseen[d] -> tseen[d] = true }        /* batch boundary after completion */
    :: atomic { tserve[d] && !parked && nempty(c2t[d]) -> c2t[d]?kind,key,ser;
         neg = false; tAnswered = true;
         if :: ser <= tded[d] -> t2c[d]!1; ser = 0; key = 0; kind = READ                          /* replay: known result */
            :: else -> tded[d] = ser; goto try fi }
    :: atomic { bulk[d]?f,v ->
#ifndef HOLE_LATEDUP
         drop = complete                                           /* frame of a complete chunk: not inserted */
#endif
         }
         atomic {
           if :: !drop && f < 2 && v != ABS && tv[f] == ABS -> tv[f] = v
              :: !drop && f == 2 && v -> tind = true
              :: else -> skip fi; v = 0; drop = false }
         atomic {
           got = got | (1 << f); f = 0;
           if :: got == 7 && !complete -> complete = true; ack!1
              :: else -> skip fi }
    :: atomic { pans[d]?k2,w ->
#ifndef HOLE_LATE
         drop = complete;
#endif
#ifdef LEADS
         if :: w == LEAD -> led = true; w = 0; drop = false; goto end
            :: else -> skip fi
#endif
         }
arrived: atomic {
           if :: !drop && w != ABS && tv[k2] == ABS -> tv[k2] = w
              :: else -> skip fi; drop = false;
           neg = (w == ABS); parked = false; k2 = 0; w = 0;
#ifdef HOLE_NEG
           if :: neg && kind == READ -> assert(g == 0); t2c[d]!1; g = 0; neg = false; goto end
              :: else -> skip fi;
#endif
           goto try }
#ifdef LEADS
    :: led -> w = scold[k2];                                       /* device read of the shared tier */
         atomic { led = false;
#ifndef HOLE_LEAD
         drop = complete;
#endif
         goto arrived }
#endif
    od;
try:
    if
    :: kind == DEL -> atomic {                                     /* blind */
         effect(d, ser, DEL, key, truth[key]);
         if :: DROPPABLE -> tv[key] = ABS :: else -> tv[key] = TOMB fi;
         t2c[d]!1; neg = false; ser = 0; key = 0; kind = READ; goto end }
    :: else -> skip fi;
#ifdef HOLE_FLAG
    atomic { v = tv[key]; i = tind; g = truth[key] }
    c = complete;
#else
    c = complete;                                                   /* flag first, then the lookup */
    atomic { v = tv[key]; i = tind; g = truth[key] }
#endif
    if
    :: v != ABS -> atomic {
         if :: kind == READ -> assert(g == EFF(v)); goto ok
            :: kind == ADD && tv[key] == v -> effect(d, ser, ADD, key, EFF(v)); tv[key] = EFF(v) + 1; goto ok
            :: else -> goto again fi }
#ifdef HOLE_IND
    :: v == ABS && i && !neg -> goto follow
#else
    :: v == ABS && i && c -> goto follow
#endif
    :: v == ABS && c && !i -> goto absent
    :: v == ABS && !c && neg -> goto absent
    :: v == ABS && !c && !neg -> atomic { parked = true; v = 0; i = false; preq[d]!key; goto end }
    fi;
follow: w = scold[key];                                             /* device read of the shared tier */
    atomic {
      if :: kind == READ -> assert(g == w); goto ok
         :: kind == ADD && w == ABS -> goto absent
         :: else -> skip fi;
#ifdef HOLE_STALE
      if :: tv[key] == ABS -> tv[key] = w :: else -> skip fi;
#else
      if :: tv[key] == ABS && tind -> tv[key] = w :: else -> skip fi;  /* only while its reason still holds */
#endif
      w = 0; goto again }
absent: atomic {
      if :: kind == READ -> assert(g == 0); goto ok
         :: kind == ADD && tv[key] == ABS && (tind || !i) -> effect(d, ser, ADD, key, 0); tv[key] = 1; goto ok
         :: else -> goto again fi }
ok: atomic { v = 0; g = 0; w = 0; c = false; i = false; neg = false; t2c[d]!1; ser = 0; key = 0; kind = READ; goto end }
again: atomic { v = 0; g = 0; w = 0; c = false; i = false; goto try }
}

proctype Compact() {                /* T: drops tombstones, resolves the indirection */
    byte k, w; bool resolving;
end: do
    :: atomic { !resolving && DROPPABLE && tv[0] == TOMB -> tv[0] = ABS }
    :: atomic { !resolving && DROPPABLE && tv[1] == TOMB -> tv[1] = ABS }
    :: atomic { !resolving && tind && SETTLED -> resolving = true; k = 0 }
    :: resolving && k < 2 -> w = scold[k];
         atomic { if :: tv[k] == ABS -> tv[k] = w :: else -> skip fi; k++; w = 0 }
    :: atomic { resolving && k == 2 -> tind = false; resolving = false; k = 0 }
    od
}

proctype Client(byte c; byte n) {
    byte i = 1, key; mtype kind; bit map;
    do
    :: i > n -> break
    :: else -> atomic {
       if :: kind = ADD :: kind = DEL :: kind = READ fi;
       if :: key = 0 :: key = 1 fi;
send:  if
       :: map == 0 -> c2s[c]!kind,key,i;
            if
            :: s2c[c]?1 -> skip
            :: s2c[c]?0 -> map = 1; goto send
            :: committed && !c -> map = 1; goto send               /* gives up on S: in doubt, resent to T */
            fi
       :: map == 1 -> c2t[c]!kind,key,i; t2c[c]?1
       fi;
       i++; key = 0; kind = READ }
    od;
    done++
}

proctype Final() {
    byte k, r;
    (done == 2 && complete && purged && tseen[0] && tseen[1] && !tind &&
     empty(bulk[0]) && empty(bulk[1]) && empty(pans[0]) && empty(pans[1]));
    atomic { k = 0; do :: k < 2 -> r = tv[k]; assert(EFF(r) == truth[k]); k++ :: else -> break od }
}

init { atomic {
    /* key 0: newer version in memory over an older cold one (or no cold rest);
       key 1: deleted in memory over a cold one / only cold / nowhere */
    shot[0] = 2; truth[0] = 2;
    if :: INIT == 0 -> hascold = false
       :: INIT == 1 -> hascold = true; scold[0] = 1; scold[1] = 1; shot[1] = TOMB
       :: INIT == 2 -> hascold = true; scold[0] = 1; scold[1] = 1; truth[1] = 1
    fi;
    run S(0); run S(1); run T(0); run T(1); run Compact();
    run Client(0, NOPS0); run Client(1, NOPS1); run Final();
    committed = true
} }
