/* cold.c - cold walks, the blocks that they read, and their bounds. Contract and why results stay
 * true: cold.h.
 *
 *   walk:   QUEUED -> READING (its block) -> [next block] ... -> FOUND | ABSENT | FAILED -> freed
 *   block:  READING -> READY -> freed with its last walk
 *
 * Rules:
 *  1. A result that nobody has used yet is kept UNUSED_TURNS and UNUSED_NS: the record may have
 * come to memory in another way meanwhile, then nobody ever asks for it. Both, so that neither a
 * slow caller nor a quick one loses what he has waited for, for ever. Used ones stay as long as
 * there is room, the one used longest ago goes first. What is read ahead for a walk over the table
 *     never takes the place of what that walk needs now: it has half of the walks at most, and is
 *     kept CHAIN_NS. What it needs now is a bucket, all of it at once: for that the bounds give
 * way.
 *  2. Bytes come from the device checked (device.h rule 4), and are checked again for what they
 *     mean: lengths within the page, addresses that go down.
 *  3. The first read of a record takes what records took lately; who finds it longer reads again.
 */
#include "index/cold.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/device.h"

#define READS_DEFAULT                                                                              \
    128u /* more than the system queues makes submitting wait (docs/BENCHMARKS.md) */
#define SMALL_BYTES  8192u /* buffers of the common size, registered with the device */
#define PLACES       1024u /* a power of two: buckets of both tables */
#define GHOSTS_MIN   16384u
#define GHOSTS_MAX   (1u << 22)
#define UNUSED_NS    5000000ull
#define UNUSED_TURNS 64u
#define CHAIN_NS     2000000000ull
#define GUESS_MAX    65536u

enum state { QUEUED, READING, FOUND, ABSENT, FAILED };

struct walk;

struct block {
    struct gwi_cold *cold;
    struct block *next; /* in its place */
    struct walk *waiting;
    uint8_t *data;
    uint64_t at;
    uint32_t bytes, refs;
    bool ready;
};

struct walk {
    struct walk *next;           /* in its place */
    struct walk *before, *after; /* in a list: queued, fresh, used; or none */
    struct walk *wait;           /* behind the same block */
    struct walk *announce;       /* not yet named by gwi_cold_ready */
    struct block *block;         /* READING, FOUND */
    struct gw_record *record;    /* FOUND */
    struct gw_record **chain;    /* of a whole chain: what was read */
    uint64_t hash, top, at, stop, ended_ns, ended_turn;
    uint32_t chain_count, chain_room, need; /* need: bytes to read, 0: as usual */
    enum gw_status status;                  /* FAILED */
    uint8_t state;
    bool whole, one, announced, used; /* whole: of a chain, or with `one` its first */
    bool needed;                      /* of the bucket at which a walk over the table is now */
    uint16_t key_bytes;
    uint8_t key[];
};

struct list {
    struct walk *first, *last;
};

struct gwi_cold {
    struct gw_thread *t;
    struct gw_log *log;
    struct gw_device *device;
    uint32_t queue, reads_max, walks_max;
    uint32_t reads, walks, chains; /* chains: walks over whole chains, of all */
    uint64_t turn;
    uint32_t guess;
    uint64_t heap, heap_max; /* bytes beyond the slab */
    uint64_t bulk;           /* of them, those of records: buffers and copies */
    _Atomic uint64_t bytes;  /* all that is held; for the statistics */
    uint8_t *slab;
    void *slab_free; /* a list through the buffers */
    struct list queued, fresh, used, whole;
    struct walk *announced, **announced_end;
    struct walk *place[PLACES];
    struct block *blocks[PLACES];
    uint32_t *ghost; /* names of keys read once, about one for each KiB of the log's memory */
    uint32_t ghosts;
};

/* ---- lists ---- */

static void list_add(struct list *list, struct walk *w)
{
    w->after = NULL;
    w->before = list->last;
    if (list->last)
        list->last->after = w;
    else
        list->first = w;
    list->last = w;
}

static void list_remove(struct list *list, struct walk *w)
{
    if (w->before)
        w->before->after = w->after;
    else
        list->first = w->after;
    if (w->after)
        w->after->before = w->before;
    else
        list->last = w->before;
}

/* ---- memory ---- */

