/* resolve.c - indirections are resolved in the background: what they lead to is read, of each key
 * that they cover the newest record is inserted where the chain has none, and they are retired.
 *
 *   a thread takes the pass -> an epoch passes -> bucket after bucket, over all hashes: what
 *   stands is noted -> resolved, by address -> ... -> the end: words of slots and logs that have
 *   not changed, and of which none was met, are cleared
 *
 * Rules (MIGRATION R11 to R17; foreign.h, rule 3):
 *  1. One thread at a time has the pass, until it is over or the thread closes: cold walks are a
 *     thread's own. It takes the share of its time that gw_store_resolve_rate allows.
 *  2. A chain is gathered whole, with all that its indirections lead to. Each key that only they
 *     have is inserted by a CAS that expects the entry with which the gathering began; then the
 *     chain is gathered again. So nothing is inserted that somebody has changed meanwhile.
 *  3. When nothing is missing they are retired, one after the other, by the same CAS:
 *     a record on top says so. Where an indirection is the first of its chain and just one key is
 *     missing, that key's record is put in its place, so that the chain does not get longer: it
 *     links to what is behind.
 *  4. A chain that cannot be read now keeps its slot from being cleared; the next pass comes there
 *     again.
 *  5. Neighbours in a log are neighbours in an object, and not in the index: chains are resolved by
 *     the addresses to which their indirections lead, as many as can be noted at once, so that a
 *     frame is read once for all of its records. Whose slot had one is met in this pass; the
 *     next one finds none.
 *  6. Of a chain of which a part is damaged nothing is inserted: what is missing may be newer. */
#include <stdlib.h>
#include <string.h>

#include "index/base/hash.h"
#include "index/cold.h"
#include "index/foreign.h"
#include "index/gather.h"

#define BUCKETS_MAX 64u        /* of a turn */
#define AHEAD       32u        /* chains that are read at once */
#define NOTED_MAX   262144u    /* chains, 4 MiB */
#define ORDER_MAX   4096u      /* of these put in order in a turn */
#define CREDIT_MAX  2000000    /* ns */
#define CREDIT_WORK 200000     /* a thread that rests comes again for this much */
#define READING_NS  500000u    /* and when reads are under way */
#define PAUSE_NS    200000000u /* between two passes that did not clear everything */
#define AGAIN_MAX   64u        /* gatherings of one chain in a turn */
#define LATERS_MAX  2000u

#define TAG_BITS    (64 - GW_ENTRY_TAG_SHIFT)
#define TAG_MASK    (((uint64_t)1 << TAG_BITS) - 1)

struct noted {      /* a chain */
    uint64_t where; /* as an entry, but the address to which it leads comes first */
    uint64_t hash;  /* one of its bucket */
};

struct gwi_resolver {
    _Atomic(struct gw_thread *) holder;
    uint64_t hash, next_ns, last_ns;
    int64_t credit_ns;
    uint64_t wait_ns; /* of the holder, when its last turn has ended */
    bool open;
    _Atomic bool quiet;  /* the epoch before the pass is over */
    struct gw_slots met; /* of these, one stands, or could not be read */
    uint32_t laters;     /* turns in which nothing could be read */
    bool swept;          /* no bucket is left */
    struct noted *noted; /* NULL: not needed so far */
    uint32_t count;      /* of these */
    uint32_t unordered;  /* so many are not above others of the heap so far; 0: it is one */
    struct noted taken[AHEAD];
    uint32_t taken_count;
    uint64_t slot[GW_SLOTS], log[GWI_FOREIGN_LOGS_MAX]; /* words as the pass began */
};

enum gw_status gwi_resolver_create(struct gwi_resolver **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? GW_OK : GW_E_NOMEM;
}

void gwi_resolver_destroy(struct gwi_resolver *r)
{
    if (r)
        free(r->noted);
    free(r);
}

void gw_store_resolve_rate(struct gw_store *store, uint32_t percent)
{
    atomic_store_explicit(&store->foreign->resolve_percent, percent < 100 ? percent : 100,
                          memory_order_relaxed);
}

/* ---- one chain ---- */

enum outcome { CLEAN, CHANGED, STANDS, LATER };

static void retired(struct gw_thread *t, const struct gw_indirection *in)
{
    struct gwi_foreign *f = t->store->foreign;
    atomic_fetch_add_explicit(&f->retired, 1, memory_order_relaxed);
    gwi_foreign_count(f, in->log_id, -1);
    gwi_count_live(t, -(int64_t)GWI_INDIRECTION_UNITS * GW_ADDR_UNIT);
}

/* Retires `in`, or inserts the i-th that was gathered (0: none is missing), at the entry from which
 * all was gathered. `alone`: it is the only one missing, and `in` the first of its chain. */
