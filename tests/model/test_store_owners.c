/* Goal: whatever slots are handed from store to store, with their cold parts left where they are,
 * every key reads as in a plain map at its present owner.
 * How: three stores over devices that share what they have written, seeded random operations, and
 * hand-overs of runs of slots as a migration makes them: the target unlinks what it has, records
 * and indirections arrive chunk by chunk, the source unlinks. Tables are of different sizes, one
 * grows; filler pushes records out of memory and keeps compaction busy; stores are cut and
 * recovered; what nobody says that he needs is deleted. A failure names the seed; GW_SEED runs one
 * alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/indirection.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define OWNERS    3u
#define TAGS      12u /* slots that move: each hash tag is one */
#define KEYS      480u
#define VALUE_MAX 600u
#define PAGE_BITS 16u
#define TRIES     200000u

struct entry {
    char key[24];
    uint16_t key_bytes, slot;
    uint8_t tag;
    bool live, counter, seen;
    uint32_t value_bytes, fill;
    int64_t number;
    uint64_t expiry_ms;
};

struct owner {
    struct gw_ram_device *ram;
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_store_options options;
    struct gw_slots arriving;
    uint64_t images;
    struct gw_test_image image;
};

struct world {
    uint64_t seed, now_ms, executed, moves, recoveries, map_version, filler;
    struct gw_rand rand;
    struct gw_clock clock;
    struct owner owner[OWNERS];
    struct entry entry[KEYS];
    uint8_t owner_of[TAGS];
    uint16_t slot_of[TAGS];
    uint8_t *room, value[VALUE_MAX + 300];
    struct owner *to; /* of the hand-over */
    uint64_t links, records, unneeded;
    uint64_t said[OWNERS][OWNERS]; /* least need of a log that an owner ever had */
};

#define SAME(w, c)                                                                                 \
    cr_assert((c), "seed %lu, op %lu, moves %lu: " #c, (unsigned long)(w)->seed,                   \
              (unsigned long)(w)->executed, (unsigned long)(w)->moves)

static uint64_t world_wall_ms(void *ctx)
{
    return ((struct world *)ctx)->now_ms;
}

static void share(struct owner *o)
{
    struct gw_store_stats stats;
    gw_store_stats(o->store, &stats);
    gw_ram_device_share(o->ram, gw_addr_of(stats.log_flushed));
}

static void turn(struct owner *o)
{
    uint64_t hashes[32];
    gw_store_poll(o->thread);
    while (gw_store_ready(o->thread, hashes, 32) != 0) {}
}

/* Executes one operation until it is answered. */
static void drive(struct world *w, struct owner *o, struct gw_op *op)
{
    size_t used;
    gw_store_hash(o->store, op);
    for (uint32_t n = 0; n < TRIES; n++) {
        gw_store_enter(o->thread);
        gw_store_execute(o->thread, op, 1, w->room, 1 << 20, &used);
        gw_store_exit(o->thread);
        turn(o);
        if (op->status != GW_RETRY && op->status != GW_PENDING && op->status != GW_E_FULL)
            return;
    }
    struct gw_store_stats s;
    gw_store_stats(o->store, &s);
    cr_assert(
        false,
        "seed %lu, op %lu, owner %lu: verb %d ends never (%d); begin %lx head %lx flushed %lx "
        "read-only %lx tail %lx live %lu refused %lu corrupt %lu compacted %lu",
        (unsigned long)w->seed, (unsigned long)w->executed, (unsigned long)(o - w->owner), op->verb,
        op->status, (unsigned long)s.log_begin, (unsigned long)s.log_head,
        (unsigned long)s.log_flushed, (unsigned long)s.log_read_only, (unsigned long)s.log_tail,
        (unsigned long)s.live_bytes, (unsigned long)s.refused_full, (unsigned long)s.corrupt,
        (unsigned long)s.compacted_bytes);
}