static void account(struct gwi_cold *cold, int64_t bytes)
{
    cold->heap += (uint64_t)bytes;
    /* Relaxed: one writer, a statistic. */
    atomic_store_explicit(&cold->bytes,
                          atomic_load_explicit(&cold->bytes, memory_order_relaxed) +
                              (uint64_t)bytes,
                          memory_order_relaxed);
}

/* The same for bytes of records. */
static void account_bulk(struct gwi_cold *cold, int64_t bytes)
{
    cold->bulk += (uint64_t)bytes;
    account(cold, bytes);
}

/* False: over the bound. A record is always let in where there is none, for the largest one must be
 * readable. */
static bool may_take(const struct gwi_cold *cold, uint64_t bytes)
{
    return cold->bulk == 0 || cold->heap + bytes <= cold->heap_max;
}

static void buffer_free(struct gwi_cold *cold, uint8_t *data, uint32_t bytes)
{
    if (bytes <= SMALL_BYTES) {
        *(void **)(void *)data = cold->slab_free;
        cold->slab_free = data;
    } else {
        account_bulk(cold, -(int64_t)bytes);
        free(data);
    }
}

static struct block **block_place(struct gwi_cold *cold, uint64_t at)
{
    return &cold->blocks[(at / GW_DEVICE_BLOCK) & (PLACES - 1)];
}

static void block_release(struct gwi_cold *cold, struct block *b)
{
    if (--b->refs > 0)
        return;
    struct block **at = block_place(cold, b->at);
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    buffer_free(cold, b->data, b->bytes);
    free(b);
}

static void block_leave(struct gwi_cold *cold, struct walk *w)
{
    struct block *b = w->block;
    w->block = NULL;
    if (b)
        block_release(cold, b);
}

static struct walk **walk_place(struct gwi_cold *cold, uint64_t hash)
{
    return &cold->place[hash & (PLACES - 1)];
}

/* Requires: not READING (its block would call back). */
static void walk_free(struct gwi_cold *cold, struct walk *w)
{
    GW_ASSERT(w->state != READING);
    list_remove(w->state == QUEUED ? &cold->queued
                : w->whole         ? &cold->whole
                : w->used          ? &cold->used
                                   : &cold->fresh,
                w);
    struct walk **at = walk_place(cold, w->hash);
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->announced) {
        at = &cold->announced;
        while (*at != w)
            at = &(*at)->announce;
        *at = w->announce;
        if (cold->announced_end == &w->announce)
            cold->announced_end = at;
    }
    block_leave(cold, w);
    bool whole = w->whole;
    int64_t bytes = (int64_t)(sizeof *w + w->key_bytes + w->chain_room * sizeof *w->chain);
    for (uint32_t i = 0; i < w->chain_count; i++) {
        account_bulk(cold, -(int64_t)(gw_record_units(w->chain[i]) * GW_ADDR_UNIT));
        free(w->chain[i]);
    }
    free((void *)w->chain);
    free(w);
    account(cold, -bytes);
    cold->walks--;
    cold->chains -= whole;
}

/* Has the one who asked had his chance (rule 1)? Not before he was told. */
static bool walk_is_stale(const struct gwi_cold *cold, const struct walk *w, uint64_t after_ns)
{
    if (w->announced)
        return false;
    /* Acquire: pairs with the raise. What lies below begin is of no use to anybody. */
    if (w->top < atomic_load_explicit(&cold->log->begin, memory_order_acquire))
        return true;
    return cold->turn - w->ended_turn > UNUSED_TURNS &&
           gw_clock_now_ns(gw_clock_system()) - w->ended_ns > after_ns;
}

/* Lets the result go that is needed least (rule 1); false: all are needed. */
static bool walk_evict(struct gwi_cold *cold)
{
    struct walk *w = cold->used.first;
    while (w && w->announced) /* another operation on its key may wait for the name */
        w = w->after;
    if (!w) {
        w = cold->fresh.first;
        if (!w || !walk_is_stale(cold, w, UNUSED_NS))
            w = cold->whole.first;
        if (!w || (w->whole && !walk_is_stale(cold, w, CHAIN_NS)))
            return false;
    }
    walk_free(cold, w);
    return true;
}

static uint8_t *buffer_take(struct gwi_cold *cold, uint32_t bytes, bool needed)
{
    if (bytes <= SMALL_BYTES) {
        while (!cold->slab_free)
            if (!walk_evict(cold))
                return NULL;
        uint8_t *data = cold->slab_free;
        cold->slab_free = *(void **)(void *)data;
        return data;
    }
    while (!may_take(cold, bytes)) {
        if (walk_evict(cold))
            continue;
        if (!needed)
            return NULL;
        break;
    }
    uint8_t *data = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    if (data)
        account_bulk(cold, bytes);
    return data;
}