static enum gw_status step(struct gw_thread *t, struct gwi_position *position,
                           const struct gw_indirection *in, uint32_t i, bool alone)
{
    struct gwi_foreign *f = t->store->foreign;
    if (i == 0) {
        struct gwi_position at = *position;
        enum gw_status st = gwi_put_indirection(t, in, GW_CONTROL_TOMBSTONE, false, &at);
        if (st == GW_OK)
            retired(t, in);
        return st;
    }
    uint64_t control = atomic_load_explicit(&t->chain[i]->control, memory_order_relaxed);
    uint64_t hash = gw_key_hash(gw_record_key(t->chain[i], control), gw_control_key_bytes(control),
                                t->store->hash_seed);
    position->record = t->chain[0];
    enum gw_status st =
        gwi_insert_foreign(t, hash, in->slot, alone ? GWI_INSERT_OVER : 0, t->chain[i], position);
    if (st == GW_OK) {
        atomic_fetch_add_explicit(&f->resolved, 1, memory_order_relaxed);
        if (alone)
            retired(t, in);
    }
    return st;
}

static enum outcome resolve_chain(struct gw_thread *t, uint64_t hash, struct gwi_position *position)
{
    struct gw_indirection in, within;
    uint32_t at = 0, missing = 0, count = 0;
    gwi_chain_prefix(t, hash, position->entry, &within);
    if (gwi_gather(t, position->entry, false) != GW_OK)
        return LATER;
    uint32_t own = t->chain_count;
    while (at < own && !gwi_gather_stands(t, at, &within, &in))
        at++;
    if (at == own && !t->chain_cut)
        return CLEAN;
    if (at == own || t->chain_cut) /* rule 6 */
        return STANDS;
    if (gwi_gather_foreign(t, in.slot, &within) != GW_OK)
        return LATER;
    if (t->chain_cut)
        return STANDS;
    for (uint32_t i = own; i < t->chain_count; i++)
        if (!gwi_gather_superseded(t, i)) {
            missing = i; /* the last: older ones first, so that the newest lie on top */
            count++;
        }
    uint32_t others;
    struct gw_indirection other;
    bool alone = count == 1 && at == 0;
    for (others = 1; others < own && alone; others++)
        alone = !gwi_gather_indirection(t->chain[others], &other);
    enum gw_status st = step(t, position, &in, missing, alone);
    return st == GW_OK || st == GW_RETRY ? CHANGED : STANDS;
}

/* All of an entry; false: it must be looked at again, later. */
static bool resolve_entry(struct gw_thread *t, uint64_t hash, uint64_t entry)
{
    struct gwi_resolver *r = t->store->foreign->resolver;
    uint64_t tag = entry >> GW_ENTRY_TAG_SHIFT;
    uint16_t slot = gw_entry_slot(entry);
    t->tops_count = 0; /* a walk of this thread's may have left some, which it needs still */
    for (uint32_t n = 0; n < AGAIN_MAX; n++) {
        struct gwi_position position = {.entry = 0};
        position.place = gw_table_find(t->table, hash, tag, &position.entry);
        if (!position.place)
            return true;
        switch (resolve_chain(t, hash, &position)) {
        case CLEAN:
            return true;
        case CHANGED:
            break;
        case STANDS:
            gw_slots_add(&r->met, slot);
            return true;
        case LATER:
            return false;
        }
    }
    gw_slots_add(&r->met, slot);
    return true;
}

/* ---- the pass ---- */

static void pass_quiet(void *arg)
{
    atomic_store_explicit((_Atomic bool *)arg, true, memory_order_release);
}

static void pass_begin(struct gw_thread *t, struct gwi_resolver *r)
{
    struct gwi_foreign *f = t->store->foreign;
    gw_slots_clear(&r->met);
    r->hash = 0;
    r->laters = r->count = r->unordered = r->taken_count = 0;
    r->swept = false;
    if (!r->noted && !(r->noted = malloc(NOTED_MAX * sizeof *r->noted)))
        return; /* another time */
    uint32_t logs = atomic_load_explicit(&f->logs, memory_order_acquire);
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        r->slot[i] = atomic_load_explicit(&f->slot[i], memory_order_acquire);
    for (uint32_t i = 0; i < logs; i++)
        r->log[i] = atomic_load_explicit(&f->log[i].highest, memory_order_acquire);
    for (uint32_t i = logs; i < GWI_FOREIGN_LOGS_MAX; i++)
        r->log[i] = 0;
    atomic_store_explicit(&r->quiet, false, memory_order_relaxed);
    r->open = gw_epoch_defer(t->store->epoch, pass_quiet, &r->quiet) == GW_OK;
}