static void owner_open(struct world *w, uint32_t i)
{
    static const uint64_t index[OWNERS] = {1 << 16, 1 << 16, 1 << 19};
    struct owner *o = &w->owner[i];
    o->ram = gw_ram_device_create(
        &(struct gw_ram_device_options){.page_bits = i == 2 ? PAGE_BITS + 1 : PAGE_BITS,
                                        .delay_polls_max = 2,
                                        .seed = w->seed + i,
                                        .log_id = 1000 + i});
    uint32_t page_bits = i == 2 ? PAGE_BITS + 1 : PAGE_BITS;
    o->options = (struct gw_store_options){.log_bytes = (uint64_t)12 << page_bits,
                                           .index_bytes = index[i],
                                           .index_bytes_max = i == 1 ? 1 << 18 : 0,
                                           .page_bits = page_bits,
                                           .hash_seed = w->seed,
                                           .threads_max = 4,
                                           .cold_reads_max = 16,
                                           .clock = &w->clock,
                                           .device = gw_ram_device_face(o->ram)};
    cr_assert_eq(gw_store_open(&o->options, &o->store), GW_OK);
    gw_store_retain_all(o->store);
    cr_assert_eq(gw_store_thread_open(o->store, &o->thread), GW_OK);
}

/* The expected value. */
static bool is_live(const struct world *w, const struct entry *e)
{
    return e->live && (e->expiry_ms == 0 || e->expiry_ms > w->now_ms);
}

static void check_read(struct world *w, struct entry *e)
{
    struct gw_op op = {.verb = GW_VERB_READ,
                       .key = (const uint8_t *)e->key,
                       .key_bytes = e->key_bytes};
    drive(w, &w->owner[w->owner_of[e->tag]], &op);
    if (!is_live(w, e)) {
        SAME(w, op.status == GW_NOT_FOUND);
        return;
    }
    SAME(w, op.status == GW_OK);
    SAME(w, op.kind == (e->counter ? GW_KIND_COUNTER : GW_KIND_BYTES));
    if (e->counter) {
        SAME(w, op.number == e->number);
        return;
    }
    SAME(w, op.out_bytes == e->value_bytes);
    SAME(w, memcmp(op.out, w->value + e->fill, e->value_bytes) == 0);
}

static void change(struct world *w)
{
    struct entry *e = &w->entry[gw_rand_below(&w->rand, KEYS)];
    struct owner *o = &w->owner[w->owner_of[e->tag]];
    struct gw_op op = {.key = (const uint8_t *)e->key, .key_bytes = e->key_bytes};
    uint32_t fill = (uint32_t)gw_rand_below(&w->rand, 256);
    uint32_t bytes = (uint32_t)gw_rand_below(&w->rand, VALUE_MAX);
    bool live = is_live(w, e);
    w->executed++;
    switch (gw_rand_below(&w->rand, 6)) {
    case 0:
    case 1:
        op.verb = gw_rand_below(&w->rand, 2) ? GW_VERB_UPSERT : GW_VERB_INSERT;
        op.value = w->value + fill;
        op.value_bytes = bytes;
        if (gw_rand_below(&w->rand, 5) == 0) {
            op.flags = GW_OP_HAS_EXPIRY;
            op.expiry_ms = w->now_ms + 1 + gw_rand_below(&w->rand, 3000);
        }
        drive(w, o, &op);
        if (op.verb == GW_VERB_INSERT && live) {
            SAME(w, op.status == GW_EXISTS);
            return;
        }
        SAME(w, op.status == GW_OK);
        e->live = true;
        e->counter = false;
        e->fill = fill;
        e->value_bytes = bytes;
        e->expiry_ms = op.expiry_ms;
        return;
    case 2:
        op.verb = GW_VERB_DELETE;
        drive(w, o, &op);
        SAME(w, op.status == (live ? GW_OK : GW_NOT_FOUND));
        e->live = false;
        return;
    case 3:
    case 4:
        op.verb = GW_VERB_ADD;
        op.delta = fill;
        drive(w, o, &op);
        if (live && !e->counter) {
            SAME(w, op.status == GW_WRONG_TYPE);
            return;
        }
        SAME(w, op.status == GW_OK);
        e->number = live ? e->number + fill : fill;
        SAME(w, op.number == e->number);
        if (!live)
            e->expiry_ms = 0;
        e->live = e->counter = true;
        return;
    default:
        check_read(w, e);
    }
}

static void fill(struct world *w, struct owner *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char key[32];
        uint64_t name = gw_rand_below(&w->rand, 4) ? gw_rand_below(&w->rand, 4000) : w->filler++;
        int bytes = snprintf(key, sizeof key, "{filler%lu}%lu", (unsigned long)(name % 97),
                             (unsigned long)name);
        struct gw_op op = {.verb = GW_VERB_UPSERT,
                           .key = (const uint8_t *)key,
                           .key_bytes = (uint16_t)bytes,
                           .value = w->value,
                           .value_bytes = 100 + (uint32_t)(name % 400)};
        drive(w, o, &op);
        SAME(w, op.status == GW_OK);
    }
}

