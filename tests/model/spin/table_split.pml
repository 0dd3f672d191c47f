/* Godwit: one bucket of the hash table is split while everybody goes on. Spin model of rules 1 to 5 of index/table_split.c
   and of the insertion of index/table.c.

   The old bucket has two entry words and an overflow pointer; the inserter of a third entry must add the overflow line, of
   one word. Each child has one word, so that a second entry needs a line there, which is filled privately and linked by the
   CAS that writes the child's eighth word. Keys A and C belong to child 0 and are there from the start, B belongs to child 1.
   Two helpers split the bucket from start to end, one memory access a step. An updater changes A by CAS, from the look-up
   on when that fails; inserters put B in, tentatively first; a reader looks for A and C. All of them finish the split when
   they meet it, and start over. The log's begin passes C at some moment (-DBEGIN): from then on helpers would drop it.
   Sequentially consistent.

   Run:  ./run split [-D...]      -DINSERTERS= (1) -DHELPERS= (2) -DUPDATES= (1) -DREADERS= (1) -DBEGIN
   Checked: no update of A is lost or undone; the reader never sees an older A than one that was there when it began to look,
   and never "absent"; B is in the table once, when an inserter has been told so; at the end no word of the children is
   never written, frozen or tentative, and each entry is there once.
   No error, all states: the configurations in tests/model/test_spin.c, up to 5 M states, 5 s each. All four kinds of threads at
   the same time with two helpers: no error in the first 68 M states, not finished.
   One rule off, error found:
     HOLE_COPY      a helper copies with a plain store                             rule 3: an update is undone
     HOLE_CONFIRM   an insertion's second step is a plain store                    rule 1: B is lost in the old bucket
     HOLE_ABSENT    a reader takes a frozen word for another key's                 rule 5: A is called absent
     HOLE_SETTLE    helpers decide each for themselves what is dead (with BEGIN)   rule 2: A is lost

   A word: 32 * state (0 live, 1 tentative, 2 frozen) + 8 * key (0 A, 1 B, 2 C) + version; 0 empty; 127 never written. */
#ifndef INSERTERS
#define INSERTERS 1
#endif
#ifndef HELPERS
#define HELPERS 2
#endif
#ifndef UPDATES
#define UPDATES 1
#endif
#ifndef READERS
#define READERS 1
#endif

#define NEVER      127
#define STATE(w)   ((w) / 32)
#define KEY(w)     (((w) / 8) & 3)
#define VERSION(w) ((w) & 7)
#define BODY(w)    ((w) & 31)
#define LIVE(w)    ((w) != 0 && STATE(w) == 0)
#define IS(w, k)   (LIVE(w) && KEY(w) == k)
#define TENTATIVE  32
#define FROZEN     64
#define A          0
#define B          1
#define C          2
#define SIDE(k)    ((k) == B)

byte old[3];                 /* two words, and that of the line */
bit old_next;                /* 1: the line is linked */
byte old_state;              /* 0 plain, 1 splitting, 2 split */
byte old_sides;              /* a bit a word: it goes on */
byte child[4];               /* a word and a line's word for each */
byte child_next[2];          /* NEVER, 0, or 1: a line */
byte newest = 1;             /* of A, as the updater wrote it */
byte told, done;
bit begin_moved;

#define CAS(place, from, to) atomic { ok = (place == from); if :: ok -> place = to :: else fi }

inline freeze_word(i) {
  do
  :: w = old[i];
     if :: STATE(w) == 2 -> break :: else fi;
     CAS(old[i], w, (LIVE(w) -> w + FROZEN : FROZEN));
     if :: ok -> break :: else fi
  od
}

/* Which words go on: in one step, for each helper may find something else anyway. */
inline settle(to) {
  d_step {
    to = 0;
    if :: BODY(old[0]) != 0 && !(BODY(old[0]) == 17 && begin_moved) -> to = to + 1 :: else fi;
    if :: BODY(old[1]) != 0 && !(BODY(old[1]) == 17 && begin_moved) -> to = to + 2 :: else fi;
    if :: BODY(old[2]) != 0 && !(BODY(old[2]) == 17 && begin_moved) -> to = to + 4 :: else fi
  }
}

