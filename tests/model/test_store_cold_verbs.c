/* Goal: what is made from an old value, and what is given back of it, is right also when the record
 * must be read from the device first, and so is expiry. While a part of the device is away blind
 * writes go on, nothing else guesses, and no version comes back.
 * How: as test_store_cold.c, with the verbs that look at the old value, values that are kept whole
 * by the model, and a clock of the test's. A failure names the seed; GW_SEED runs one seed alone.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/store.h"
#include "tests/support/ram_device.h"

#define KEYS      3000u
#define BATCH     40u
#define VALUE_MAX 1200u
#define PIECE_MAX 60u
#define VALUE_ALL (VALUE_MAX + 200 * PIECE_MAX)
#define PAGE_BITS 16u
#define LOG_PAGES 10u
#define ROUNDS    2500u
#define WAITING   4096u

struct entry {
    uint8_t key[24];
    uint16_t key_bytes;
    bool live;
    uint8_t kind;
    uint32_t version, older, value_bytes; /* older: some version that it had, and that was held */
    int64_t number;
    uint64_t expiry_ms;
    uint8_t value[VALUE_ALL];
};

struct model {
    struct entry entry[KEYS];
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_ram_device *ram;
    struct gw_rand rand;
    uint64_t seed, executed, pending, given, now_ms;
    bool outages; /* there may be some */
    bool away;    /* there is one */
    uint64_t unseen, refused, mismatched;
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

static void model_open(struct model *m, const struct gw_clock *clock, uint64_t seed)
{
    memset(m, 0, sizeof *m);
    m->seed = seed;
    m->now_ms = 1000000;
    gw_rand_init(&m->rand, seed);
    m->ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                                  .delay_polls_max = 6,
                                                                  .segment_bytes = 4 << PAGE_BITS,
                                                                  .seed = seed});
    struct gw_store_options options = {.log_bytes = LOG_PAGES << PAGE_BITS,
                                       .index_bytes = 1 << 18,
                                       .page_bits = PAGE_BITS,
                                       .hash_seed = seed,
                                       .cold_reads_max = 24,
                                       .clock = clock,
                                       .device = gw_ram_device_face(m->ram)};
    cr_assert_eq(gw_store_open(&options, &m->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(m->store, &m->thread), GW_OK);
    m->room = malloc(1 << 20);
    for (uint32_t i = 0; i < sizeof m->value; i++)
        m->value[i] = (uint8_t)(i * 37 + 11);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        e->key_bytes = i % 3 == 0 ? 8 : i % 3 == 1 ? 17 : 5;
        memset(e->key, (int)(i % 251), e->key_bytes);
        memcpy(e->key, &i, sizeof i);
        if (i % 15 == 1)
            memcpy(e->key + 4, "{t}", 3); /* one slot: chains hold several keys */
    }
}

