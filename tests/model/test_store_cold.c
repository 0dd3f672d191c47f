/* Goal: a store whose data is several times its memory answers like a plain map.
 * How: seeded random operations in random batches over keys of many lengths and values up to a
 * third of a page, with a device whose completions come late and out of order; what is answered
 * GW_PENDING is executed again when its hash is named. Every status, version and value is compared
 * when it is answered, in the order in which the engine let them take effect, and now and then a
 * whole walk. A failure names the seed; GW_SEED runs one seed alone. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "tests/support/ram_device.h"

#define KEYS      9000u
#define BATCH     60u
#define VALUE_MAX 3000u
#define PAGE_BITS 16u
#define LOG_PAGES 10u
#define ROUNDS    6000u
#define WAITING   4096u

struct entry {
    uint8_t key[80];
    uint16_t key_bytes;
    bool known, live, counter, seen;
    uint32_t version, value_bytes, fill;
    int64_t number;
};

struct model {
    struct entry entry[KEYS];
    struct gw_store *store;
    struct gw_thread *thread, *other;
    struct gw_ram_device *ram;
    struct gw_rand rand;
    uint64_t seed, executed, pending;
    uint8_t *room;
    uint8_t value[VALUE_MAX * 2];
    uint32_t waiting;
    struct gw_op wait[WAITING]; /* in the order of issue */
};