/* ---- the walk ---- */

static void walk_end(struct gwi_cold *cold, struct walk *w, enum state state, enum gw_status status)
{
    w->state = (uint8_t)state;
    w->status = status;
    w->ended_ns = gw_clock_now_ns(gw_clock_system());
    if (state != FOUND)
        block_leave(cold, w);
    w->ended_turn = cold->turn;
    list_add(w->whole ? &cold->whole : &cold->fresh, w);
    if (!w->whole && w->stop == 0) {
        w->announced = true;
        w->announce = NULL;
        *cold->announced_end = w;
        cold->announced_end = &w->announce;
    }
}

static void walk_fail(struct gwi_cold *cold, struct walk *w, enum gw_status status)
{
    /* What was trimmed meanwhile was dead: the chain ends there. Acquire: begin before the trim. */
    if (w->at < atomic_load_explicit(&cold->log->begin, memory_order_acquire))
        walk_end(cold, w, ABSENT, GW_OK);
    else
        walk_end(cold, w, FAILED, status == GW_NOT_FOUND ? GW_E_IO : status);
}

static void block_read(void *arg, enum gw_status status);

/* Puts the walk behind a block that holds w->at: one that is there or under way, or a new read.
 * GW_OK: it is there; GW_PENDING: it will be; GW_WOULD_BLOCK: later; else failed. */
static enum gw_status block_enter(struct gwi_cold *cold, struct walk *w)
{
    uint64_t page_end = (w->at | (cold->log->page_bytes - 1)) + 1;
    uint64_t start = w->at & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    uint64_t want = w->need ? w->need : cold->guess;
    uint64_t end = (w->at + want + GW_DEVICE_BLOCK - 1) & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    end = end < page_end ? end : page_end;
    for (struct block *b = *block_place(cold, start); b; b = b->next) {
        if (b->at != start || b->at + b->bytes < (w->need ? end : start + GW_DEVICE_BLOCK))
            continue;
        b->refs++;
        w->block = b;
        if (b->ready)
            return GW_OK;
        w->wait = b->waiting;
        b->waiting = w;
        return GW_PENDING;
    }
    if (cold->reads >= cold->reads_max)
        return GW_WOULD_BLOCK;
    struct block *b = calloc(1, sizeof *b);
    if (!b)
        return GW_WOULD_BLOCK;
    b->cold = cold;
    b->at = start;
    b->bytes = (uint32_t)(end - start);
    b->data = buffer_take(cold, b->bytes, w->needed);
    if (!b->data) {
        free(b);
        return GW_WOULD_BLOCK;
    }
    enum gw_status st = cold->device->read(cold->device, cold->queue, gw_addr_of(start), b->data,
                                           b->bytes, block_read, b);
    if (st != GW_PENDING) {
        GW_ASSERT(st != GW_OK);
        buffer_free(cold, b->data, b->bytes);
        free(b);
        return st;
    }
    cold->reads++;
    b->refs = 1;
    b->waiting = w;
    w->wait = NULL;
    w->block = b;
    b->next = *block_place(cold, start);
    *block_place(cold, start) = b;
    return GW_PENDING;
}

static bool chain_add(struct gwi_cold *cold, struct walk *w, const struct gw_record *record)
{
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    if (w->chain_count == w->chain_room) {
        uint32_t room = w->chain_room ? w->chain_room * 2 : 4;
        struct gw_record **chain = realloc((void *)w->chain, room * sizeof *chain);
        if (!chain)
            return false;
        account(cold, (int64_t)((room - w->chain_room) * sizeof *chain));
        w->chain = chain;
        w->chain_room = room;
    }
    struct gw_record *copy = malloc(bytes);
    if (!copy)
        return false;
    memcpy(copy, record, bytes);
    w->chain[w->chain_count++] = copy;
    account_bulk(cold, (int64_t)bytes);
    return true;
}

/* Looks at the record at w->at, which is in w->block. True: the walk goes on at the next one (its
 * block is left); false: it has ended, or waits. */