/* ---- hand-over ---- */

static bool arrives(void *ctx, const struct gw_record_view *view)
{
    struct world *w = ctx;
    uint8_t value[VALUE_MAX + 1];
    struct gw_op op = {.verb = GW_VERB_ARRIVE,
                       .key = view->key,
                       .key_bytes = view->key_bytes,
                       .number = view->number,
                       .expected_version = view->version,
                       .value_bytes = view->kind == GW_KIND_COUNTER ? 0 : view->value_bytes,
                       .expiry_ms = view->expiry_ms};
    if (op.value_bytes)
        memcpy(value, view->value, op.value_bytes);
    op.value = value;
    op.flags = (view->kind == GW_KIND_COUNTER ? GW_OP_COUNTER : 0) |
               (view->tombstone ? GW_OP_TOMBSTONE : 0) |
               (view->expiry_ms && !view->tombstone ? GW_OP_HAS_EXPIRY : 0);
    drive(w, w->to, &op);
    SAME(w, op.status == GW_OK || op.status == GW_EXISTS);
    w->records++;
    return true;
}

static bool links(void *ctx, const struct gw_indirection *in)
{
    struct world *w = ctx;
    uint8_t value[GW_INDIRECTION_BYTES];
    struct gw_indirection again;
    gw_indirection_encode(in, value);
    gw_indirection_decode(value, &again);
    SAME(w, gw_indirection_is_sound(in) && again.begin == in->begin);
    enum gw_status st = GW_RETRY;
    for (uint32_t n = 0; n < TRIES && st != GW_OK; n++) {
        gw_store_enter(w->to->thread);
        st = gw_store_link(w->to->thread, &again);
        gw_store_exit(w->to->thread);
        turn(w->to);
        SAME(w, st == GW_OK || st == GW_RETRY || st == GW_NOT_YET || st == GW_E_FULL);
    }
    SAME(w, st == GW_OK);
    w->links++;
    return true;
}

static void unlink_slots(struct owner *o, const struct gw_slots *slots)
{
    struct gw_cursor cursor = {0};
    uint64_t n = 0;
    while (!cursor.done) {
        gw_store_enter(o->thread);
        gw_store_unlink(o->thread, &cursor, UINT64_MAX, slots, 64, &n);
        gw_store_exit(o->thread);
        turn(o);
    }
}

/* What nobody needs is deleted. As the coordinator does it: while anybody needs a log, all that its
 * owner ever said counts (coordinator/state_needs.c, rule 2). */
static void collect(struct world *w)
{
    uint64_t now[OWNERS][OWNERS], keep[OWNERS];
    bool needed[OWNERS] = {false};
    for (uint32_t i = 0; i < OWNERS; i++) {
        struct gw_foreign_need need[8];
        uint32_t n = gw_store_foreign(w->owner[i].store, need, 8);
        keep[i] = UINT64_MAX;
        for (uint32_t k = 0; k < OWNERS; k++)
            now[i][k] = UINT64_MAX;
        for (uint32_t j = 0; j < n; j++) {
            uint64_t log = need[j].log_id - 1000;
            now[i][log] = need[j].lowest;
            w->said[i][log] = now[i][log] < w->said[i][log] ? now[i][log] : w->said[i][log];
        }
    }
    for (uint32_t more = OWNERS; more > 0; more--)
        for (uint32_t i = 0; i < OWNERS; i++)
            for (uint32_t k = 0; k < OWNERS; k++) {
                uint64_t of = needed[i] ? w->said[i][k] : now[i][k];
                keep[k] = of < keep[k] ? of : keep[k];
                needed[k] |= of != UINT64_MAX && i != k;
            }
    for (uint32_t i = 0; i < OWNERS; i++) {
        struct gw_store_stats stats;
        gw_store_stats(w->owner[i].store, &stats);
        uint64_t below = keep[i] < stats.log_begin ? keep[i] : stats.log_begin;
        w->unneeded += keep[i] == UINT64_MAX;
        gw_ram_device_delete(w->owner[i].ram, gw_addr_of(below));
    }
}

