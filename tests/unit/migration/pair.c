/* pair.c - see pair.h. */
#include "pair.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void side_open(struct side *side, uint32_t pages, uint32_t index_bytes, bool device,
                      uint64_t log_id)
{
    memset(side, 0, sizeof *side);
    if (device)
        side->ram = gw_ram_device_create(&(struct gw_ram_device_options){.log_id = log_id});
    struct gw_store_options o = {.log_bytes = (uint64_t)pages << GW_STORE_PAGE_BITS_MIN,
                                 .index_bytes = index_bytes ? index_bytes : 1 << 20,
                                 .page_bits = GW_STORE_PAGE_BITS_MIN,
                                 .threads_max = 4,
                                 .hash_seed = 4711,
                                 .device = side->ram ? gw_ram_device_face(side->ram) : NULL};
    cr_assert_eq(gw_store_open(&o, &side->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(side->store, &side->thread), GW_OK);
    side->room_bytes = (size_t)1 << GW_STORE_PAGE_BITS_MIN;
    side->room = malloc(side->room_bytes);
}

static void side_close(struct side *side)
{
    gw_store_thread_close(side->thread);
    gw_store_close(side->store);
    free(side->room);
}

void side_turn(struct side *side)
{
    uint64_t hashes[16];
    gw_store_poll(side->thread);
    while (gw_store_ready(side->thread, hashes, 16) != 0) {}
}

void pair_open(struct pair *p, const struct pair_options *options)
{
    memset(p, 0, sizeof *p);
    uint8_t chunk_bits = options->chunk_bits ? options->chunk_bits : 2;
    uint64_t attempt = gw_attempt_first(PAIR_INCARNATION);
    p->buckets_max = UINT32_MAX;
    uint32_t shared = options->shared_pages;
    uint32_t t_pages = options->t_log_pages ? options->t_log_pages : 64;
    uint32_t own = options->device_pages, device = shared ? shared : own;
    side_open(&p->s, device ? device : 64, options->index_bytes, device, shared ? 51 : 0);
    side_open(&p->t, device ? device : t_pages, options->index_bytes, device, shared ? 52 : 0);
    if (shared) {
        gw_ram_device_know(p->t.ram, p->s.ram);
        gw_ram_device_know(p->s.ram, p->t.ram);
    }
    cr_assert_eq(gw_slots_parse(options->slots ? options->slots : "0-16383", &p->slots, NULL, 0),
                 GW_OK);
    cr_assert_eq(gw_outgoing_create(1, &p->slots, chunk_bits, attempt,
                                    options->dispatchers ? options->dispatchers : 1, &p->out),
                 GW_OK);
    cr_assert_eq(gw_incoming_create(1, &p->slots, chunk_bits, attempt, &p->in), GW_OK);
}

void pair_close(struct pair *p)
{
    gw_outgoing_destroy(p->out);
    gw_incoming_destroy(p->in);
    side_close(&p->s);
    side_close(&p->t);
    if (p->s.ram) {
        gw_ram_device_destroy(p->s.ram);
        gw_ram_device_destroy(p->t.ram);
    }
}

enum gw_status side_run(struct side *side)
{
    size_t used;
    gw_store_hash(side->store, &side->op);
    for (uint32_t turns = 0; turns < 100000; turns++) {
        side_turn(side);
        gw_store_enter(side->thread);
        gw_store_execute(side->thread, &side->op, 1, side->room, side->room_bytes, &used);
        gw_store_exit(side->thread);
        enum gw_status st = (enum gw_status)side->op.status;
        if (!side->ram || (st != GW_RETRY && st != GW_PENDING && st != GW_E_FULL))
            return st;
    }
    cr_assert_fail("it is never answered");
    return GW_E_INTERNAL;
}

static void op_start(struct side *side, uint8_t verb, const char *key, uint8_t flags)
{
    memset(&side->op, 0, sizeof side->op);
    side->op.verb = verb;
    side->op.flags = flags;
    side->op.key = (const uint8_t *)key;
    side->op.key_bytes = (uint16_t)strlen(key);
}

enum gw_status side_verb(struct side *side, uint8_t verb, const char *key, uint8_t flags)
{
    op_start(side, verb, key, flags);
    return side_run(side);
}
enum gw_status side_put(struct side *side, const char *key, const char *value)
{
    op_start(side, GW_VERB_UPSERT, key, 0);
    side->op.value = (const uint8_t *)value;
    side->op.value_bytes = (uint32_t)strlen(value);
    return side_run(side);
}
enum gw_status side_add(struct side *side, const char *key, int64_t delta)
{
    op_start(side, GW_VERB_ADD, key, 0);
    side->op.delta = delta;
    return side_run(side);
}
enum gw_status side_del(struct side *side, const char *key)
{
    return side_verb(side, GW_VERB_DELETE, key, 0);
}
enum gw_status side_get(struct side *side, const char *key)
{
    return side_verb(side, GW_VERB_READ, key, 0);
}
uint64_t side_hash(struct side *side, const char *key)
{
    op_start(side, GW_VERB_READ, key, 0);
    gw_store_hash(side->store, &side->op);
    return side->op.hash;
}

static uint8_t unsettled(struct pair *p, const char *key)
{
    return gw_incoming_complete(p->in, side_hash(&p->t, key)) ? 0 : GW_OP_UNSETTLED;
}

enum gw_status pair_get(struct pair *p, const char *key)
{
    return side_verb(&p->t, GW_VERB_READ, key, unsettled(p, key));
}

enum gw_status pair_add(struct pair *p, const char *key, int64_t delta)
{
    op_start(&p->t, GW_VERB_ADD, key, unsettled(p, key));
    p->t.op.delta = delta;
    return side_run(&p->t);
}

struct gw_frame frame_header(struct frame frame)
{
    struct gw_frame f;
    cr_assert_eq(gw_frame_decode(frame.bytes, (uint32_t)frame.size, &f), GW_OK);
    return f;
}

void frame_free(struct frame frame)
{
    free(frame.bytes);
}

struct frame pair_fill(struct pair *p, uint32_t dispatcher)
{
    struct frame frame = {malloc(PAIR_FRAME_BYTES), 0};
    enum gw_status st;
    do {
        gw_store_enter(p->s.thread);
        st = gw_outgoing_fill(p->out, dispatcher, p->s.thread, gw_outgoing_attempt(p->out),
                              frame.bytes, PAIR_FRAME_BYTES, p->buckets_max, &frame.size);
        gw_store_exit(p->s.thread);
        if (p->s.ram)
            side_turn(&p->s);
    } while ((st == GW_OK || (p->s.ram && st == GW_PENDING)) && frame.size == 0);
    cr_assert(st == GW_OK || st == GW_END || (p->s.ram && st == GW_PENDING));
    return frame;
}

enum gw_status pair_deliver_only(struct pair *p, struct frame frame)
{
    struct gw_frame f = frame_header(frame);
    gw_store_enter(p->t.thread);
    enum gw_status st = gw_incoming_chunk(p->in, p->t.thread, p->t.store, &f,
                                          gw_frame_body(frame.bytes, &f), &p->result);
    gw_store_exit(p->t.thread);
    return st;
}

enum gw_status pair_deliver(struct pair *p, struct frame frame)
{
    enum gw_status st = pair_deliver_only(p, frame);
    if (st == GW_OK && p->result.ack_due) {
        uint8_t ack[GW_FRAME_HEADER];
        cr_assert_eq(gw_incoming_ack(p->in, &p->result, ack, sizeof ack), sizeof ack);
        struct gw_frame f = frame_header((struct frame){ack, sizeof ack});
        cr_assert_eq(f.kind, GW_KIND_CHUNK_ACK);
        gw_outgoing_acked(p->out, &f);
    }
    return st;
}

void pair_ship(struct pair *p)
{
    for (;;) {
        struct frame frame = pair_fill(p, 0);
        enum gw_status st = frame.size ? pair_deliver(p, frame) : GW_OK;
        for (; p->t.ram && (st == GW_PENDING || st == GW_WOULD_BLOCK); st = pair_deliver(p, frame))
            side_turn(&p->t);
        cr_assert_eq(st, GW_OK);
        frame_free(frame);
        if (frame.size == 0)
            return;
    }
}

struct frame pair_pull(struct pair *p, const char *const *keys, uint32_t n)
{
    struct gw_pull_key list[PAIR_KEYS_MAX];
    for (uint32_t i = 0; i < n; i++)
        list[i] = (struct gw_pull_key){(const uint8_t *)keys[i], (uint16_t)strlen(keys[i])};
    struct frame frame = {malloc(PAIR_FRAME_BYTES), 0};
    frame.size = gw_incoming_pull(p->in, 99, p->leads, list, n, frame.bytes, PAIR_FRAME_BYTES);
    cr_assert_gt(frame.size, 0);
    return frame;
}

struct frame pair_answer(struct pair *p, struct frame pull)
{
    struct gw_frame f = frame_header(pull);
    struct frame answer = {malloc(PAIR_FRAME_BYTES), 0};
    gw_store_enter(p->s.thread);
    cr_assert_eq(gw_outgoing_answer_pull(p->out, p->s.thread, p->s.store, &f,
                                         gw_frame_body(pull.bytes, &f), p->s.room, p->s.room_bytes,
                                         answer.bytes, PAIR_FRAME_BYTES, &answer.size, NULL, NULL),
                 GW_OK);
    gw_store_exit(p->s.thread);
    frame_free(pull);
    return answer;
}

static void pulled(void *ctx, uint32_t i, enum gw_status outcome,
                   const struct gw_incoming_lead *lead)
{
    struct pair *p = ctx;
    p->pulled[i] = outcome;
    if (lead)
        p->lead[i] = *lead;
    p->pulled_keys++;
}

enum gw_status pair_deliver_answer(struct pair *p, struct frame answer, uint32_t n)
{
    struct gw_frame f = frame_header(answer);
    p->pulled_keys = 0;
    gw_store_enter(p->t.thread);
    enum gw_status st = gw_incoming_pull_answer(p->in, p->t.thread, p->t.store, &f,
                                                gw_frame_body(answer.bytes, &f), n, pulled, p);
    gw_store_exit(p->t.thread);
    frame_free(answer);
    return st;
}