/* The first two entries of child c in the order of the frozen chain: reads nothing that can change any more. */
inline gather(c) {
  d_step {
    v = 0; line = 0; i = 0;
    do
    :: i < 3 ->
       w = BODY(old[i]);
       if
       :: ((sides >> i) & 1) == 1 && SIDE(KEY(w)) == c ->
          if :: v == 0 -> v = w :: else -> line = w fi
       :: else
       fi;
       i++
    :: else -> break
    od;
    i = 0; w = 0
  }
}

inline fill(c) {
  if
  :: child_next[c] != NEVER
  :: else ->
     gather(c);
#ifdef HOLE_COPY
     w = child[2 * c];
     if :: w == NEVER -> child[2 * c] = v :: else fi;
     w = 0;
#else
     CAS(child[2 * c], NEVER, v);
#endif
     atomic {
       if
       :: child_next[c] == NEVER -> child_next[c] = (line != 0); child[2 * c + 1] = line
       :: else
       fi;
       v = 0; line = 0
     }
  fi
}

inline split() {
  atomic { if :: old_state == 0 -> old_state = 1 :: else fi }
  if
  :: old_state == 2
  :: else ->
     freeze_word(0);
     freeze_word(1);
     if :: old_next == 1 -> freeze_word(2) :: else fi;
     w = 0;
     settle(sides);
     atomic { if :: old_state != 2 -> old_sides = sides; old_state = 2 :: else fi }
  fi;
#ifdef HOLE_SETTLE
  settle(sides);
#else
  sides = old_sides;
#endif
  fill(0);
  fill(1);
  atomic { sides = 0; ok = 0 }
}

/* Where key k is now: spot 0 the old bucket, 1 its child. */
inline locate(k) {
  do
  :: child_next[SIDE(k)] != NEVER -> spot = 1; break
  :: else ->
     if
     :: old_state == 0 -> spot = 0; break
     :: else -> split()
     fi
  od
}

#define WORDS    (spot == 1 -> 1 : 2)
#define LINES(k) (spot == 1 -> child_next[SIDE(k)] : old_next)
#define AT(k, j) (spot == 1 -> child[2 * SIDE(k) + (j)] : old[j])

/* Compare and swap of the j-th word of the chain of k. */
inline swap(k, j, from, to) {
  atomic {
    if
    :: spot == 1 -> ok = (child[2 * SIDE(k) + j] == from);
       if :: ok -> child[2 * SIDE(k) + j] = to :: else fi
    :: else -> ok = (old[j] == from);
       if :: ok -> old[j] = to :: else fi
    fi
  }
}

/* Looks for k: found, 0 when absent, and its place j. */
inline find(k) {
  do
  :: locate(k);
     found = 0; moved = 0; j = 0;
     do
     :: (j < WORDS || (j == WORDS && LINES(k) == 1)) ->
        w = AT(k, j);
        if :: IS(w, k) -> found = w; break :: else fi;
        if :: STATE(w) >= 2 -> moved = 1 :: else fi;
        j++
     :: else -> break
     od;
     w = 0;
#ifdef HOLE_ABSENT
     break
#else
     if :: found != 0 || !moved -> break :: else fi
#endif
  od;
  moved = 0
}

proctype Helper() {
  byte i, w, v, line, sides;
  bit ok;
  split();
  done++
}

proctype Updater() {
  byte i, w, v, line, sides, j, found;
  bit ok, moved, spot;
  do
  :: newest > UPDATES -> break
  :: else ->
     find(A);
     assert(found == newest);
     atomic { swap(A, j, found, newest + 1); newest = newest + ok; found = 0; j = 0; ok = 0 }
  od;
  done++
}

