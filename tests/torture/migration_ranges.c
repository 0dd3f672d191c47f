/* Goal: a range that several threads ship, and several threads take in while they serve it, loses
 * and doubles nothing: every counter ends as what it was plus what was added (MIGRATION R5, R7,
 * R10, R12). How: two stores in one process, three threads on each; frames go from thread to thread
 * through short queues, pulls and their answers likewise. Some keys are absent at the source, some
 * deleted. Every other round the source has a device and little memory, and no shared tier: what
 * lies there goes page by page. Where a server has networks and parks, a thread here simply asks
 * again. */
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "tests/support/ram_device.h"
#include "tests/torture/torture.h"

#define SIDE       3u /* threads of each store */
#define KEYS       4000u
#define FILLERS    3000u /* of the source, behind the keys: more than its memory */
#define CHUNK_BITS 5u
#define QUEUE      4u
#define FRAME      4096u
#define SEED       99u
#define TRIES_MAX  100000000u

struct frame {
    uint8_t bytes[FRAME];
    size_t size; /* 0: none */
};

/* From one thread of the source to one of the target, and back. */
struct lane {
    pthread_mutex_t lock;
    struct frame chunk[QUEUE];
    uint32_t first, count;
    struct frame pull, answer;
};

static struct gw_store *from, *to;
static struct gw_outgoing *out;
static struct gw_incoming *in;
static struct lane lanes[SIDE];
static uint8_t keys[KEYS][16];
static _Atomic int64_t added[KEYS];
static _Atomic uint32_t serving;     /* threads of the target that are not done */
static struct gw_ram_device *device; /* of the source; NULL: it has none */
static _Atomic uint64_t pages_all;   /* frames of pages */
static uint64_t rounds, pulls_all, adds_all;

static int64_t initial(uint32_t key)
{
    return key % 2 ? 0 : key % 8 == 6 ? 0 : 1000 + (int64_t)key;
}

static struct gw_op op_of(struct gw_store *store, uint32_t key, uint8_t verb)
{
    struct gw_op op = {.key = keys[key], .key_bytes = sizeof keys[0], .verb = verb};
    gw_store_hash(store, &op);
    return op;
}

static void execute(struct gw_thread *t, struct gw_op *op)
{
    size_t used;
    uint64_t room[64], hashes[16];
    do {
        gw_store_enter(t);
        gw_store_execute(t, op, 1, (uint8_t *)room, sizeof room, &used);
        gw_store_exit(t);
        gw_store_poll(t);
        while (gw_store_ready(t, hashes, 16) != 0) {}
    } while (op->status == GW_PENDING || (device && op->status == GW_E_FULL));
}

/* ---- the source ---- */

static void answer_pull(struct gw_thread *t, struct lane *lane)
{
    static _Thread_local uint8_t scratch[FRAME];
    pthread_mutex_lock(&lane->lock);
    if (lane->pull.size && !lane->answer.size) {
        struct gw_frame f;
        CHECK(gw_frame_decode(lane->pull.bytes, lane->pull.size, &f) == GW_OK, "our own frame");
        gw_store_enter(t);
        enum gw_status st =
            gw_outgoing_answer_pull(out, t, from, &f, gw_frame_body(lane->pull.bytes, &f), scratch,
                                    sizeof scratch, lane->answer.bytes, FRAME, &lane->answer.size,
                                    NULL, NULL);
        gw_store_exit(t);
        CHECK(st == GW_OK, "%s", gw_status_name(st));
        lane->pull.size = 0;
    }
    pthread_mutex_unlock(&lane->lock);
}

static void ship(uint32_t number, struct gw_thread *t, struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    if (lane->count < QUEUE) {
        struct frame *frame = &lane->chunk[(lane->first + lane->count) % QUEUE];
        gw_store_enter(t);
        enum gw_status st = gw_outgoing_fill(out, number, t, gw_outgoing_attempt(out), frame->bytes,
                                             600, 50, &frame->size);
        gw_store_exit(t);
        CHECK(st == GW_OK || st == GW_END || st == GW_PENDING, "%s", gw_status_name(st));
        lane->count += frame->size > 0;
    }
    pthread_mutex_unlock(&lane->lock);
}

static void source(uint32_t number)
{
    struct gw_thread *t;
    CHECK(gw_store_thread_open(from, &t) == GW_OK, "no thread");
    struct lane *lane = &lanes[number];
    uint64_t hashes[16];
    while (atomic_load_explicit(&serving, memory_order_acquire)) {
        answer_pull(t, lane);
        ship(number, t, lane);
        gw_store_poll(t);
        while (gw_store_ready(t, hashes, 16) != 0) {}
    }
    gw_store_thread_close(t);
}

/* ---- the target ---- */

