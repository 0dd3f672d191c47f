/* Goal: the store answers like a plain map, whatever the sequence of operations.
 * How: seeded random operations in random batches over few keys of many lengths, mirrored in an
 * array; every status, version, kind, value and expiry is compared, and now and then a whole walk.
 * The clock is the test's; the read-only boundary moves, a second thread of the store keeps old
 * views, values grow and shrink.
 * A failure names the seed; GW_SEED runs one seed alone. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/store.h"

#define KEYS      200u
#define BATCH     40u
#define VALUE_MAX 2000u
#define PIECE_MAX 40u /* put before or behind a value by one operation */
#define VALUE_ALL (VALUE_MAX + BATCH * PIECE_MAX) /* what a value may have grown to */

struct entry {
    uint8_t key[300];
    uint16_t key_bytes;
    bool known, live; /* known: a record or tombstone is there */
    uint8_t kind;
    uint32_t version;
    int64_t number;
    uint8_t value[VALUE_ALL];
    uint32_t value_bytes;
    uint64_t expiry_ms; /* 0: none */
    bool seen;
    uint64_t absent_call; /* the call in which it was answered absent: later operations wait */
};

struct model {
    struct entry entry[KEYS];
    struct gw_store *store;
    struct gw_thread *thread, *other;
    struct gw_rand rand;
    uint64_t seed;
    uint32_t floor;
    uint64_t executed, call;
    uint64_t now_ms;
};

#define SAME(m, c, ...)                                                                            \
    cr_assert((c), "seed %lu, op %lu: " #c, (unsigned long)(m)->seed, (unsigned long)(m)->executed)

static void keys_make(struct model *m)
{
    static const uint16_t lengths[] = {1, 7, 8, 8, 8, 9, 15, 16, 17, 40, 300};
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        e->key_bytes = lengths[i % (sizeof lengths / sizeof lengths[0])];
        for (uint32_t b = 0; b < e->key_bytes; b++)
            e->key[b] = (uint8_t)gw_rand_next(&m->rand);
        if (e->key_bytes == 1)
            e->key[0] = (uint8_t)i; /* distinct */
        else if (i % 3 == 0 && e->key_bytes > 7) {
            memcpy(e->key, "{t}", 3); /* one slot, so that chains hold several keys */
        }
    }
}

static struct entry *entry_of(struct model *m, const uint8_t *key)
{
    for (uint32_t i = 0; i < KEYS; i++)
        if (key == m->entry[i].key)
            return &m->entry[i];
    cr_assert_fail("a key of the model");
    return NULL;
}

/* Known, not deleted, not expired. */
static bool is_live(const struct model *m, const struct entry *e)
{
    return e->live && (e->expiry_ms == 0 || e->expiry_ms > m->now_ms);
}

static uint64_t clock_wall_ms(void *ctx)
{
    return ((struct model *)ctx)->now_ms;
}

static uint64_t draw_expiry(struct model *m)
{
    switch (gw_rand_below(&m->rand, 8)) {
    case 0:
        return m->now_ms - gw_rand_below(&m->rand, 100); /* past */
    case 1:
        return UINT64_MAX; /* never */
    default:
        return m->now_ms + 1 + gw_rand_below(&m->rand, 50);
    }
}

static void draw_bounds(struct model *m, struct gw_op *op, uint8_t *value)
{
    int64_t low = (int64_t)gw_rand_next(&m->rand) >> 50,
            high = (int64_t)gw_rand_next(&m->rand) >> 50;
    if (low > high) {
        int64_t other = low;
        low = high;
        high = other;
    }
    memcpy(value, &low, 8);
    memcpy(value + 8, &high, 8);
    op->value_bytes = 16;
}

