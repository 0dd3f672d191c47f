/* Goal: a store that goes on from an image has what a plain map had at the cut, key by key, and
 * goes on being right over many generations: with data of several times the memory, growth of the
 * index, expiry, compaction over the gaps of all restarts, snapshots older and newer, cuts that are
 * never finished, and changes behind the cut that are lost. How: seeded random operations as in
 * test_store_cold_verbs.c. At a cut the model is copied; work goes on while the image is written
 * and after it; then the process "dies" at any time, the copy of the last finished image becomes
 * the model, and a fresh store recovers it from the same device. A failure names the seed; GW_SEED
 * runs one seed alone. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/store_recover.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define KEYS        4000u
#define BATCH       40u
#define VALUE_MAX   600u
#define PIECE_MAX   40u
#define VALUE_ALL   (2 * VALUE_MAX + PIECE_MAX)
#define PAGE_BITS   16u
#define LOG_PAGES   10u
#define ROUNDS      900u /* of a generation */
#define GENERATIONS 6u
#define SEGMENT     ((uint64_t)4 << PAGE_BITS)
#define WAITING     4096u

struct entry {
    uint8_t key[24];
    uint16_t key_bytes;
    bool live, seen;
    uint8_t kind;
    uint32_t version, value_bytes;
    int64_t number;
    uint64_t expiry_ms;
    uint8_t value[VALUE_ALL];
};

struct model {
    struct entry entry[KEYS], kept[KEYS], cut[KEYS]; /* kept: of the last finished image */
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_store_options options;
    struct gw_test_image image, cutting; /* the last finished one; that which is being made */
    struct gw_test_snapshot snapshot, writing;
    bool has_image, has_snapshot, is_cutting, is_writing, next_snapshot;
    uint64_t number, images, snapshots, resumed_begin;
    char why[256];
    struct gw_ram_device *ram;
    struct gw_rand rand;
    uint64_t seed, executed, pending, given, now_ms;
    uint8_t *room;
    uint8_t value[VALUE_MAX + 256];
    uint32_t waiting;
    struct gw_op wait[WAITING]; /* in the order of issue */
};

#define SAME(m, c)                                                                                 \
    cr_assert((c), "seed %lu, op %lu: " #c, (unsigned long)(m)->seed, (unsigned long)(m)->executed)

static uint64_t model_wall_ms(void *ctx)
{
    return ((struct model *)ctx)->now_ms;
}

static void store_open(struct model *m, enum gw_status opened)
{
    SAME(m, opened == GW_OK);
    gw_store_retain_all(m->store);
    cr_assert_eq(gw_store_thread_open(m->store, &m->thread), GW_OK);
}

static void model_open(struct model *m, const struct gw_clock *clock, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    m->seed = seed;
    m->now_ms = 1000000;
    gw_rand_init(&m->rand, seed);
    m->ram = gw_ram_device_create(
        &(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                        .delay_polls_max = 6,
                                        .segment_bytes = SEGMENT,
                                        .limit_bytes = seed % 2 ? 100 * SEGMENT : 0,
                                        .seed = seed});
    bool grows = seed % 4 >= 2;
    m->options =
        (struct gw_store_options){.log_bytes = (LOG_PAGES + (grows ? 8u : 0u)) << PAGE_BITS,
                                  .index_bytes = grows ? 1 << 16 : 1 << 18,
                                  .index_bytes_max = grows ? 1 << 19 : 0,
                                  .page_bits = PAGE_BITS,
                                  .hash_seed = seed,
                                  .threads_max = 4,
                                  .cold_reads_max = 24,
                                  .clock = clock,
                                  .device = gw_ram_device_face(m->ram)};
    store_open(m, gw_store_open(&m->options, &m->store));
    m->room = malloc(1 << 20);
    for (uint32_t i = 0; i < sizeof m->value; i++)
        m->value[i] = (uint8_t)(i * 37 + 11);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        e->key_bytes = i % 3 == 0 ? 8 : i % 3 == 1 ? 17 : 5;
        memset(e->key, (int)(i % 251), e->key_bytes);
        memcpy(e->key, &i, sizeof i);
        if (i % 6 == 1)
            memcpy(e->key + 4, "{t}", 3); /* one slot: chains hold several keys */
    }
    memcpy(m->kept, m->entry, sizeof m->entry);
}

