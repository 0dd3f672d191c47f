/* Goal: appends, prepends, get-and-set, touches and expiry lose nothing and tear nothing while
 * records are changed in place, sealed and copied by all threads at once.
 * How: three games, each with an invariant that any lost or torn change breaks.
 *   lines   every thread puts lines of its own with rising numbers before and behind shared texts;
 *           a reader sees whole lines, each thread's numbers without a gap
 *   tokens  one token a key is passed on by get-and-set, taken by get-and-delete and given back by
 *           insert: at the end every token is there exactly once
 *   moments a counter that expires again and again: within one life it counts from one up
 * The read-only boundary keeps moving. */
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "tests/torture/torture.h"

#define THREADS    4u
#define TEXTS      4u
#define LINE_BYTES 12u /* thread 4, number 4, check 4 */
#define LINES_MAX  60u
#define TOKEN_KEYS 8u
#define MOMENTS    4u
#define MOMENT_MS  20u
#define ROOM_BYTES 65536u

static struct gw_store *store;
static _Atomic uint32_t stop;
static _Atomic uint64_t lines_read, tokens_passed, lives, retries;
static char text_key[TEXTS][32], token_key[TOKEN_KEYS][8], moment_key[MOMENTS][8];

struct worker {
    struct gw_thread *thread;
    struct gw_rand rand;
    uint32_t number;
    uint8_t room[ROOM_BYTES];
    uint64_t hand; /* the token that this thread holds */
};

/* Executes until it is not busy. */
static enum gw_status run(struct worker *w, struct gw_op *op)
{
    gw_store_hash(store, op);
    for (;;) {
        size_t used;
        gw_store_poll(w->thread);
        gw_store_enter(w->thread);
        gw_store_execute(w->thread, op, 1, w->room, sizeof w->room, &used);
        gw_store_exit(w->thread);
        if (op->status != GW_RETRY)
            return (enum gw_status)op->status;
        atomic_fetch_add_explicit(&retries, 1, memory_order_relaxed);
    }
}

static struct gw_op op_of(uint8_t verb, const char *key, size_t key_bytes)
{
    return (
        struct gw_op){.verb = verb, .key = (const uint8_t *)key, .key_bytes = (uint16_t)key_bytes};
}

/* ---- lines ---- */

struct line {
    uint32_t thread, number, check;
};

static uint32_t check_of(uint32_t thread, uint32_t number)
{
    return (thread * 2654435761u) ^ (number * 40503u) ^ 0x5bd1e995u;
}

/* One's own lines stand in the order in which they were put: those before the text fall, those
 * behind it rise, and all of them are there. The text is ended when it is long, by get-and-delete,
 * which gives all of it to exactly one thread. */
static void lines_check(const uint8_t *text, uint32_t bytes)
{
    CHECK(bytes % LINE_BYTES == 0, "a torn text of %u bytes", bytes);
    uint32_t n = bytes / LINE_BYTES, low[THREADS], high[THREADS], count[THREADS];
    memset(count, 0, sizeof count);
    for (uint32_t i = 0; i < n; i++) {
        struct line line;
        memcpy(&line, text + i * LINE_BYTES, sizeof line);
        CHECK(line.thread < THREADS && line.check == check_of(line.thread, line.number),
              "line %u of %u is torn", i, n);
        uint32_t t = line.thread;
        low[t] = count[t] == 0 || line.number < low[t] ? line.number : low[t];
        high[t] = count[t] == 0 || line.number > high[t] ? line.number : high[t];
        count[t]++;
    }
    for (uint32_t t = 0; t < THREADS; t++)
        CHECK(count[t] == 0 || high[t] - low[t] + 1 == count[t], "thread %u: %u lines of %u..%u", t,
              count[t], low[t], high[t]);
    atomic_fetch_add_explicit(&lines_read, n, memory_order_relaxed);
}