static void draw(struct model *m, struct gw_op *op, uint8_t *value)
{
    static const uint8_t verbs[] = {GW_VERB_READ,       GW_VERB_READ,   GW_VERB_UPSERT,
                                    GW_VERB_UPSERT,     GW_VERB_DELETE, GW_VERB_ADD,
                                    GW_VERB_ADD,        GW_VERB_CAS,    GW_VERB_INSERT,
                                    GW_VERB_FETCH,      GW_VERB_ARRIVE, GW_VERB_TOUCH,
                                    GW_VERB_READ_TOUCH, GW_VERB_APPEND, GW_VERB_PREPEND,
                                    GW_VERB_GETSET,     GW_VERB_GETDEL};
    struct entry *e = &m->entry[gw_rand_below(&m->rand, KEYS)];
    memset(op, 0, sizeof *op);
    op->verb = verbs[gw_rand_below(&m->rand, sizeof verbs)];
    op->key = e->key;
    op->key_bytes = e->key_bytes;
    uint64_t flags = gw_rand_next(&m->rand);
    op->flags = (flags & 1 ? GW_OP_COUNTER : 0) | (flags & 2 ? GW_OP_HAS_INITIAL : 0) |
                (flags % 8 == 4 ? GW_OP_TOMBSTONE : 0) | (flags % 16 == 5 ? GW_OP_UNSETTLED : 0);
    op->delta = (int64_t)gw_rand_next(&m->rand);
    if (flags & 64)
        op->delta >>= 50; /* else most overflow */
    op->initial = (int64_t)gw_rand_next(&m->rand) >> gw_rand_below(&m->rand, 64);
    op->number = (int64_t)gw_rand_next(&m->rand) >> gw_rand_below(&m->rand, 64);
    op->expected_version = gw_rand_below(&m->rand, 3) ? e->version : e->version + 1;
    op->value = value;
    op->value_bytes = (uint32_t)gw_rand_below(&m->rand, flags & 32 ? 40 : VALUE_MAX);
    if (op->verb == GW_VERB_APPEND || op->verb == GW_VERB_PREPEND) {
        op->value_bytes = (uint32_t)gw_rand_below(&m->rand, PIECE_MAX + 1);
        if (e->value_bytes > VALUE_MAX)
            op->verb = GW_VERB_READ;
    }
    for (uint32_t i = 0; i < op->value_bytes; i++)
        value[i] = (uint8_t)(flags >> 8) + (uint8_t)i;
    uint64_t more = gw_rand_next(&m->rand);
    if (more % 3 == 0)
        op->flags |= GW_OP_HAS_EXPIRY;
    if (more % 5 == 0 && op->verb != GW_VERB_TOUCH && op->verb != GW_VERB_READ_TOUCH)
        op->flags |= GW_OP_KEEP_EXPIRY;
    op->expiry_ms = draw_expiry(m);
    if (more & 256)
        op->flags |= GW_OP_CLAMP; /* or MUST_EXIST */
    if (op->verb == GW_VERB_ADD && more % 7 < 3) {
        op->flags |= GW_OP_BOUNDED;
        draw_bounds(m, op, value);
    }
    gw_store_hash(m->store, op);
}

/* The key's expiry after a successful change; `live`: before it. */
static void set_expiry(struct model *m, struct entry *e, const struct gw_op *op, bool live,
                       bool keeps)
{
    if (op->flags & GW_OP_HAS_EXPIRY) {
        e->expiry_ms = op->expiry_ms == UINT64_MAX ? 0 : op->expiry_ms;
        if (op->expiry_ms <= m->now_ms)
            e->live = false; /* a tombstone: the time may go on as it likes */
        return;
    }
    keeps |= (op->flags & GW_OP_KEEP_EXPIRY) != 0;
    e->expiry_ms = keeps && live ? e->expiry_ms : 0;
}

static void set_value(struct model *m, struct entry *e, const struct gw_op *op, int64_t number_in,
                      bool live)
{
    e->known = e->live = true;
    e->kind = op->flags & GW_OP_COUNTER ? GW_KIND_COUNTER : GW_KIND_BYTES;
    e->number = number_in;
    e->value_bytes = op->value_bytes;
    memcpy(e->value, op->value, op->value_bytes);
    set_expiry(m, e, op, live, false);
}