static void model_close(struct model *m)
{
    gw_test_snapshot_free(&m->writing);
    gw_test_snapshot_free(&m->snapshot);
    gw_test_image_free(&m->cutting);
    gw_test_image_free(&m->image);
    gw_store_thread_close(m->thread);
    gw_store_close(m->store);
    gw_ram_device_destroy(m->ram);
    free(m->room);
}

static bool is_live(const struct model *m, const struct entry *e)
{
    return e->live && (e->expiry_ms == 0 || e->expiry_ms > m->now_ms);
}

static void draw(struct model *m, struct gw_op *op)
{
    static const uint8_t verbs[] = {GW_VERB_READ,    GW_VERB_READ,   GW_VERB_UPSERT,
                                    GW_VERB_CAS,     GW_VERB_DELETE, GW_VERB_UPSERT,
                                    GW_VERB_GETSET,  GW_VERB_GETDEL, GW_VERB_APPEND,
                                    GW_VERB_PREPEND, GW_VERB_TOUCH,  GW_VERB_READ_TOUCH,
                                    GW_VERB_ADD,     GW_VERB_INSERT};
    struct entry *e = &m->entry[gw_rand_below(&m->rand, KEYS)];
    memset(op, 0, sizeof *op);
    op->verb = verbs[gw_rand_below(&m->rand, sizeof verbs)];
    op->key = e->key;
    op->key_bytes = e->key_bytes;
    op->delta = (int64_t)gw_rand_below(&m->rand, 1000);
    op->number = (int64_t)gw_rand_below(&m->rand, 1000);
    bool piece = op->verb == GW_VERB_APPEND || op->verb == GW_VERB_PREPEND;
    op->value_bytes = (uint32_t)gw_rand_below(&m->rand, piece ? PIECE_MAX : VALUE_MAX);
    op->value = m->value + gw_rand_below(&m->rand, 256);
    if (piece && e->value_bytes > VALUE_MAX)
        op->verb = GW_VERB_GETDEL;
    op->expected_version = e->version + (gw_rand_below(&m->rand, 8) == 0);
    uint64_t flags = gw_rand_next(&m->rand);
    if (!piece && flags % 4 == 0)
        op->flags |= GW_OP_COUNTER;
    if (op->verb != GW_VERB_GETDEL && op->verb != GW_VERB_DELETE && flags % 8 == 0)
        op->flags |= GW_OP_HAS_EXPIRY;
    else if ((op->verb == GW_VERB_UPSERT || op->verb == GW_VERB_GETSET) && flags % 5 < 3)
        op->flags |= GW_OP_KEEP_EXPIRY;
    op->expiry_ms = m->now_ms - 2 + gw_rand_below(&m->rand, 9000);
    gw_store_hash(m->store, op);
}

static struct entry *entry_of(struct model *m, const struct gw_op *op)
{
    uint32_t i;
    memcpy(&i, op->key, sizeof i);
    return &m->entry[i];
}

static void check_value(struct model *m, const struct entry *e, const struct gw_op *op)
{
    SAME(m, op->kind == e->kind);
    if (e->kind == GW_KIND_COUNTER) {
        SAME(m, op->number == e->number);
        return;
    }
    SAME(m, op->out_bytes == e->value_bytes);
    SAME(m, memcmp(op->out, e->value, e->value_bytes) == 0);
    m->given++;
}

/* What every change does to version and expiry; `keeps`: the verb leaves an expiry as it is. */
static void changed(struct model *m, struct entry *e, const struct gw_op *op, bool live, bool keeps)
{
    SAME(m, op->status == GW_OK);
    /* Of a dead key compaction may have dropped what was left: then its versions begin anew. */
    SAME(m, !live || op->version == e->version + 1);
    e->version = op->version;
    e->live = true;
    if (op->flags & GW_OP_HAS_EXPIRY) {
        e->expiry_ms = op->expiry_ms;
        e->live = op->expiry_ms > m->now_ms;
    } else if (!live || !(keeps || (op->flags & GW_OP_KEEP_EXPIRY))) {
        e->expiry_ms = 0;
    }
}

static void put(struct model *m, struct entry *e, const struct gw_op *op, int64_t number, bool live)
{
    e->kind = op->flags & GW_OP_COUNTER ? GW_KIND_COUNTER : GW_KIND_BYTES;
    e->number = number;
    e->value_bytes = op->value_bytes;
    memcpy(e->value, op->value, op->value_bytes);
    changed(m, e, op, live, false);
}