static bool walk_look(struct gwi_cold *cold, struct walk *w)
{
    struct block *b = w->block;
    struct gw_record *record = (struct gw_record *)(void *)(b->data + (w->at - b->at));
    uint64_t left = b->at + b->bytes - w->at;
    uint64_t page_end = (w->at | (cold->log->page_bytes - 1)) + 1;
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (bytes < GW_RECORD_HEADER || w->at + bytes > page_end ||
        gw_record_head_bytes(control) + gw_round8(gw_control_key_bytes(control)) +
                gw_control_slack(control) >
            bytes) {
        walk_fail(cold, w, GW_E_CORRUPT);
        return false;
    }
    if (GW_UNLIKELY(control & GW_CONTROL_SEALED) && w->at < cold->log->resumed) {
        control &= ~GW_CONTROL_SEALED; /* log_resume.c, rule 3; the buffer is this thread's */
        atomic_store_explicit(&record->control, control, memory_order_relaxed);
    }
    uint32_t seen = bytes < GUESS_MAX ? (uint32_t)bytes : GUESS_MAX;
    cold->guess = seen > cold->guess ? seen : cold->guess - (cold->guess - seen) / 16;
    if (bytes > left) { /* rule 3 */
        w->need = (uint32_t)bytes;
        block_leave(cold, w);
        return true;
    }
    w->need = 0;
    if (w->whole) {
        if (!chain_add(cold, w, record)) {
            walk_end(cold, w, FAILED, GW_E_NOMEM);
            return false;
        }
        if (w->one) {
            walk_end(cold, w, ABSENT, GW_OK);
            return false;
        }
    } else if (gw_record_has_key(record, control, w->key, w->key_bytes)) {
        w->record = record;
        walk_end(cold, w, FOUND, GW_OK);
        return false;
    }
    uint64_t narrow = gw_record_previous(record);
    gw_addr next = gw_addr_widen(narrow, gw_addr_of(gw_log_tail(cold->log).v + GW_ADDR_LEAD));
    if (narrow == 0 || next.v <= w->stop ||
        next.v < atomic_load_explicit(&cold->log->begin, memory_order_acquire)) {
        w->at = narrow == 0 ? 0 : next.v;
        walk_end(cold, w, ABSENT, GW_OK);
        return false;
    }
    if (next.v >= w->at) {
        walk_fail(cold, w, GW_E_CORRUPT);
        return false;
    }
    w->at = next.v;
    block_leave(cold, w);
    return true;
}

/* Takes a walk as far as it gets. Requires: in no list, behind no block. */
static void walk_go(struct gwi_cold *cold, struct walk *w)
{
    for (;;) {
        w->state = READING;
        enum gw_status st = block_enter(cold, w);
        if (st == GW_PENDING)
            return;
        if (st == GW_WOULD_BLOCK) {
            w->state = QUEUED;
            list_add(&cold->queued, w);
            return;
        }
        if (st != GW_OK) {
            walk_fail(cold, w, st);
            return;
        }
        if (!walk_look(cold, w))
            return;
    }
}

/* The device's callback. */
static void block_read(void *arg, enum gw_status status)
{
    struct block *b = arg;
    struct gwi_cold *cold = b->cold;
    struct walk *w = b->waiting;
    cold->reads--;
    b->waiting = NULL;
    b->ready = status == GW_OK;
    b->refs++; /* ours, until all walks have been told */
    while (w) {
        struct walk *next = w->wait;
        if (status != GW_OK)
            walk_fail(cold, w, status);
        else if (walk_look(cold, w))
            walk_go(cold, w);
        w = next;
    }
    block_release(cold, b);
}

/* ---- asking ---- */

static struct walk *walk_find(struct gwi_cold *cold, uint64_t hash, const uint8_t *key,
                              uint16_t key_bytes, uint64_t stop)
{
    struct walk *w = *walk_place(cold, hash);
    while (w && !(w->hash == hash && w->stop == stop && !w->whole && w->key_bytes == key_bytes &&
                  memcmp(w->key, key, key_bytes) == 0))
        w = w->next;
    return w;
}

struct asked {
    const uint8_t *key;
    uint64_t hash, top, stop;
    uint16_t key_bytes;
    bool whole, one, ahead;
};