/* A version that the model cannot foretell: the first of a new key. */
static void version_next(struct model *m, struct entry *e, bool was_known, const struct gw_op *op)
{
    if (was_known)
        SAME(m, op->version == e->version + 1);
    else
        SAME(m, op->version > m->floor);
    e->version = op->version;
}

static void compare_value(struct model *m, const struct entry *e, const struct gw_op *op)
{
    SAME(m, op->kind == e->kind);
    if (e->kind == GW_KIND_COUNTER) {
        SAME(m, op->number == e->number);
    } else {
        SAME(m, op->out_bytes == e->value_bytes);
        SAME(m, memcmp(op->out, e->value, e->value_bytes) == 0);
    }
}

static void compare_read(struct model *m, const struct entry *e, const struct gw_op *op)
{
    SAME(m, op->status == GW_OK);
    SAME(m, op->version == e->version);
    SAME(m, op->expiry_ms == e->expiry_ms);
    compare_value(m, e, op);
}

static void compare_add(struct model *m, struct entry *e, const struct gw_op *op, bool live)
{
    int64_t base = live ? e->number : (op->flags & GW_OP_HAS_INITIAL) ? op->initial : 0;
    __int128 sum = (__int128)base + op->delta;
    int64_t low = INT64_MIN, high = INT64_MAX;
    if (op->flags & GW_OP_BOUNDED) {
        memcpy(&low, op->value, 8);
        memcpy(&high, op->value + 8, 8);
    }
    if (live && e->kind != GW_KIND_COUNTER) {
        SAME(m, op->status == GW_WRONG_TYPE);
        return;
    }
    if ((op->flags & GW_OP_BOUNDED) && (op->flags & GW_OP_CLAMP))
        sum = sum < low ? low : sum > high ? high : sum;
    if (sum < low || sum > high) {
        SAME(m, op->status == GW_OVERFLOW);
        return;
    }
    SAME(m, op->status == GW_OK);
    SAME(m, op->number == (int64_t)sum);
    version_next(m, e, e->known, op);
    e->known = e->live = true;
    e->kind = GW_KIND_COUNTER;
    e->number = (int64_t)sum;
    set_expiry(m, e, op, live, true);
}

static void compare_piece(struct model *m, struct entry *e, const struct gw_op *op, bool live)
{
    if (!live && (op->flags & GW_OP_MUST_EXIST)) {
        SAME(m, op->status == GW_NOT_FOUND);
        return;
    }
    if (live && e->kind != GW_KIND_BYTES) {
        SAME(m, op->status == GW_WRONG_TYPE);
        return;
    }
    SAME(m, op->status == GW_OK);
    version_next(m, e, e->known, op);
    if (!live)
        e->value_bytes = 0;
    uint8_t whole[VALUE_ALL];
    bool behind = op->verb == GW_VERB_APPEND;
    memcpy(whole + (behind ? 0 : op->value_bytes), e->value, e->value_bytes);
    memcpy(whole + (behind ? e->value_bytes : 0), op->value, op->value_bytes);
    e->value_bytes += op->value_bytes;
    memcpy(e->value, whole, e->value_bytes);
    e->known = e->live = true;
    e->kind = GW_KIND_BYTES;
    set_expiry(m, e, op, live, true);
    SAME(m, !e->live || op->out_bytes == e->value_bytes);
}

static void compare_getset(struct model *m, struct entry *e, const struct gw_op *op,
                           int64_t number_in, bool live)
{
    SAME(m, op->status == GW_OK);
    version_next(m, e, e->known, op);
    if (live)
        compare_value(m, e, op);
    else
        SAME(m, op->kind == GW_KIND_NONE);
    set_value(m, e, op, number_in, live);
}

static void compare_touch(struct model *m, struct entry *e, const struct gw_op *op, bool live)
{
    SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
    if (!live)
        return;
    version_next(m, e, true, op);
    if (op->verb == GW_VERB_READ_TOUCH)
        compare_value(m, e, op);
    set_expiry(m, e, op, live, false);
}