struct client {
    uint32_t key;
    bool waiting; /* for an answer */
    bool negative;
    uint64_t sequence, adds, pulls;
};

static void on_pulled(void *ctx, uint32_t i, enum gw_status outcome,
                      const struct gw_incoming_lead *lead)
{
    (void)lead;
    struct client *c = ctx;
    CHECK(i == 0, "one key was asked for");
    c->negative = outcome == GW_NOT_FOUND;
}

static void take_chunk(struct gw_thread *t, struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    if (lane->count) {
        struct frame *frame = &lane->chunk[lane->first];
        struct gw_frame f;
        struct gw_incoming_result result;
        CHECK(gw_frame_decode(frame->bytes, frame->size, &f) == GW_OK, "our own frame");
        gw_store_enter(t);
        enum gw_status st =
            gw_incoming_chunk(in, t, to, &f, gw_frame_body(frame->bytes, &f), &result);
        gw_store_exit(t);
        CHECK(st == GW_OK || st == GW_WOULD_BLOCK, "%s", gw_status_name(st));
        atomic_fetch_add_explicit(&pages_all, result.page, memory_order_relaxed);
        if (st == GW_OK && result.ack_due)
            gw_outgoing_acked(out, &(struct gw_frame){.flags = f.flags & GW_CHUNK_PAGE,
                                                      .sequence = (uint64_t)result.chunk << 32,
                                                      .view = f.view});
        if (st == GW_OK) {
            lane->first = (lane->first + 1) % QUEUE;
            lane->count--;
        }
    }
    pthread_mutex_unlock(&lane->lock);
}

static void take_answer(struct gw_thread *t, struct lane *lane, struct client *c)
{
    pthread_mutex_lock(&lane->lock);
    if (lane->answer.size) {
        struct gw_frame f;
        CHECK(gw_frame_decode(lane->answer.bytes, lane->answer.size, &f) == GW_OK, "our own frame");
        gw_store_enter(t);
        enum gw_status st =
            gw_incoming_pull_answer(in, t, to, &f, gw_frame_body(lane->answer.bytes, &f), 1,
                                    on_pulled, c);
        gw_store_exit(t);
        CHECK(st == GW_OK, "%s", gw_status_name(st));
        lane->answer.size = 0;
        c->waiting = false;
    }
    pthread_mutex_unlock(&lane->lock);
}

static void ask(struct lane *lane, struct client *c)
{
    struct gw_pull_key key = {keys[c->key], sizeof keys[0]};
    pthread_mutex_lock(&lane->lock);
    lane->pull.size = gw_incoming_pull(in, ++c->sequence, false, &key, 1, lane->pull.bytes, FRAME);
    pthread_mutex_unlock(&lane->lock);
    c->waiting = true;
    c->pulls++;
}

/* Adds 1 to a key, as often as it takes to be sure. */
static void serve(struct gw_thread *t, struct lane *lane, struct client *c, struct gw_rand *rand)
{
    struct gw_op op = op_of(to, c->key, GW_VERB_ADD);
    op.delta = 1;
    /* Completeness before the look-up (R10). */
    if (!c->negative && !gw_incoming_complete(in, op.hash))
        op.flags = GW_OP_UNSETTLED;
    execute(t, &op);
    if (op.status == GW_ABSENT) {
        ask(lane, c);
    } else if (op.status == GW_OK) {
        atomic_fetch_add_explicit(&added[c->key], 1, memory_order_relaxed);
        c->adds++;
        c->negative = false;
        c->key = (uint32_t)gw_rand_below(rand, KEYS);
    } else {
        CHECK(op.status == GW_RETRY, "%s", gw_status_name((enum gw_status)op.status));
    }
}

static void target(uint32_t number)
{
    struct gw_thread *t;
    struct gw_rand rand;
    CHECK(gw_store_thread_open(to, &t) == GW_OK, "no thread");
    struct lane *lane = &lanes[number];
    gw_rand_init(&rand, number + rounds * SIDE + 1);
    struct client c = {.key = (uint32_t)gw_rand_below(&rand, KEYS)};
    uint64_t after = 0;
    for (uint64_t tries = 0; after < 500 || c.waiting; tries++) {
        CHECK(tries < TRIES_MAX, "it does not end");
        take_chunk(t, lane);
        if (c.waiting)
            take_answer(t, lane, &c);
        else
            serve(t, lane, &c, &rand);
        after += gw_outgoing_done(out);
        gw_store_poll(t);
    }
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    pulls_all += c.pulls;
    adds_all += c.adds;
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub_explicit(&serving, 1, memory_order_release);
    gw_store_thread_close(t);
}

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    if (number < SIDE)
        source(number);
    else
        target(number - SIDE);
}