static void word_clear(_Atomic uint64_t *word, uint64_t was, uint64_t tail)
{
    if (was != 0 && !(was & GWI_FOREIGN_CLEARED))
        (void)atomic_compare_exchange_strong_explicit(word, &was, tail | GWI_FOREIGN_CLEARED,
                                                      memory_order_seq_cst, memory_order_relaxed);
}

static void pass_end(struct gw_thread *t, struct gwi_resolver *r, uint64_t now_ns)
{
    struct gwi_foreign *f = t->store->foreign;
    uint64_t tail = gw_log_tail(t->log).v;
    bool none = true;
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        if (!gw_slots_has(&r->met, (uint16_t)i))
            word_clear(&f->slot[i], r->slot[i], tail);
        else
            none = false;
    for (uint32_t i = 0; i < GWI_FOREIGN_LOGS_MAX && none; i++)
        word_clear(&f->log[i].highest, r->log[i], tail);
    if (none)
        gwi_foreign_none(f);
    r->open = false;
    r->next_ns = now_ns + PAUSE_NS;
}

/* Lets go what gathering the entry's chain has read. */
static void chain_drop(struct gw_thread *t, uint64_t entry)
{
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head) {
            if (at.v >= t->view.begin)
                gwi_cold_chain_drop(t, at, false);
            break;
        }
        narrow = gw_record_previous(gw_log_at(&t->view, at));
    }
    gwi_gather_drop(t);
}

/* ---- a sweep notes what stands, until there is no room ---- */

/* Adds the entry's chain, if an indirection stands in it. False: it must be read first. */
static bool note(struct gw_thread *t, struct gwi_resolver *r, uint64_t entry)
{
    struct gw_indirection in, within;
    uint32_t at = 0;
    t->tops_count = 0;
    gwi_chain_prefix(t, r->hash, entry, &within);
    if (gwi_gather(t, entry, false) != GW_OK)
        return false;
    while (at < t->chain_count && !gwi_gather_stands(t, at, &within, &in))
        at++;
    if (at < t->chain_count || t->chain_cut)
        gw_slots_add(&r->met, gw_entry_slot(entry));
    if (at < t->chain_count)
        r->noted[r->count++] = (struct noted){gw_addr_narrow(gw_addr_of(in.address)) << TAG_BITS |
                                                  entry >> GW_ENTRY_TAG_SHIFT,
                                              r->hash};
    return true;
}

/* False: the bucket must be read first, or may have no room. */
static bool note_bucket(struct gw_thread *t, struct gwi_resolver *r)
{
    struct gw_table_chain bucket;
    uint32_t count = r->count;
    bool all = true, room = true;
    do {
        uint64_t e;
        r->count = count;
        gw_table_chain_open(t->table, r->hash, &bucket);
        while (gw_table_chain_next(&bucket, &e)) {
            if (!gwi_foreign_has(t->store->foreign, gw_entry_slot(e), t->view.begin))
                continue;
            room = room && r->count < NOTED_MAX;
            if (room && note(t, r, e))
                chain_drop(t, e);
            else if (room && r->laters >= LATERS_MAX)
                gw_slots_add(&r->met, gw_entry_slot(e));
            else
                all = false;
        }
    } while (bucket.moved);
    /* A bucket with more chains than can be noted at all: as many as that. */
    if (!all && (room || count != 0)) {
        r->count = count;
        r->laters += room;
        r->swept = !room; /* until the noted ones are resolved */
        return false;
    }
    r->laters = 0;
    r->swept = bucket.last == UINT64_MAX;
    r->hash = bucket.last + 1; /* 0: none is left */
    return true;
}

/* ---- what was noted is resolved, lowest address first ---- */

static void sift(struct gwi_resolver *r, uint32_t at)
{
    struct noted moved = r->noted[at];
    for (uint32_t child; (child = 2 * at + 1) < r->count; at = child) {
        child += child + 1 < r->count && r->noted[child + 1].where < r->noted[child].where;
        if (moved.where <= r->noted[child].where)
            break;
        r->noted[at] = r->noted[child];
    }
    r->noted[at] = moved;
}

/* Fills `taken` and begins to read for them. */
static void take(struct gw_thread *t, struct gwi_resolver *r)
{
    while (r->taken_count < AHEAD && r->count != 0) {
        struct noted *last = &r->taken[r->taken_count++];
        *last = r->noted[0];
        r->noted[0] = r->noted[--r->count];
        if (r->count)
            sift(r, 0);
    }
    uint32_t requests = 0;
    for (uint32_t i = 0; i < r->taken_count; i++) {
        struct gw_indirection within;
        uint64_t e = 0, tag = r->taken[i].where & TAG_MASK;
        if (!gw_table_find(t->table, r->taken[i].hash, tag, &e))
            continue;
        gwi_chain_prefix(t, r->taken[i].hash, e, &within);
        if (!gwi_gather_request(t, e, &within, true, &requests))
            return;
    }
}