#define SAME(m, c)                                                                                 \
    cr_assert((c), "seed %lu, op %lu: " #c, (unsigned long)(m)->seed, (unsigned long)(m)->executed)

/* Values say whose they are: the n-th byte of a value is fill + n. */
static void value_make(uint8_t *to, uint32_t fill, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(fill + i);
}

static void model_open(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    m->seed = seed;
    gw_rand_init(&m->rand, seed);
    /* Seeds take turns: a bounded device that compaction keeps empty, an index that grows. */
    m->ram = gw_ram_device_create(
        &(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                        .delay_polls_max = 6,
                                        .segment_bytes = 4 << PAGE_BITS,
                                        .limit_bytes = seed % 2 ? 56 * (4ull << PAGE_BITS) : 0,
                                        .seed = seed});
    bool grows = seed % 4 >= 2;
    struct gw_store_options options = {.log_bytes = (LOG_PAGES + (grows ? 6u : 0u)) << PAGE_BITS,
                                       .index_bytes = grows ? 1 << 16 : 1 << 18,
                                       .index_bytes_max = grows ? 1 << 19 : 0,
                                       .page_bits = PAGE_BITS,
                                       .hash_seed = seed,
                                       .cold_reads_max = 24,
                                       .device = gw_ram_device_face(m->ram)};
    cr_assert_eq(gw_store_open(&options, &m->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(m->store, &m->thread), GW_OK);
    cr_assert_eq(gw_store_thread_open(m->store, &m->other), GW_OK);
    m->room = malloc(1 << 20);
    static const uint16_t lengths[] = {4, 7, 8, 8, 8, 9, 15, 16, 17, 40, 80};
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        e->key_bytes = lengths[i % (sizeof lengths / sizeof lengths[0])];
        memset(e->key, (int)(i % 251), e->key_bytes);
        memcpy(e->key, &i, sizeof i);
        if (i % 5 == 0 && e->key_bytes > 7)
            memcpy(e->key + 4, "{t}", 3); /* one slot: chains hold several keys */
    }
}

static void model_close(struct model *m)
{
    gw_store_thread_close(m->thread);
    gw_store_thread_close(m->other);
    gw_store_close(m->store);
    gw_ram_device_destroy(m->ram);
    free(m->room);
}

static void draw(struct model *m, struct gw_op *op)
{
    static const uint8_t verbs[] = {GW_VERB_READ, GW_VERB_READ,   GW_VERB_UPSERT, GW_VERB_UPSERT,
                                    GW_VERB_ADD,  GW_VERB_DELETE, GW_VERB_INSERT, GW_VERB_CAS};
    struct entry *e = &m->entry[gw_rand_below(&m->rand, KEYS)];
    memset(op, 0, sizeof *op);
    op->verb = verbs[gw_rand_below(&m->rand, sizeof verbs)];
    op->key = e->key;
    op->key_bytes = e->key_bytes;
    op->delta = (int64_t)gw_rand_below(&m->rand, 1000);
    op->flags = gw_rand_below(&m->rand, 3) == 0 ? GW_OP_COUNTER : 0;
    op->number = (int64_t)gw_rand_below(&m->rand, 1000);
    op->value_bytes =
        (uint32_t)gw_rand_below(&m->rand, gw_rand_below(&m->rand, 4) ? 200 : VALUE_MAX);
    op->expected_version = e->version;
    op->value = m->value + gw_rand_below(&m->rand, 256);
    gw_store_hash(m->store, op);
}

static struct entry *entry_of(struct model *m, const struct gw_op *op)
{
    uint32_t i;
    memcpy(&i, op->key, sizeof i);
    return &m->entry[i];
}

static void set(struct model *m, struct entry *e, const struct gw_op *op)
{
    /* Compaction may have dropped the tombstone of a deleted key: then it begins anew. */
    SAME(m, !e->live || op->version == e->version + 1);
    e->version = op->version;
    e->known = e->live = true;
    e->counter = op->verb == GW_VERB_ADD || (op->flags & GW_OP_COUNTER);
    e->number = op->number;
    e->fill = (uint32_t)(op->value - m->value);
    e->value_bytes = op->value_bytes;
}

static void check_value(struct model *m, const struct entry *e, uint8_t kind, int64_t number,
                        const uint8_t *value, uint32_t bytes)
{
    SAME(m, (kind == GW_KIND_COUNTER) == e->counter);
    if (e->counter) {
        SAME(m, number == e->number);
        return;
    }
    SAME(m, bytes == e->value_bytes);
    for (uint32_t i = 0; i < bytes; i++)
        SAME(m, value[i] == (uint8_t)(e->fill + i));
}

static void compare(struct model *m, const struct gw_op *op)
{
    struct entry *e = entry_of(m, op);
    m->executed++;
    switch (op->verb) {
    case GW_VERB_READ:
        SAME(m, op->status == (e->live ? GW_OK : GW_NOT_FOUND));
        if (e->live) {
            SAME(m, op->version == e->version);
            check_value(m, e, op->kind, op->number, op->out, op->out_bytes);
        }
        break;
    case GW_VERB_UPSERT:
        SAME(m, op->status == GW_OK);
        set(m, e, op);
        break;
    case GW_VERB_INSERT:
        SAME(m, op->status == (e->live ? GW_EXISTS : GW_OK));
        if (!e->live)
            set(m, e, op);
        break;
    case GW_VERB_CAS:
        if (!e->live) {
            SAME(m, op->status == GW_NOT_FOUND);
        } else if (op->expected_version != e->version) {
            SAME(m, op->status == GW_MISMATCH);
        } else {
            SAME(m, op->status == GW_OK);
            set(m, e, op);
        }
        break;
    case GW_VERB_DELETE:
        SAME(m, op->status == (e->live ? GW_OK : GW_NOT_FOUND));
        if (e->live) {
            SAME(m, op->version == e->version + 1);
            e->version++;
            e->live = false;
        }
        break;
    default:
        if (e->live && !e->counter) {
            SAME(m, op->status == GW_WRONG_TYPE);
        } else {
            SAME(m, op->status == GW_OK);
            SAME(m, op->number == (e->live ? e->number : 0) + op->delta);
            set(m, e, op);
        }
        break;
    }
}

/* Executes ops[0..n) and compares what was answered; the rest goes to m->wait, in order. */
static void execute(struct model *m, struct gw_op *ops, uint32_t n)
{
    size_t used;
    gw_store_enter(m->thread);
    uint32_t done = gw_store_execute(m->thread, ops, n, m->room, 1 << 20, &used);
    gw_store_exit(m->thread);
    SAME(m, done == n);
    for (uint32_t i = 0; i < n; i++) {
        if (ops[i].status == GW_PENDING || ops[i].status == GW_RETRY) {
            m->pending += ops[i].status == GW_PENDING;
            SAME(m, m->waiting < WAITING);
            m->wait[m->waiting++] = ops[i];
        } else {
            compare(m, &ops[i]);
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

static void turn(struct model *m)
{
    gw_store_poll(m->thread);
    if (gw_rand_below(&m->rand, 3) == 0)
        gw_store_poll(m->other);
    uint64_t hashes[8];
    while (gw_store_ready(m->thread, hashes, 8) != 0) {}
}

/* Executes all that waits again, in order, until nothing does. */
static void settle(struct model *m)
{
    for (uint32_t turns = 0; m->waiting; turns++) {
        SAME(m, turns < 100000);
        turn(m);
        static struct gw_op again[WAITING];
        uint32_t n = m->waiting;
        memcpy(again, m->wait, n * sizeof *again);
        m->waiting = 0;
        execute(m, again, n);
    }
}

static bool visit(void *ctx, const struct gw_record_view *view)
{
    struct model *m = ctx;
    uint32_t i;
    memcpy(&i, view->key, sizeof i);
    struct entry *e = &m->entry[i];
    SAME(m, e->live && view->version == e->version && !view->tombstone);
    check_value(m, e, view->kind, view->number, view->value, view->value_bytes);
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
        turn(m);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        SAME(m, m->entry[i].seen == m->entry[i].live);
}

static void run_seed(struct model *m, uint64_t seed)
{
    model_open(m, seed);
    value_make(m->value, 0, sizeof m->value);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct gw_op ops[BATCH];
        uint32_t n = 0, want = 1 + (uint32_t)gw_rand_below(&m->rand, BATCH);
        while (n < want) {
            draw(m, &ops[n]);
            n += !waits(m, ops[n].hash); /* the caller keeps later ones behind */
        }
        execute(m, ops, n);
        turn(m);
        if (m->waiting > 200 || gw_rand_below(&m->rand, 50) == 0)
            settle(m);
        if (round % 1000 == 999) {
            settle(m);
            walk(m);
        }
    }
    settle(m);
    struct gw_store_stats stats;
    gw_store_stats(m->store, &stats);
    cr_log_info("seed %lu: %lu ops, %lu pending, %lu promoted, %lu splits, log %lu to %lu MiB\n",
                (unsigned long)seed, (unsigned long)m->executed, (unsigned long)m->pending,
                (unsigned long)stats.promoted, (unsigned long)stats.index_splits,
                (unsigned long)(stats.log_begin >> 20), (unsigned long)(stats.log_tail >> 20));
    if (seed % 2)
        cr_expect_gt(stats.log_begin, (uint64_t)4 << 20, "compaction has run");
    if (seed % 4 >= 2)
        cr_expect_gt(stats.index_splits, 0, "the index has grown");
    cr_expect_gt(m->pending, 1000, "most of the data is on the device");
    cr_expect_gt(stats.log_head, (uint64_t)8 * LOG_PAGES << PAGE_BITS);
    cr_expect_eq(stats.corrupt, 0);
    model_close(m);
}

Test(store_cold, answers_like_a_map, .timeout = 120)
{
    struct model *m = malloc(sizeof *m);
    const char *only = getenv("GW_SEED");
    uint64_t first = only ? strtoull(only, NULL, 0) : 1, last = only ? first : 4;
    for (uint64_t seed = first; seed <= last; seed++)
        run_seed(m, seed);
    free(m);
}