static void model_close(struct model *m)
{
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
    static const uint8_t verbs[] = {GW_VERB_READ,       GW_VERB_READ,    GW_VERB_UPSERT,
                                    GW_VERB_UPSERT,     GW_VERB_GETSET,  GW_VERB_GETDEL,
                                    GW_VERB_APPEND,     GW_VERB_PREPEND, GW_VERB_TOUCH,
                                    GW_VERB_READ_TOUCH, GW_VERB_ADD,     GW_VERB_INSERT};
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
    uint64_t flags = gw_rand_next(&m->rand);
    if (!piece && flags % 4 == 0)
        op->flags |= GW_OP_COUNTER;
    if (op->verb != GW_VERB_GETDEL && flags % 3 == 0)
        op->flags |= GW_OP_HAS_EXPIRY;
    else if ((op->verb == GW_VERB_UPSERT || op->verb == GW_VERB_GETSET) && flags % 5 < 3)
        op->flags |= GW_OP_KEEP_EXPIRY;
    op->expiry_ms = m->now_ms - 2 + gw_rand_below(&m->rand, 3000);
    if (m->outages && op->verb == GW_VERB_INSERT && flags % 7 < 5) {
        op->verb = GW_VERB_CAS;
        op->expected_version = flags % 7 < 3 ? e->older : e->version;
    }
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
    bool unseen = m->away && op->verb == GW_VERB_UPSERT && !(op->flags & GW_OP_KEEP_EXPIRY) &&
                  op->version != e->version + 1;
    SAME(m, !live || unseen || op->version == e->version + 1);
    SAME(m, !unseen || op->version > e->version);
    m->unseen += unseen;
    if (unseen || e->older == 0 || gw_rand_below(&m->rand, 4) == 0)
        e->older = e->version; /* of an unseen one the last: it must not come back */
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
    if (m->away && op->status == GW_E_UNREACHABLE) {
        SAME(m, op->verb != GW_VERB_UPSERT || (op->flags & GW_OP_KEEP_EXPIRY));
        m->refused++;
        return;
    }
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
    case GW_VERB_CAS:
        SAME(m, live || op->status == GW_NOT_FOUND);
        if (live && op->expected_version == e->version)
            put(m, e, op, number, live);
        else if (live)
            SAME(m, op->status == GW_MISMATCH);
        m->mismatched += op->status == GW_MISMATCH;
        break;
    case GW_VERB_GETSET:
        if (live)
            check_value(m, e, op);
        else
            SAME(m, op->kind == GW_KIND_NONE);
        put(m, e, op, number, live);
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

/* Executes all that waits again, in order, until nothing does. */
static void settle(struct model *m)
{
    for (uint32_t turns = 0; m->waiting; turns++) {
        SAME(m, turns < 100000);
        gw_store_poll(m->thread);
        uint64_t hashes[8];
        while (gw_store_ready(m->thread, hashes, 8) != 0) {}
        static struct gw_op again[WAITING];
        uint32_t n = m->waiting;
        memcpy(again, m->wait, n * sizeof *again);
        m->waiting = 0;
        execute(m, again, n);
    }
}

/* The object store goes away, known to be or not, and with it a part of what is not in memory; or
 * it comes back. */
static void turn_outage(struct model *m)
{
    struct gw_store_stats stats;
    gw_store_stats(m->store, &stats);
    settle(m);
    m->away = !m->away;
    uint64_t from = stats.log_begin, all = stats.log_head - from;
    gw_ram_device_lose(m->ram, gw_addr_of(m->away ? from + gw_rand_below(&m->rand, all + 1) : 0),
                       gw_rand_below(&m->rand, 2) == 0);
}

static void check_all(struct model *m)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        struct gw_op op = {.verb = GW_VERB_READ, .key = m->entry[i].key};
        op.key_bytes = m->entry[i].key_bytes;
        gw_store_hash(m->store, &op);
        execute(m, &op, 1);
        settle(m);
    }
}

static uint64_t compacted; /* with outages */

static void run_seed(uint64_t seed, bool outages)
{
    struct model *m = malloc(sizeof *m);
    struct gw_clock clock = {.wall_ms = model_wall_ms, .ctx = m};
    model_open(m, &clock, seed);
    m->outages = outages;
    for (uint32_t round = 0; round < ROUNDS; round++) {
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
        gw_store_poll(m->thread);
        if (m->waiting > 40 || gw_rand_below(&m->rand, 4) == 0)
            settle(m);
        m->now_ms += gw_rand_below(&m->rand, 8);
        if (outages && gw_rand_below(&m->rand, m->away ? 20 : 60) == 0)
            turn_outage(m);
    }
    if (m->away)
        turn_outage(m);
    settle(m);
    check_all(m);
    if (outages) {
        struct gw_store_stats stats;
        gw_store_stats(m->store, &stats);
        compacted += stats.compacted_bytes;
        SAME(m, m->unseen > 100 && m->refused > 100 && m->mismatched > 100);
    }
    SAME(m, m->pending > ROUNDS / 4);
    SAME(m, m->given > ROUNDS);
    model_close(m);
    free(m);
}

Test(store_cold_verbs, old_values_and_expiry_survive_the_device, .timeout = 120)
{
    const char *one = getenv("GW_SEED");
    if (one) {
        run_seed(strtoull(one, NULL, 10), false);
        return;
    }
    for (uint64_t seed = 1; seed <= 6; seed++)
        run_seed(seed, false);
}

Test(store_cold_verbs, outages_hold_up_no_blind_write_and_nothing_else_guesses, .timeout = 120)
{
    const char *one = getenv("GW_SEED");
    if (one) {
        run_seed(strtoull(one, NULL, 10), true);
        return;
    }
    for (uint64_t seed = 1; seed <= 6; seed++)
        run_seed(seed, true);
    cr_expect_gt(compacted, 0);
}