/* Applies one operation to the model and compares; number_in: op->number before it ran. */
static void compare(struct model *m, const struct gw_op *op, int64_t number_in)
{
    struct entry *e = entry_of(m, op->key);
    bool known = e->known, live = is_live(m, e);
    m->executed++;
    bool behind = e->absent_call == m->call || (!known && (op->flags & GW_OP_UNSETTLED));
    if (behind && op->verb != GW_VERB_ARRIVE) {
        e->absent_call = m->call;
        SAME(m, op->status == GW_ABSENT);
        return;
    }
    switch (op->verb) {
    case GW_VERB_READ:
        if (live)
            compare_read(m, e, op);
        else
            SAME(m, op->status == GW_NOT_FOUND);
        break;
    case GW_VERB_FETCH:
        if (live)
            compare_read(m, e, op);
        else
            SAME(m, op->status == (known ? GW_TOMBSTONE : GW_NOT_FOUND));
        if (known)
            SAME(m, op->version == e->version);
        break;
    case GW_VERB_DELETE:
    case GW_VERB_GETDEL:
        SAME(m, op->status == (live ? GW_OK : GW_NOT_FOUND));
        if (!live)
            break;
        if (op->verb == GW_VERB_GETDEL)
            compare_value(m, e, op);
        version_next(m, e, true, op);
        e->live = false;
        break;
    case GW_VERB_ADD:
        compare_add(m, e, op, live);
        break;
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
        compare_piece(m, e, op, live);
        break;
    case GW_VERB_GETSET:
        compare_getset(m, e, op, number_in, live);
        break;
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        compare_touch(m, e, op, live);
        break;
    case GW_VERB_CAS:
        if (!live) {
            SAME(m, op->status == GW_NOT_FOUND);
        } else if (op->expected_version != e->version) {
            SAME(m, op->status == GW_MISMATCH);
            SAME(m, op->version == e->version);
        } else {
            SAME(m, op->status == GW_OK);
            version_next(m, e, true, op);
            set_value(m, e, op, number_in, live);
        }
        break;
    case GW_VERB_INSERT:
        if (live) {
            SAME(m, op->status == GW_EXISTS);
            break;
        }
        /* fallthrough */
    case GW_VERB_UPSERT:
        SAME(m, op->status == GW_OK);
        version_next(m, e, known, op);
        set_value(m, e, op, number_in, live);
        break;
    case GW_VERB_ARRIVE:
        if (known) {
            SAME(m, op->status == GW_EXISTS);
        } else {
            SAME(m, op->status == GW_OK);
            SAME(m, op->version == op->expected_version);
            set_value(m, e, op, number_in, live);
            e->version = op->expected_version;
            if (op->flags & GW_OP_TOMBSTONE)
                e->live = false;
        }
        break;
    }
}

static bool walk_view(void *ctx, const struct gw_record_view *view)
{
    struct model *m = ctx;
    for (uint32_t i = 0; i < KEYS; i++) {
        struct entry *e = &m->entry[i];
        if (view->key_bytes != e->key_bytes || memcmp(view->key, e->key, e->key_bytes) != 0)
            continue;
        SAME(m, e->known && !e->seen);
        e->seen = true;
        bool live = is_live(m, e);
        SAME(m, view->version == e->version && view->tombstone == !live);
        if (live)
            SAME(m, view->expiry_ms == e->expiry_ms);
        if (live && e->kind == GW_KIND_COUNTER)
            SAME(m, view->number == e->number);
        if (live && e->kind == GW_KIND_BYTES)
            SAME(m, view->value_bytes == e->value_bytes &&
                        memcmp(view->value, e->value, e->value_bytes) == 0);
        return true;
    }
    cr_assert_fail("seed %lu: a key that nobody wrote", (unsigned long)m->seed);
    return false;
}