/* Begins a walk; GW_PENDING or GW_NOT_YET. */
static enum gw_status walk_begin(struct gwi_cold *cold, const struct asked *asked)
{
    uint64_t bytes = sizeof(struct walk) + asked->key_bytes;
    bool needed = asked->whole && !asked->ahead;
    if (asked->ahead && cold->chains >= cold->walks_max / 2)
        return GW_NOT_YET;
    while (cold->walks >= cold->walks_max || !may_take(cold, bytes)) {
        if (walk_evict(cold))
            continue;
        if (!needed)
            return GW_NOT_YET;
        break;
    }
    struct walk *w = calloc(1, bytes);
    if (!w)
        return GW_NOT_YET;
    account(cold, (int64_t)bytes);
    cold->walks++;
    cold->chains += asked->whole;
    w->hash = asked->hash;
    w->top = w->at = asked->top;
    w->stop = asked->stop;
    w->whole = asked->whole;
    w->one = asked->one;
    w->needed = needed;
    w->key_bytes = asked->key_bytes;
    memcpy(w->key, asked->key, asked->key_bytes);
    w->next = *walk_place(cold, w->hash);
    *walk_place(cold, w->hash) = w;
    gwi_count(&cold->t->counters.cold, 1);
    walk_go(cold, w);
    return GW_PENDING;
}

static void walk_used(struct gwi_cold *cold, struct walk *w)
{
    list_remove(w->used ? &cold->used : &cold->fresh, w);
    w->used = true;
    list_add(&cold->used, w);
}

enum gwi_walk gwi_cold_find(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                            uint16_t key_bytes, gw_addr stop, struct gwi_position *position,
                            enum gw_status *status)
{
    struct gwi_cold *cold = t->cold;
    uint64_t top = position->address.v;
    GW_ASSERT(cold != NULL && top < t->view.head);
    struct walk *w = walk_find(cold, hash, key, key_bytes, stop.v);
    if (w && w->state > READING && w->top != top) {
        if (w->announced) { /* somebody else may wait for the name: it comes with this turn's end */
            *status = GW_NOT_YET;
            return GWI_COLD;
        }
        walk_free(cold, w); /* what was in memory then has gone cold */
        w = NULL;
    }
    if (!w) {
        *status = walk_begin(cold, &(struct asked){.key = key,
                                                   .hash = hash,
                                                   .top = top,
                                                   .stop = stop.v,
                                                   .key_bytes = key_bytes});
        return GWI_COLD;
    }
    switch (w->state) {
    case FOUND:
        walk_used(cold, w);
        if (w->at < t->view.begin)
            return GWI_ABSENT;
        position->record = w->record;
        position->address = gw_addr_of(w->at);
        return GWI_FOUND;
    case ABSENT:
        walk_used(cold, w);
        position->address = gw_addr_of(w->at);
        return GWI_ABSENT;
    case FAILED:
        *status = w->status;
        gwi_count(&t->counters.corrupt, w->status == GW_E_CORRUPT);
        if (!w->announced)
            walk_free(cold, w); /* the next one who asks reads again */
        return GWI_COLD;
    default:
        *status = GW_PENDING;
        return GWI_COLD;
    }
}

/* A chain's walk is found by its top; the name is spread, for tops are multiples of 16. */
static uint64_t name_of_chain(uint64_t top)
{
    return (top >> GW_ADDR_UNIT_BITS) * 0x9e3779b97f4a7c15u >> 32;
}

static struct walk *chain_find(struct gwi_cold *cold, uint64_t top, bool one)
{
    struct walk *w = *walk_place(cold, name_of_chain(top));
    while (w && !(w->whole && w->one == one && w->top == top))
        w = w->next;
    return w;
}

enum gw_status gwi_cold_chain(struct gw_thread *t, gw_addr top, bool one, bool ahead,
                              struct gw_record *const **records, uint32_t *count)
{
    struct gwi_cold *cold = t->cold;
    GW_ASSERT(cold != NULL);
    struct walk *w = chain_find(cold, top.v, one);
    if (!w)
        return walk_begin(cold, &(struct asked){.hash = name_of_chain(top.v),
                                                .key = (const uint8_t *)"",
                                                .top = top.v,
                                                .whole = true,
                                                .one = one,
                                                .ahead = ahead});
    w->needed |= !ahead;
    if (w->state <= READING)
        return GW_PENDING;
    if (!ahead) { /* once more before it is stale */
        w->ended_turn = cold->turn;
        list_remove(&cold->whole, w);
        list_add(&cold->whole, w);
    }
    if (!records)
        return GW_OK;
    if (w->state == FAILED) {
        enum gw_status st = w->status;
        gwi_count(&t->counters.corrupt, st != GW_E_NOMEM);
        walk_free(cold, w);
        return st;
    }
    *records = w->chain;
    *count = w->chain_count;
    return GW_OK;
}