static void move(struct world *w)
{
    uint32_t tag = (uint32_t)gw_rand_below(&w->rand, TAGS), more = tag;
    struct owner *from = &w->owner[w->owner_of[tag]];
    uint32_t target =
        (w->owner_of[tag] + 1 + (uint32_t)gw_rand_below(&w->rand, OWNERS - 1)) % OWNERS;
    struct gw_slots slots;
    gw_slots_clear(&slots);
    w->to = &w->owner[target];
    while (more < TAGS && more < tag + 3 && &w->owner[w->owner_of[more]] == from)
        gw_slots_add(&slots, w->slot_of[more++]);
    w->map_version++;
    w->moves++;
    unlink_slots(w->to, &slots);
    gw_store_keep_tombstones(w->to->store, &slots);
    gw_store_version_floor(w->to->store, gw_store_version_highest(from->store));
    share(from);
    uint32_t bits = (uint32_t)gw_rand_below(&w->rand, 13); /* of a chunk */
    bool whole = gw_rand_below(&w->rand, 8) == 0;          /* without indirections */
    for (uint64_t chunk = 0; chunk < (uint64_t)1 << bits; chunk++) {
        struct gw_cursor cursor = {.hash = bits ? chunk << (64 - bits) : 0};
        uint64_t last = bits ? cursor.hash | UINT64_MAX >> bits : UINT64_MAX;
        for (uint32_t n = 0; !cursor.done; n++) {
            SAME(w, n < TRIES);
            gw_store_enter(from->thread);
            if (whole)
                gw_store_walk(from->thread, &cursor, last, &slots, true, 16, arrives, w);
            else
                gw_store_walk_shared(from->thread, &cursor, last, &slots, w->map_version, 16,
                                     arrives, links, w);
            gw_store_exit(from->thread);
            turn(from);
        }
    }
    for (uint32_t t = tag; t < more; t++)
        w->owner_of[t] = (uint8_t)target;
    gw_store_keep_tombstones(w->to->store, NULL);
    unlink_slots(from, &slots);
}

/* ---- images ---- */

static void recover(struct world *w)
{
    struct owner *o = &w->owner[gw_rand_below(&w->rand, OWNERS)];
    struct gw_test_snapshot snapshot = {0};
    struct gw_store_stats stats;
    char why[256];
    bool with = gw_rand_below(&w->rand, 2);
    if (with) {
        gw_test_snapshot_take(&snapshot, o->store);
        fill(w, o, 20);
    }
    gw_test_image_free(&o->image);
    gw_test_image_take(&o->image, o->store, o->thread, ++o->images);
    gw_store_retain(o->store, o->image.numbers.begin, o->image.numbers.end);
    gw_store_foreign_retained(o->store, o->image.numbers.end.v);
    if (gw_rand_below(&w->rand, 3) == 0) { /* the process goes on */
        gw_test_snapshot_free(&snapshot);
        return;
    }
    gw_store_stats(o->store, &stats);
    gw_store_thread_close(o->thread);
    gw_store_close(o->store);
    uint64_t mask = (UINT64_C(1) << o->options.page_bits) - 1;
    gw_addr resume = gw_addr_of(((stats.log_tail | mask) + 1 + mask) & ~mask);
    enum gw_status st = gw_test_recover(&o->options, &o->image, with ? &snapshot : NULL, resume, 1,
                                        NULL, &o->store, why);
    cr_assert_eq(st, GW_OK, "seed %lu: %s", (unsigned long)w->seed, why);
    gw_store_retain_all(o->store);
    gw_store_retain(o->store, o->image.numbers.begin, o->image.numbers.end);
    gw_store_foreign_retained(o->store, o->image.numbers.end.v);
    cr_assert_eq(gw_store_thread_open(o->store, &o->thread), GW_OK);
    gw_test_snapshot_free(&snapshot);
    w->recoveries++;
}

/* ---- the whole ---- */

static bool visits(void *ctx, const struct gw_record_view *view)
{
    struct world *w = ctx;
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &w->entry[i];
        if (e->key_bytes != view->key_bytes || memcmp(e->key, view->key, e->key_bytes) != 0)
            continue;
        SAME(w, is_live(w, e));
        SAME(w, e->counter ? view->number == e->number : view->value_bytes == e->value_bytes);
        e->seen = true;
        return true;
    }
    SAME(w, false);
    return false;
}