/* False: none of those taken can be read now. */
static bool resolve_taken(struct gw_thread *t, struct gwi_resolver *r)
{
    uint32_t left = 0, taken = r->taken_count;
    for (uint32_t i = 0; i < taken; i++) {
        uint64_t e = 0, tag = r->taken[i].where & TAG_MASK;
        if (!gw_table_find(t->table, r->taken[i].hash, tag, &e))
            continue;
        if (resolve_entry(t, r->taken[i].hash, e))
            chain_drop(t, e);
        else if (r->laters < LATERS_MAX)
            r->taken[left++] = r->taken[i];
    }
    r->taken_count = left;
    r->laters = left < taken ? 0 : r->laters + 1;
    return left < taken;
}

/* A step of the pass. False: something must be read first. */
static bool step_on(struct gw_thread *t, struct gwi_resolver *r)
{
    if (!r->swept && r->taken_count == 0) {
        for (uint32_t n = 0; n < BUCKETS_MAX && !r->swept; n++)
            if (!note_bucket(t, r))
                break;
        r->unordered = r->count / 2;
        return r->laters == 0;
    }
    for (uint32_t n = 0; n < ORDER_MAX && r->unordered != 0; n++)
        sift(r, --r->unordered);
    if (r->unordered != 0)
        return true;
    take(t, r);
    bool some = resolve_taken(t, r);
    if (r->taken_count == 0 && r->count == 0 && r->hash != 0)
        r->swept = false; /* there was no room for all */
    return some;
}

bool gwi_resolve_turn(struct gw_thread *t)
{
    struct gwi_foreign *f = t->store->foreign;
    struct gwi_resolver *r = f->resolver;
    struct gw_thread *nobody = NULL;
    uint32_t percent = atomic_load_explicit(&f->resolve_percent, memory_order_relaxed);
    if (percent == 0 || !t->cold)
        return false;
    /* Acquire: what the last holder has left; pairs with the release below and in leave. */
    if (atomic_load_explicit(&r->holder, memory_order_relaxed) != t &&
        !atomic_compare_exchange_strong_explicit(&r->holder, &nobody, t, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    uint64_t now = gw_clock_now_ns(gw_clock_system());
    if (!r->open) {
        if (now >= r->next_ns)
            pass_begin(t, r);
        r->last_ns = now;
        return false;
    }
    if (!atomic_load_explicit(&r->quiet, memory_order_acquire))
        return true;
    r->credit_ns += (int64_t)((now - r->last_ns) * percent / 100);
    r->credit_ns = r->credit_ns < CREDIT_MAX ? r->credit_ns : CREDIT_MAX;
    r->last_ns = now;
    if (r->credit_ns <= 0) {
        r->wait_ns = (uint64_t)(CREDIT_WORK - r->credit_ns) * 100 / percent;
        return false;
    }
    bool over;
    r->wait_ns = (uint64_t)CREDIT_WORK * 100 / percent;
    gwi_store_enter(t);
    do {
        bool some = step_on(t, r);
        over = r->swept && r->hash == 0 && r->count == 0 && r->taken_count == 0;
        if (some)
            continue;
        r->wait_ns = READING_NS; /* or their completion ends the sleep */
        break;
    } while (!over && gw_clock_now_ns(gw_clock_system()) - now < (uint64_t)r->credit_ns);
    gw_store_exit(t);
    uint64_t end = gw_clock_now_ns(gw_clock_system());
    r->credit_ns -= (int64_t)(end - now);
    r->last_ns = end;
    if (over) {
        pass_end(t, r, end);
        free(r->noted);
        r->noted = NULL;
        r->wait_ns = PAUSE_NS;
        atomic_store_explicit(&r->holder, NULL, memory_order_release);
    }
    return false;
}

uint64_t gw_store_resolve_wait(const struct gw_thread *t)
{
    const struct gwi_resolver *r = t->store->foreign->resolver;
    if (!gwi_may_be_foreign(t) || !t->cold ||
        atomic_load_explicit(&t->store->foreign->resolve_percent, memory_order_relaxed) == 0)
        return UINT64_MAX;
    return atomic_load_explicit(&r->holder, memory_order_relaxed) == t ? r->wait_ns : PAUSE_NS;
}

void gwi_resolve_leave(struct gw_thread *t)
{
    struct gwi_resolver *r = t->store->foreign->resolver;
    if (atomic_load_explicit(&r->holder, memory_order_relaxed) == t)
        atomic_store_explicit(&r->holder, NULL, memory_order_release); /* another one goes on */
}