void gwi_cold_chain_drop(struct gw_thread *t, gw_addr top, bool one)
{
    struct walk *w = chain_find(t->cold, top.v, one);
    if (w && w->state > READING)
        walk_free(t->cold, w);
}

bool gwi_cold_turn(struct gw_thread *t)
{
    struct gwi_cold *cold = t->cold;
    cold->turn++;
    /* Once through the list: who still has to wait goes to its end. */
    struct walk *last = cold->queued.last;
    for (struct walk *w = cold->queued.first; w && cold->reads < cold->reads_max;) {
        list_remove(&cold->queued, w);
        bool end = w == last;
        walk_go(cold, w);
        w = end ? NULL : cold->queued.first;
    }
    return cold->queued.first != NULL;
}

uint32_t gwi_cold_ready(struct gwi_cold *cold, uint64_t *hashes, uint32_t max)
{
    uint32_t n = 0;
    for (; n < max && cold->announced; n++) {
        struct walk *w = cold->announced;
        cold->announced = w->announce;
        if (!cold->announced)
            cold->announced_end = &cold->announced;
        w->announced = false;
        hashes[n] = w->hash;
    }
    return n;
}

uint32_t gwi_cold_reads(const struct gwi_cold *cold)
{
    return cold->reads;
}

uint64_t gwi_cold_bytes(const struct gwi_cold *cold)
{
    return atomic_load_explicit(&cold->bytes, memory_order_relaxed);
}

bool gwi_cold_again(struct gwi_cold *cold, uint64_t hash)
{
    uint32_t *ghost = &cold->ghost[(hash >> 32) & (cold->ghosts - 1)], name = (uint32_t)hash | 1;
    bool again = *ghost == name;
    *ghost = again ? 0 : name;
    return again;
}

/* ---- life ---- */

enum gw_status gwi_cold_create(struct gw_thread *t, uint32_t reads_max, struct gwi_cold **out)
{
    struct gwi_cold *cold = calloc(1, sizeof *cold);
    if (!cold)
        return GW_E_NOMEM;
    cold->t = t;
    cold->log = t->log;
    cold->device = t->log->device;
    cold->queue = t->slot;
    cold->reads_max = reads_max ? reads_max : READS_DEFAULT;
    cold->walks_max = 4 * cold->reads_max;
    cold->heap_max = t->log->ring_bytes / 64 > (1u << 20) ? t->log->ring_bytes / 64 : 1u << 20;
    cold->guess = 64;
    cold->announced_end = &cold->announced;
    cold->ghosts = GHOSTS_MIN;
    while (cold->ghosts < GHOSTS_MAX && cold->ghosts < t->log->ring_bytes / 1024)
        cold->ghosts *= 2;
    cold->ghost = calloc(cold->ghosts, sizeof *cold->ghost);
    size_t bytes = (size_t)cold->reads_max * SMALL_BYTES;
    cold->slab = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    if (!cold->slab || !cold->ghost) {
        free(cold->slab);
        free(cold->ghost);
        free(cold);
        return GW_E_NOMEM;
    }
    for (size_t at = 0; at < bytes; at += SMALL_BYTES)
        buffer_free(cold, cold->slab + at, SMALL_BYTES);
    atomic_init(&cold->bytes, sizeof *cold + bytes + cold->ghosts * sizeof *cold->ghost);
    cold->device->adopt(cold->device, cold->queue, cold->slab, bytes);
    *out = cold;
    return GW_OK;
}

void gwi_cold_destroy(struct gwi_cold *cold)
{
    if (!cold)
        return;
    while (cold->reads) /* bounded by the device: each read calls back once */
        cold->device->poll(cold->device, cold->queue);
    struct list *lists[] = {&cold->queued, &cold->fresh, &cold->used, &cold->whole};
    for (int i = 0; i < 4; i++)
        while (lists[i]->first)
            walk_free(cold, lists[i]->first);
    GW_ASSERT(cold->walks == 0);
    cold->device->adopt(cold->device, cold->queue, NULL, 0);
    free(cold->slab);
    free(cold->ghost);
    free(cold);
}