proctype Inserter(byte me) {
  byte i, w, v, line, sides, j, found, place;
  bit ok, moved, spot, above;
start:
  atomic { found = 0; moved = 0; ok = 0; above = 0; w = 0; j = 0; place = 9 }
  locate(B);
  do
  :: (j < WORDS || (j == WORDS && LINES(B) == 1)) ->
     w = AT(B, j);
     if
     :: IS(w, B) -> goto there
     :: STATE(w) >= 2 -> goto start
     :: w == 0 && place == 9 -> place = j
     :: else
     fi;
     j++
  :: else -> break
  od;
  if
  :: place == 9 -> /* link a line, empty, if the pointer is plain */
     atomic {
       if
       :: spot == 1 && child_next[1] == 0 -> child_next[1] = 1; child[3] = 0
       :: spot == 0 && old_next == 0 && old_state == 0 -> old_next = 1
       :: else
       fi
     }
     goto start
  :: else
  fi;
  swap(B, place, 0, TENTATIVE + 8 + me);
  if :: !ok -> goto start :: else fi;
  j = 0;
  do
  :: (j < WORDS || (j == WORDS && LINES(B) == 1)) ->
     if
     :: j == place -> above = 1
     :: else ->
        w = AT(B, j);
        if
        :: STATE(w) == 1 && KEY(w) == B && above ->
           swap(B, j, w, 0);
           if :: !ok -> goto withdraw :: else fi
        :: IS(w, B) || STATE(w) >= 2 || (STATE(w) == 1 && KEY(w) == B && !above) -> goto withdraw
        :: else
        fi
     fi;
     j++
  :: else -> break
  od;
#ifdef HOLE_CONFIRM
  if :: spot == 1 -> child[2 + place] = 8 + me :: else -> old[place] = 8 + me fi;
  ok = 1;
#else
  swap(B, place, TENTATIVE + 8 + me, 8 + me);
#endif
  if :: !ok -> goto start :: else fi;
  told++;
  goto there;
withdraw:
  swap(B, place, TENTATIVE + 8 + me, 0);
  goto start;
there:
  atomic { found = 0; moved = 0; ok = 0; above = 0; w = 0; j = 0; place = 0 }
  find(B);
  assert(found != 0);
  done++
}

proctype Reader() {
  byte i, w, v, line, sides, j, found, least;
  bit ok, moved, spot;
  least = newest;
  find(A);
  assert(found >= least && found <= newest);
  atomic { found = 0; j = 0; least = 0 }
#ifndef BEGIN
  find(C);
  assert(found == 17);
#endif
  done++
}

proctype Log() {
  begin_moved = 1
}

#define ALL (HELPERS + 1 + INSERTERS + READERS)

init {
  byte n;
  atomic {
#ifdef BEGIN
    old[0] = 17; old[1] = 1;
#else
    old[0] = 1; old[1] = 17;
#endif
    child[0] = NEVER; child[1] = 0; child[2] = NEVER; child[3] = 0;
    child_next[0] = NEVER; child_next[1] = NEVER;
    do :: n < HELPERS -> run Helper(); n++ :: else -> break od;
    n = 0;
    do :: n < INSERTERS -> n++; run Inserter(n) :: else -> break od;
    n = 0;
    do :: n < READERS -> run Reader(); n++ :: else -> break od;
    n = 0;
    run Updater();
#ifdef BEGIN
    run Log()
#endif
  }
  done == ALL ->
  atomic {
    assert(child[0] == newest || (child_next[0] == 1 && child[1] == newest));
#ifndef BEGIN
    assert(child[0] == 17 || (child_next[0] == 1 && child[1] == 17));
#endif
#if INSERTERS > 0
    assert(told == 1);
    assert((IS(child[2], B) && (child_next[1] == 0 || child[3] == 0)) ||
           (child[2] == 0 && child_next[1] == 1 && IS(child[3], B)))
#else
    assert(child[2] == 0 && child_next[1] == 0)
#endif
  }
}