static void play_lines(struct worker *w, uint32_t *next)
{
    uint32_t which = (uint32_t)gw_rand_below(&w->rand, TEXTS);
    const char *key = text_key[which];
    struct line line = {w->number, next[which], check_of(w->number, next[which])};
    bool behind = gw_rand_below(&w->rand, 4) != 0;
    struct gw_op op = op_of(behind ? GW_VERB_APPEND : GW_VERB_PREPEND, key, strlen(key));
    op.value = (const uint8_t *)&line;
    op.value_bytes = sizeof line;
    enum gw_status st = run(w, &op);
    CHECK(st == GW_OK || st == GW_E_FULL, "append: %d", st);
    next[which] += st == GW_OK;
    bool end = st == GW_OK && op.out_bytes > LINES_MAX * LINE_BYTES;
    op = op_of(end ? GW_VERB_GETDEL : GW_VERB_READ, key, strlen(key));
    st = run(w, &op);
    CHECK(st == GW_OK || st == GW_NOT_FOUND || st == GW_E_FULL, "read: %d", st);
    if (st == GW_OK)
        lines_check(op.out, op.out_bytes);
}

/* ---- tokens ---- */

static _Atomic uint64_t tokens_sum; /* of those in the hands of threads that have ended */

static void play_tokens(struct worker *w)
{
    const char *key = token_key[gw_rand_below(&w->rand, TOKEN_KEYS)];
    struct gw_op op;
    if (w->hand != 0 && gw_rand_below(&w->rand, 3)) {
        op = op_of(GW_VERB_GETSET, key, 8);
        op.flags = gw_rand_below(&w->rand, 2) ? GW_OP_COUNTER : 0;
    } else if (w->hand != 0) {
        op = op_of(GW_VERB_INSERT, key, 8);
    } else {
        op = op_of(GW_VERB_GETDEL, key, 8);
    }
    uint8_t value[64];
    memset(value, 0, sizeof value);
    memcpy(value, &w->hand, 8);
    op.value = value;
    op.value_bytes = 8 + (uint32_t)gw_rand_below(&w->rand, 56); /* in place or by copy */
    op.number = (int64_t)w->hand;
    enum gw_status st = run(w, &op);
    if (st == GW_EXISTS || st == GW_NOT_FOUND || st == GW_E_FULL)
        return;
    CHECK(st == GW_OK, "verb %u: %d", op.verb, st);
    uint64_t got = 0;
    if (op.verb != GW_VERB_INSERT && op.kind == GW_KIND_COUNTER)
        got = (uint64_t)op.number;
    else if (op.verb != GW_VERB_INSERT && op.kind == GW_KIND_BYTES)
        memcpy(&got, op.out, 8);
    w->hand = got;
    atomic_fetch_add_explicit(&tokens_passed, 1, memory_order_relaxed);
}

/* ---- moments ---- */

/* Who begins a counter's life touches it, so that it ends; others put the end off now and then. */
static void play_moments(struct worker *w)
{
    const char *key = moment_key[gw_rand_below(&w->rand, MOMENTS)];
    uint64_t now_ms = gw_clock_wall_ms(gw_clock_system());
    struct gw_op op = op_of(GW_VERB_ADD, key, 8);
    op.delta = 1;
    enum gw_status st = run(w, &op);
    CHECK(st == GW_OK || st == GW_E_FULL, "add: %d", st);
    if (st != GW_OK)
        return;
    CHECK(op.number >= 1, "a life begins at one, this one at %ld", (long)op.number);
    uint32_t version = op.version;
    if (op.number == 1 || gw_rand_below(&w->rand, 64) == 0) {
        struct gw_op touch = op_of(GW_VERB_TOUCH, key, 8);
        touch.flags = GW_OP_HAS_EXPIRY;
        touch.expiry_ms = now_ms + 1 + gw_rand_below(&w->rand, MOMENT_MS);
        st = run(w, &touch);
        CHECK(st == GW_OK || st == GW_NOT_FOUND || st == GW_E_FULL, "touch: %d", st);
        if (st == GW_OK)
            CHECK(touch.version > version, "versions rise: %u after %u", touch.version, version);
    }
    atomic_fetch_add_explicit(&lives, op.number == 1, memory_order_relaxed);
}