static void walk(struct model *m)
{
    struct gw_cursor cursor = {0};
    for (uint32_t i = 0; i < KEYS; i++)
        m->entry[i].seen = false;
    gw_store_enter(m->thread);
    while (!cursor.done)
        gw_store_walk(m->thread, &cursor, UINT64_MAX, NULL, true, 100, walk_view, m);
    gw_store_exit(m->thread);
    for (uint32_t i = 0; i < KEYS; i++)
        SAME(m, m->entry[i].seen == m->entry[i].known);
}

static void run_seed(uint64_t seed, uint64_t log_start)
{
    struct model *m = calloc(1, sizeof *m);
    m->seed = seed;
    gw_rand_init(&m->rand, seed);
    m->now_ms = 1000000;
    struct gw_clock clock = {.wall_ms = clock_wall_ms, .ctx = m};
    struct gw_store_options options = {.log_bytes = 32u << 20,
                                       .index_bytes = 65536,
                                       .page_bits = 19,
                                       .hash_seed = seed,
                                       .log_start = log_start,
                                       .clock = &clock};
    cr_assert_eq(gw_store_open(&options, &m->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(m->store, &m->thread), GW_OK);
    cr_assert_eq(gw_store_thread_open(m->store, &m->other), GW_OK);
    keys_make(m);
    static uint8_t values[BATCH][VALUE_MAX], room[BATCH * (VALUE_ALL + 8)];
    bool other_inside = false;
    for (uint32_t turn = 0; turn < 400; turn++) {
        struct gw_op ops[BATCH];
        int64_t number_in[BATCH];
        uint32_t n = 1 + (uint32_t)gw_rand_below(&m->rand, BATCH);
        for (uint32_t i = 0; i < n; i++) {
            draw(m, &ops[i], values[i]);
            number_in[i] = ops[i].number;
        }
        /* The model is asked for expected versions before the batch: some CAS miss on purpose. */
        size_t used, room_bytes = gw_rand_below(&m->rand, 4) ? sizeof room : VALUE_ALL;
        for (uint32_t done = 0; done < n;) {
            gw_store_enter(m->thread);
            uint32_t now =
                gw_store_execute(m->thread, ops + done, n - done, room, room_bytes, &used);
            gw_store_exit(m->thread);
            m->call++;
            SAME(m, now > 0);
            SAME(m, used <= room_bytes);
            for (uint32_t i = done; i < done + now; i++)
                compare(m, &ops[i], number_in[i]);
            done += now;
        }
        uint64_t draw_now = gw_rand_below(&m->rand, 16);
        if (draw_now == 0) {
            cr_assert_eq(gw_store_shift_read_only(m->store), GW_OK);
        } else if (draw_now == 1) {
            /* The other thread holds the boundaries back, in the fuzzy state, for some turns. */
            if (other_inside)
                gw_store_exit(m->other);
            else
                gw_store_enter(m->other);
            other_inside = !other_inside;
        } else if (draw_now == 2) {
            walk(m);
        } else if (draw_now == 3) {
            m->floor = gw_store_version_highest(m->store);
            gw_store_version_floor(m->store, m->floor);
            if (m->floor > UINT32_MAX - 100000)
                m->floor = 0; /* an arrived version came near the end: floors wrap to nothing */
        }
        gw_store_poll(m->thread);
        if (gw_rand_below(&m->rand, 3) == 0)
            m->now_ms += gw_rand_below(&m->rand, 20);
    }
    walk(m);
    if (other_inside)
        gw_store_exit(m->other);
    gw_store_thread_close(m->thread);
    gw_store_thread_close(m->other);
    gw_store_close(m->store);
    free(m);
}

Test(store_map, answers_like_a_plain_map)
{
    const char *one = getenv("GW_SEED");
    if (one) {
        run_seed(strtoull(one, NULL, 10), 0);
        return;
    }
    for (uint64_t seed = 1; seed <= 120; seed++)
        run_seed(seed, seed % 2 ? 0 : ((uint64_t)1 << 46) - ((uint64_t)1 << 21));
}