/* ---- a round ---- */

static struct gw_store *open_store(struct gw_ram_device *ram)
{
    struct gw_store *store;
    CHECK(gw_store_open(&(struct gw_store_options){.log_bytes = ram ? 512u << 10 : 8u << 20,
                                                   .index_bytes = 256u << 10,
                                                   .page_bits = 16,
                                                   .hash_seed = SEED,
                                                   .device = ram ? gw_ram_device_face(ram) : NULL},
                        &store) == GW_OK,
          "no store");
    return store;
}

static void fill(void)
{
    struct gw_thread *t;
    CHECK(gw_store_thread_open(from, &t) == GW_OK, "no thread");
    for (uint32_t i = 0; i < KEYS; i++) {
        atomic_store(&added[i], 0);
        if (i % 2)
            continue;
        struct gw_op op = op_of(from, i, GW_VERB_UPSERT);
        op.flags = GW_OP_COUNTER;
        op.number = 1000 + (int64_t)i;
        execute(t, &op);
        CHECK(op.status == GW_OK, "%s", gw_status_name((enum gw_status)op.status));
        if (i % 8 == 6) {
            op = op_of(from, i, GW_VERB_DELETE);
            execute(t, &op);
        }
    }
    static const uint8_t value[400];
    for (uint32_t i = 0; device && i < FILLERS; i++) {
        char key[24];
        snprintf(key, sizeof key, "filler-%u", i);
        struct gw_op op = {.key = (const uint8_t *)key,
                           .key_bytes = (uint16_t)strlen(key),
                           .verb = GW_VERB_UPSERT,
                           .value = value,
                           .value_bytes = sizeof value};
        gw_store_hash(from, &op);
        execute(t, &op);
        CHECK(op.status == GW_OK, "%s", gw_status_name((enum gw_status)op.status));
    }
    gw_store_thread_close(t);
}

static void compare(void)
{
    struct gw_thread *t;
    CHECK(gw_store_thread_open(to, &t) == GW_OK, "no thread");
    for (uint32_t i = 0; i < KEYS; i++) {
        struct gw_op op = op_of(to, i, GW_VERB_READ);
        execute(t, &op);
        int64_t sum = initial(i) + atomic_load(&added[i]);
        bool absent = op.status == GW_NOT_FOUND;
        CHECK(absent || op.status == GW_OK, "%s", gw_status_name((enum gw_status)op.status));
        CHECK(absent ? sum == 0 : op.number == sum, "key %u is %lld and should be %lld", i,
              absent ? 0ll : (long long)op.number, (long long)sum);
    }
    gw_store_thread_close(t);
}

int main(void)
{
    struct gw_slots all;
    gw_slots_clear(&all);
    for (uint32_t s = 0; s < GW_SLOTS; s++)
        gw_slots_add(&all, (uint16_t)s);
    for (uint32_t i = 0; i < KEYS; i++)
        snprintf((char *)keys[i], sizeof keys[i], "key-%011u", i);
    for (uint32_t i = 0; i < SIDE; i++)
        pthread_mutex_init(&lanes[i].lock, NULL);
    uint64_t end = torture_now_ms() + torture_duration_ms();
    do {
        device = rounds % 2 ? gw_ram_device_create(&(struct gw_ram_device_options){.seed = rounds})
                            : NULL;
        from = open_store(device);
        to = open_store(NULL);
        fill();
        CHECK(gw_outgoing_create(1, &all, CHUNK_BITS, 1, SIDE, &out) == GW_OK, "no memory");
        gw_outgoing_set(out, &(struct gw_outgoing_options){.records = KEYS + FILLERS});
        CHECK(gw_incoming_create(1, &all, CHUNK_BITS, 1, &in) == GW_OK, "no memory");
        for (uint32_t i = 0; i < SIDE; i++)
            lanes[i].first = lanes[i].count = 0, lanes[i].pull.size = lanes[i].answer.size = 0;
        atomic_store(&serving, SIDE);
        torture_run(2 * SIDE, body, NULL);
        CHECK(gw_incoming_done(in), "not all has come");
        compare();
        gw_incoming_destroy(in);
        gw_outgoing_destroy(out);
        gw_store_close(from);
        gw_store_close(to);
        if (device)
            gw_ram_device_destroy(device);
        rounds++;
    } while (torture_now_ms() < end || rounds < 2);
    CHECK(pages_all > 0, "nothing went page by page");
    CHECK(pulls_all > 0, "nothing was pulled, the test says nothing");
    printf("rounds=%llu pulls=%llu adds=%llu pages=%llu\n", (unsigned long long)rounds,
           (unsigned long long)pulls_all, (unsigned long long)adds_all,
           (unsigned long long)pages_all);
    return 0;
}