static void put_piece(struct model *m, struct entry *e, const struct gw_op *op, bool live)
{
    if (!live)
        e->value_bytes = 0;
    if (op->verb == GW_VERB_APPEND) {
        memcpy(e->value + e->value_bytes, op->value, op->value_bytes);
    } else {
        memmove(e->value + op->value_bytes, e->value, e->value_bytes);
        memcpy(e->value, op->value, op->value_bytes);
    }
    e->value_bytes += op->value_bytes;
    e->kind = GW_KIND_BYTES;
    changed(m, e, op, live, true);
    SAME(m, !e->live || op->out_bytes == e->value_bytes);
}

static void compare(struct model *m, const struct gw_op *op, int64_t number)
{
    struct entry *e = entry_of(m, op);
    bool live = is_live(m, e);
    m->executed++;
    switch (op->verb) {
    case GW_VERB_READ:
        SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
        if (live) {
            SAME(m, op->version == e->version && op->expiry_ms == e->expiry_ms);
            check_value(m, e, op);
        }
        break;
    case GW_VERB_INSERT:
        SAME(m, op->status == (live ? GW_EXISTS : GW_OK));
        if (!live)
            put(m, e, op, number, live);
        break;
    case GW_VERB_UPSERT:
        put(m, e, op, number, live);
        break;
    case GW_VERB_GETSET:
        if (live)
            check_value(m, e, op);
        else
            SAME(m, op->kind == GW_KIND_NONE);
        put(m, e, op, number, live);
        break;
    case GW_VERB_CAS:
        SAME(m, op->status == (!live                                ? GW_NOT_FOUND
                               : op->expected_version != e->version ? GW_MISMATCH
                                                                    : GW_OK));
        if (op->status == GW_OK)
            put(m, e, op, number, live);
        break;
    case GW_VERB_DELETE:
        SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
        if (live) {
            changed(m, e, op, live, true);
            e->live = false;
        }
        break;
    case GW_VERB_GETDEL:
        SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
        if (live) {
            check_value(m, e, op);
            changed(m, e, op, live, true);
            e->live = false;
        }
        break;
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
        if (live && op->verb == GW_VERB_READ_TOUCH)
            check_value(m, e, op);
        if (live)
            changed(m, e, op, live, false);
        break;
    case GW_VERB_ADD:
        if (live && e->kind != GW_KIND_COUNTER) {
            SAME(m, op->status == GW_WRONG_TYPE);
            break;
        }
        e->number = (live ? e->number : 0) + op->delta;
        SAME(m, op->number == e->number);
        e->kind = GW_KIND_COUNTER;
        e->value_bytes = 0;
        changed(m, e, op, live, true);
        break;
    default:
        if (live && e->kind != GW_KIND_BYTES)
            SAME(m, op->status == GW_WRONG_TYPE);
        else
            put_piece(m, e, op, live);
        break;
    }
}

/* Executes ops[0..n) and compares what was answered; the rest goes to m->wait, in order. */
static void execute(struct model *m, struct gw_op *ops, uint32_t n)
{
    static int64_t numbers[WAITING];
    for (uint32_t i = 0; i < n; i++)
        numbers[i] = ops[i].number;
    size_t used;
    gw_store_enter(m->thread);
    uint32_t done = gw_store_execute(m->thread, ops, n, m->room, 1 << 20, &used);
    gw_store_exit(m->thread);
    SAME(m, done == n);
    for (uint32_t i = 0; i < n; i++) {
        if (ops[i].status == GW_PENDING || ops[i].status == GW_RETRY) {
            SAME(m, ops[i].number == numbers[i]); /* an input still */
            m->pending += ops[i].status == GW_PENDING;
            SAME(m, m->waiting < WAITING);
            m->wait[m->waiting++] = ops[i];
        } else {
            compare(m, &ops[i], numbers[i]);
        }
    }
}

static bool waits(const struct model *m, uint64_t hash)
{
    for (uint32_t i = 0; i < m->waiting; i++)
        if (m->wait[i].hash == hash)
            return true;
    return false;
}

static void turn(struct model *m);

/* Executes all that waits again, in order, until nothing does. */
static void settle(struct model *m)
{
    for (uint32_t turns = 0; m->waiting; turns++) {
        SAME(m, turns < 100000);
        turn(m);
        uint64_t hashes[8];
        while (gw_store_ready(m->thread, hashes, 8) != 0) {}
        static struct gw_op again[WAITING];
        uint32_t n = m->waiting;
        memcpy(again, m->wait, n * sizeof *again);
        m->waiting = 0;
        execute(m, again, n);
    }
}