static void shifter(struct worker *w)
{
    uint64_t end = torture_now_ms() + torture_duration_ms();
    uint32_t next[TEXTS] = {0}, shifts = 0;
    while (torture_now_ms() < end) {
        for (uint32_t i = 0; i < 50; i++) {
            play_lines(w, next);
            play_moments(w);
        }
        struct gw_store_stats stats;
        gw_store_stats(store, &stats);
        if (stats.log_bytes_used < stats.log_bytes_total / 2)
            shifts += gw_store_shift_read_only(store) == GW_OK;
    }
    CHECK(shifts > 0, "the boundary never moved");
    atomic_store(&stop, 1);
}

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w != NULL, "memory");
    w->number = number;
    gw_rand_init(&w->rand, number + 77);
    CHECK(gw_store_thread_open(store, &w->thread) == GW_OK, "thread");
    uint32_t next[TEXTS] = {0};
    if (number == 0) {
        shifter(w);
    } else {
        while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
            play_lines(w, next);
            play_tokens(w);
            play_moments(w);
        }
    }
    atomic_fetch_add(&tokens_sum, w->hand ? (uint64_t)1 << (8 * (w->hand - 1)) : 0);
    gw_store_thread_close(w->thread);
    free(w);
}

int main(void)
{
    struct gw_store_options options = {.log_bytes = 256u << 20,
                                       .index_bytes = 65536,
                                       .page_bits = 19,
                                       .hash_seed = 7};
    CHECK(gw_store_open(&options, &store) == GW_OK, "open");
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w && gw_store_thread_open(store, &w->thread) == GW_OK, "thread");
    for (uint32_t i = 0; i < TEXTS; i++)
        snprintf(text_key[i], sizeof text_key[i], "{t}text%u%.*s", i, (int)(i * 5),
                 "abcdefghijklmno");
    for (uint32_t i = 0; i < MOMENTS; i++)
        memcpy(moment_key[i], &(uint64_t){1000 + i}, 8);
    /* One token in every key, named 1..TOKEN_KEYS; a byte of the sum counts each. */
    for (uint64_t i = 0; i < TOKEN_KEYS; i++) {
        memcpy(token_key[i], &(uint64_t){2000 + i}, 8);
        struct gw_op op = op_of(GW_VERB_UPSERT, token_key[i], 8);
        uint64_t token = i + 1;
        op.value = (const uint8_t *)&token;
        op.value_bytes = 8;
        CHECK(run(w, &op) == GW_OK, "token");
    }
    torture_run(THREADS, body, NULL);

    uint64_t sum = atomic_load(&tokens_sum);
    for (uint32_t i = 0; i < TOKEN_KEYS; i++) {
        struct gw_op op = op_of(GW_VERB_READ, token_key[i], 8);
        if (run(w, &op) != GW_OK)
            continue;
        uint64_t token = (uint64_t)op.number;
        if (op.kind == GW_KIND_BYTES)
            memcpy(&token, op.out, 8);
        CHECK(token >= 1 && token <= TOKEN_KEYS, "token %lu", (unsigned long)token);
        sum += (uint64_t)1 << (8 * (token - 1));
    }
    CHECK(sum == 0x0101010101010101u, "a token was lost or doubled: %lx", (unsigned long)sum);
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    printf(
        "%lu lines read, %lu tokens passed, %lu lives, %lu copies, %lu retries, %lu KiB of log%s\n",
        (unsigned long)atomic_load(&lines_read), (unsigned long)atomic_load(&tokens_passed),
        (unsigned long)atomic_load(&lives), (unsigned long)stats.copies,
        (unsigned long)atomic_load(&retries), (unsigned long)stats.log_bytes_used >> 10,
        stats.full ? ", full" : "");
    CHECK(atomic_load(&lives) > MOMENTS && stats.copies > 100, "too little happened");
    gw_store_thread_close(w->thread);
    gw_store_close(store);
    free(w);
    return 0;
}