static void compare(struct world *w, bool walks)
{
    for (uint32_t i = 0; i < OWNERS && walks; i++) {
        struct gw_slots slots;
        struct gw_cursor cursor = {0};
        gw_slots_clear(&slots);
        for (uint32_t t = 0; t < TAGS; t++)
            if (w->owner_of[t] == i)
                gw_slots_add(&slots, w->slot_of[t]);
        for (uint32_t k = 0; k < KEYS; k++)
            w->entry[k].seen = false;
        for (uint32_t n = 0; !cursor.done; n++) {
            SAME(w, n < TRIES);
            gw_store_enter(w->owner[i].thread);
            gw_store_walk(w->owner[i].thread, &cursor, UINT64_MAX, &slots, false, 64, visits, w);
            gw_store_exit(w->owner[i].thread);
            turn(&w->owner[i]);
        }
        for (uint32_t k = 0; k < KEYS; k++)
            SAME(w, w->entry[k].seen ==
                        (w->owner_of[w->entry[k].tag] == i && is_live(w, &w->entry[k])));
    }
    for (uint32_t k = 0; k < KEYS; k++)
        check_read(w, &w->entry[k]);
}

static void run(uint64_t seed, uint32_t rounds)
{
    struct world *w = calloc(1, sizeof *w);
    w->seed = seed;
    w->now_ms = 1000000;
    gw_rand_init(&w->rand, seed);
    memset(w->said, 0xff, sizeof w->said);
    w->clock = *gw_clock_coarse();
    w->clock.wall_ms = world_wall_ms;
    w->clock.ctx = w;
    w->room = malloc(1 << 20);
    for (uint32_t i = 0; i < sizeof w->value; i++)
        w->value[i] = (uint8_t)(i * 37 + 11);
    for (uint32_t i = 0; i < OWNERS; i++)
        owner_open(w, i);
    for (uint32_t i = 0; i < OWNERS; i++)
        for (uint32_t k = 0; k < OWNERS; k++)
            if (i != k)
                gw_ram_device_know(w->owner[i].ram, w->owner[k].ram);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &w->entry[i];
        e->tag = (uint8_t)(i % TAGS);
        e->key_bytes = (uint16_t)snprintf(e->key, sizeof e->key, "{%u}key%u", e->tag, i);
        struct gw_op op = {.key = (const uint8_t *)e->key, .key_bytes = e->key_bytes};
        gw_store_hash(w->owner[0].store, &op);
        w->slot_of[e->tag] = op.slot;
        w->owner_of[e->tag] = (uint8_t)(e->tag % OWNERS);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < 150; i++)
            change(w);
        fill(w, &w->owner[round % OWNERS], 400);
        w->now_ms += gw_rand_below(&w->rand, 1500);
        if (gw_rand_below(&w->rand, 4) != 0)
            move(w);
        if (gw_rand_below(&w->rand, 4) == 0)
            recover(w);
        if (gw_rand_below(&w->rand, 3) == 0)
            collect(w);
        if (round % 8 == 7)
            compare(w, round % 16 == 15);
    }
    compare(w, true);
    uint64_t foreign = 0, found = 0, retired = 0;
    for (uint32_t i = 0; i < OWNERS; i++) {
        struct gw_indirection_stats stats;
        struct gw_store_stats s;
        foreign += gw_ram_device_foreign_reads(w->owner[i].ram);
        gw_store_indirection_stats(w->owner[i].store, &stats);
        gw_store_stats(w->owner[i].store, &s);
        SAME(w, s.corrupt == 0);
        found += stats.found;
        retired += stats.retired;
    }
    if (getenv("GW_SEED"))
        fprintf(stderr,
                "seed %lu: moves %lu, recoveries %lu, links %lu, records %lu, foreign reads "
                "%lu, found %lu, retired %lu, unneeded %lu\n",
                (unsigned long)seed, (unsigned long)w->moves, (unsigned long)w->recoveries,
                (unsigned long)w->links, (unsigned long)w->records, (unsigned long)foreign,
                (unsigned long)found, (unsigned long)retired, (unsigned long)w->unneeded);
    SAME(w, w->links != 0 && foreign != 0);
    for (uint32_t i = 0; i < OWNERS; i++) {
        gw_store_thread_close(w->owner[i].thread);
        gw_store_close(w->owner[i].store);
        gw_test_image_free(&w->owner[i].image);
    }
    for (uint32_t i = 0; i < OWNERS; i++)
        gw_ram_device_destroy(w->owner[i].ram);
    free(w->room);
    free(w);
}

Test(store_owners, every_key_reads_as_in_the_map_at_its_present_owner, .timeout = 300)
{
    const char *one = getenv("GW_SEED");
    if (one) {
        run(strtoull(one, NULL, 10), 64);
        return;
    }
    for (uint64_t seed = 1; seed <= 12; seed++)
        run(seed, 40);
}