/* ---- images ---- */

/* A snapshot is written a block at a time, between batches, and belongs to the next image. */
static void snapshot_turn(struct model *m)
{
    if (!m->is_writing && !m->is_cutting && !m->next_snapshot && gw_rand_below(&m->rand, 60) == 0) {
        gw_test_snapshot_free(&m->writing);
        gw_test_snapshot_begin(&m->writing, m->store);
        m->is_writing = true;
    } else if (m->is_writing && gw_rand_below(&m->rand, 4) == 0) {
        m->is_writing = gw_test_snapshot_step(&m->writing);
        m->next_snapshot = !m->is_writing;
    }
}

static void image_done(struct model *m)
{
    gw_test_image_finish(&m->cutting, m->store);
    gw_test_image_free(&m->image);
    m->image = m->cutting;
    memset(&m->cutting, 0, sizeof m->cutting);
    memcpy(m->kept, m->cut, sizeof m->cut);
    m->has_image = true;
    m->is_cutting = false;
    m->images++;
    if (m->next_snapshot) {
        gw_test_snapshot_free(&m->snapshot);
        m->snapshot = m->writing;
        memset(&m->writing, 0, sizeof m->writing);
        m->has_snapshot = true;
        m->next_snapshot = false;
        m->snapshots++;
    }
    gw_store_retain(m->store, m->image.numbers.begin, m->image.numbers.end);
}

static void image_turn(struct model *m)
{
    if (m->is_cutting) {
        if (gw_store_cut_flushed(m->store, m->cutting.numbers.end))
            image_done(m);
    } else if (!m->is_writing &&
               (gw_rand_below(&m->rand, 80) == 0 || gw_store_wants_checkpoint(m->store))) {
        gw_test_image_begin(&m->cutting, m->store, m->thread, ++m->number);
        gw_store_enter(m->thread); /* the only thread crosses: this is the image */
        gw_store_exit(m->thread);
        memcpy(m->cut, m->entry, sizeof m->entry);
        m->is_cutting = true;
    }
}

/* ---- the end of a process, and the next one ---- */

static void read_all(struct model *m)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        struct gw_op op = {.verb = GW_VERB_READ,
                           .key = m->entry[i].key,
                           .key_bytes = m->entry[i].key_bytes};
        gw_store_hash(m->store, &op);
        execute(m, &op, 1);
        if (m->waiting > 30)
            settle(m);
    }
    settle(m);
}

static bool visit(void *ctx, const struct gw_record_view *view)
{
    struct model *m = ctx;
    uint32_t i;
    memcpy(&i, view->key, sizeof i);
    struct entry *e = &m->entry[i];
    SAME(m, is_live(m, e) && view->version == e->version && !view->tombstone);
    SAME(m, view->kind == e->kind && view->expiry_ms == e->expiry_ms);
    SAME(m, view->kind == GW_KIND_COUNTER ? view->number == e->number
                                          : view->value_bytes == e->value_bytes &&
                                                memcmp(view->value, e->value, e->value_bytes) == 0);
    e->seen = true;
    return true;
}

static void walk(struct model *m)
{
    for (uint32_t i = 0; i < KEYS; i++)
        m->entry[i].seen = false;
    struct gw_cursor cursor = {0};
    for (uint32_t turns = 0; !cursor.done; turns++) {
        SAME(m, turns < 1000000);
        gw_store_enter(m->thread);
        gw_store_walk(m->thread, &cursor, UINT64_MAX, NULL, false, 64, visit, m);
        gw_store_exit(m->thread);
        gw_store_poll(m->thread);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        SAME(m, m->entry[i].seen == is_live(m, &m->entry[i]));
}

static void restart(struct model *m)
{
    while (!m->has_image) {
        gw_store_poll(m->thread);
        image_turn(m);
    }
    struct gw_store_stats stats;
    gw_store_stats(m->store, &stats);
    cr_expect_eq(stats.corrupt, 0);
    gw_addr resume = gw_addr_of((stats.log_tail / SEGMENT + 1) * SEGMENT);
    m->resumed_begin += stats.log_begin > m->image.numbers.begin.v;
    gw_test_snapshot_free(&m->writing);
    gw_test_image_free(&m->cutting);
    m->is_cutting = m->is_writing = m->next_snapshot = false;
    gw_store_thread_close(m->thread);
    gw_store_close(m->store);
    memcpy(m->entry, m->kept, sizeof m->kept);
    m->waiting = 0;
    if (gw_rand_below(&m->rand, 2) == 0) /* the clock is set back: no key comes back by it */
        m->now_ms = m->image.numbers.expiry_ms - gw_rand_below(&m->rand, 2000);
    bool snapshot = m->has_snapshot && gw_rand_below(&m->rand, 4) != 0;
    enum gw_status st =
        gw_test_recover(&m->options, &m->image, snapshot ? &m->snapshot : NULL, resume,
                        1 + (uint32_t)gw_rand_below(&m->rand, 3), NULL, &m->store, m->why);
    cr_assert_eq(st, GW_OK, "seed %lu: %d, %s", (unsigned long)m->seed, st, m->why);
    store_open(m, st);
    gw_store_retain(m->store, m->image.numbers.begin, m->image.numbers.end);
    if (m->now_ms < m->image.numbers.expiry_ms)
        m->now_ms = m->image.numbers.expiry_ms; /* as the store does */
    if (gw_rand_below(&m->rand, 2) == 0) {
        walk(m);
        read_all(m);
    } else {
        read_all(m);
        walk(m);
    }
}

static void turn(struct model *m)
{
    gw_store_poll(m->thread);
    snapshot_turn(m);
    image_turn(m);
}

/* Every key once, so that the data is several times the memory from the start. */
static void fill(struct model *m)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        struct gw_op op = {.verb = GW_VERB_UPSERT,
                           .key = e->key,
                           .key_bytes = e->key_bytes,
                           .value = m->value + gw_rand_below(&m->rand, 256),
                           .value_bytes = (uint32_t)gw_rand_below(&m->rand, VALUE_MAX)};
        gw_store_hash(m->store, &op);
        execute(m, &op, 1);
        turn(m);
        if (m->waiting > 10)
            settle(m);
    }
    settle(m);
}

static void run_seed(uint64_t seed)
{
    struct model *m = malloc(sizeof *m);
    struct gw_clock clock = {.wall_ms = model_wall_ms, .ctx = m};
    model_open(m, &clock, seed);
    uint64_t splits = 0;
    fill(m);
    for (uint32_t generation = 0; generation < GENERATIONS; generation++) {
        uint32_t rounds = ROUNDS / 4 + (uint32_t)gw_rand_below(&m->rand, ROUNDS);
        for (uint32_t round = 0; round < rounds; round++) {
            struct gw_op ops[BATCH];
            uint32_t n = 0, wanted = 1 + (uint32_t)gw_rand_below(&m->rand, BATCH);
            while (n < wanted) {
                draw(m, &ops[n]);
                if (!waits(m, ops[n].hash)) /* the caller keeps later ones behind it */
                    n++;
                else if (gw_rand_below(&m->rand, 4) == 0)
                    settle(m);
            }
            execute(m, ops, n);
            turn(m);
            if (m->waiting > 40 || gw_rand_below(&m->rand, 4) == 0)
                settle(m);
            m->now_ms += gw_rand_below(&m->rand, 8);
        }
        struct gw_store_stats stats;
        gw_store_stats(m->store, &stats);
        splits += stats.index_splits;
        restart(m);
    }
    struct gw_store_stats stats;
    gw_store_stats(m->store, &stats);
    cr_log_info("seed %lu: %lu ops, %lu pending, %lu images, %lu snapshots, %lu splits, begin %lu "
                "tail %lu MiB, %lu times begin had passed the image's\n",
                (unsigned long)seed, (unsigned long)m->executed, (unsigned long)m->pending,
                (unsigned long)m->images, (unsigned long)m->snapshots, (unsigned long)splits,
                (unsigned long)(stats.log_begin >> 20), (unsigned long)(stats.log_tail >> 20),
                (unsigned long)m->resumed_begin);
    SAME(m, m->pending > GENERATIONS * ROUNDS / 8);
    SAME(m, m->images > GENERATIONS && m->snapshots > 2);
    if (seed % 2)
        SAME(m, stats.log_begin > 10 * SEGMENT); /* compaction has gone over gaps */
    if (seed % 4 >= 2)
        SAME(m, splits > 0);
    model_close(m);
    free(m);
}

Test(store_recover, every_generation_has_what_the_map_had_at_the_cut, .timeout = 240)
{
    const char *one = getenv("GW_SEED");
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= 8; seed++)
        run_seed(seed);
}
