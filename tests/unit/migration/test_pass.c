/* Goal: without a shared tier what lies on the device is read page by page, in order, and arrives
 * whole: nothing is lost when the rest goes by chunks that leave it out, whatever compaction, head
 * and chains of several keys do meanwhile, and nothing that comes late comes back (R12). How: a
 * pair of stores (pair.h) over devices, half of the slots moving; every step by hand. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/log_line.h"
#include "index/base/rand.h"
#include "pair.h"

#define PAGES 12u /* of a log in memory */

static struct pair p;
static bool few_slots;
static uint32_t page_frames, chunk_frames, page_records, chunk_records;

static void opened(uint64_t records, uint32_t dispatchers, uint32_t index_bytes)
{
    pair_open(&p, &(struct pair_options){.device_pages = PAGES,
                                         .slots = "0-8191",
                                         .index_bytes = index_bytes,
                                         .dispatchers = dispatchers});
    gw_outgoing_set(p.out, &(struct gw_outgoing_options){.map_version = 3, .records = records});
    gw_store_keep_tombstones(p.t.store, &p.slots);
    page_frames = chunk_frames = page_records = chunk_records = 0;
}

static void closed(void)
{
    pair_close(&p);
}

static void quiet(void)
{
    gw_log_set_level(GW_LOG_ERROR);
}

TestSuite(pass, .init = quiet, .timeout = 120);

static char *name(uint32_t i)
{
    static char key[24];
    if (few_slots) /* so that some share a chain */
        snprintf(key, sizeof key, "key{%u}%u", i % 5, i);
    else
        snprintf(key, sizeof key, "key%u", i);
    return key;
}

static bool moves(const char *key)
{
    side_hash(&p.s, key);
    return gw_slots_has(&p.slots, p.s.op.slot);
}

/* A value that says which key and version of it, `bytes` long. */
static const char *value_of(uint32_t i, uint32_t version, uint32_t bytes)
{
    static char value[4096];
    memset(value, 'a' + (char)(i % 26), bytes);
    snprintf(value, sizeof value, "%u.%u.", i, version);
    value[strlen(value)] = '.';
    value[bytes] = 0;
    return value;
}

static uint64_t device_reads(struct side *side)
{
    struct gw_device_usage usage = {0};
    gw_ram_device_face(side->ram)->usage(gw_ram_device_face(side->ram), &usage);
    return usage.reads;
}

static void expect_key(struct side *side, uint32_t i, uint32_t version, uint32_t bytes)
{
    const char *want = value_of(i, version, bytes);
    cr_assert_eq(side_get(side, name(i)), version ? GW_OK : GW_NOT_FOUND, "key %u: %s", i,
                 gw_status_name((enum gw_status)side->op.status));
    if (version)
        cr_assert(side->op.out_bytes == bytes && memcmp(side->op.out, want, bytes) == 0,
                  "key %u has %.8s for %.8s", i, (const char *)side->op.out, want);
}

static void count_frame(struct frame frame)
{
    struct gw_frame f = frame_header(frame);
    bool page = f.flags & GW_CHUNK_PAGE;
    *(page ? &page_frames : &chunk_frames) += 1;
    *(page ? &page_records : &chunk_records) += f.count;
}

static enum gw_status arrive(struct frame frame)
{
    enum gw_status st = pair_deliver(&p, frame);
    for (; st == GW_PENDING || st == GW_WOULD_BLOCK; st = pair_deliver(&p, frame))
        side_turn(&p.t);
    return st;
}

/* The next frame of the dispatcher; size 0: there is none now. */
static struct frame made_by(uint32_t dispatcher)
{
    struct frame frame = {malloc(PAIR_FRAME_BYTES), 0};
    enum gw_status st = GW_PENDING;
    for (uint32_t turns = 0; turns < 200 && frame.size == 0 && st != GW_END; turns++) {
        gw_store_enter(p.s.thread);
        st = gw_outgoing_fill(p.out, dispatcher, p.s.thread, gw_outgoing_attempt(p.out),
                              frame.bytes, PAIR_FRAME_BYTES, 64, &frame.size);
        gw_store_exit(p.s.thread);
        cr_assert(st == GW_OK || st == GW_PENDING || st == GW_END, "%s", gw_status_name(st));
        side_turn(&p.s);
    }
    if (frame.size)
        count_frame(frame);
    return frame;
}

/* One frame of the dispatcher, delivered; false: there is none now. */
static bool ship_one(uint32_t dispatcher)
{
    struct frame frame = made_by(dispatcher);
    if (frame.size)
        cr_assert_eq(arrive(frame), GW_OK);
    frame_free(frame);
    return frame.size != 0;
}

static void ship_all(void)
{
    for (uint32_t idle = 0; !gw_outgoing_done(p.out) && idle < 100;)
        idle = ship_one(0) ? 0 : idle + 1;
    cr_assert(gw_outgoing_done(p.out));
    cr_assert(gw_incoming_done(p.in));
}

#define KEYS 4000u

static void fill(uint32_t keys, uint32_t bytes)
{
    for (uint32_t i = 0; i < keys; i++)
        cr_assert_eq(side_put(&p.s, name(i), value_of(i, 1, bytes)), GW_OK);
}

static void expect_all(uint32_t keys, uint32_t bytes)
{
    for (uint32_t i = 0; i < keys; i++)
        if (moves(name(i)))
            expect_key(&p.t, i, 1, bytes);
}

Test(pass, what_is_on_the_device_is_read_page_by_page)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    struct gw_store_stats stats;
    gw_store_stats(p.s.store, &stats);
    uint64_t cold = (stats.log_head - stats.log_begin) >> GW_STORE_PAGE_BITS_MIN;
    cr_assert_gt(cold, 20);
    uint64_t before = device_reads(&p.s);
    ship_all();
    uint64_t reads = device_reads(&p.s) - before;
    cr_expect_geq(reads, cold);
    cr_expect_leq(reads, cold + 4, "%llu reads for %llu pages", (unsigned long long)reads,
                  (unsigned long long)cold);
    uint32_t ours = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        ours += moves(name(i));
    cr_expect_eq(page_records + chunk_records, ours, "each record went out once");
    cr_expect_gt(page_records, ours / 2);
    expect_all(KEYS, 600);
    closed();
}

Test(pass, a_few_records_of_a_large_log_are_read_one_by_one)
{
    opened(50, 1, 1 << 20); /* 50 * 16 KiB are less than the log */
    fill(KEYS, 600);
    ship_all();
    cr_expect_eq(page_frames, 0);
    expect_all(KEYS, 600);
    closed();
}

Test(pass, with_indirections_nothing_is_read)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    gw_outgoing_indirect(p.out, true);
    ship_all();
    cr_expect_eq(page_frames, 0);
    expect_all(KEYS, 600);
    closed();
}

Test(pass, no_chunk_begins_before_every_page_is_acknowledged)
{
    opened(KEYS, 2, 1 << 20);
    fill(KEYS, 600);
    struct frame held = made_by(0);
    cr_assert(frame_header(held).flags & GW_CHUNK_PAGE);
    while (ship_one(1)) {}
    cr_expect_eq(chunk_frames, 0);
    cr_assert_eq(arrive(held), GW_OK);
    frame_free(held);
    while (ship_one(0)) {}
    while (ship_one(1)) {}
    cr_expect_gt(chunk_frames, 0);
    cr_assert(gw_outgoing_done(p.out));
    expect_all(KEYS, 600);
    closed();
}

static void fail_and_ship(uint64_t skip, uint64_t count, enum gw_status status)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    gw_ram_device_fail(p.s.ram, GW_RAM_READ, skip, count, status);
    ship_all();
    expect_all(KEYS, 600);
    cr_expect_gt(page_frames, 0);
    closed();
}

Test(pass, a_page_that_cannot_be_read_is_left_to_the_walk)
{
    fail_and_ship(3, 2, GW_E_IO);
}

Test(pass, a_page_that_is_not_found_is_left_to_the_walk)
{
    fail_and_ship(0, 1, GW_NOT_FOUND);
}

Test(pass, an_object_store_that_is_away_is_waited_for)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    struct gw_store_stats stats;
    gw_store_stats(p.s.store, &stats);
    gw_ram_device_lose(p.s.ram, gw_addr_of(stats.log_head & ~(uint64_t)0xffff), false);
    for (uint32_t n = 0; n < 5; n++)
        cr_expect_not(ship_one(0), "nothing can be read");
    cr_expect_eq(page_frames + chunk_frames, 0);
    gw_ram_device_lose(p.s.ram, gw_addr_of(0), false);
    ship_all();
    uint32_t ours = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        ours += moves(name(i));
    cr_expect_eq(page_records + chunk_records, ours, "page by page after all");
    expect_all(KEYS, 600);
    closed();
}

Test(pass, a_restart_sends_over_the_pages_that_are_not_acknowledged)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    for (uint32_t n = 0; n < 12; n++)
        cr_assert(ship_one(0));
    uint32_t first = page_records;
    struct frame lost = made_by(0);
    uint64_t attempt = gw_outgoing_attempt(p.out) + 1;
    gw_incoming_restart(p.in, attempt);
    gw_outgoing_restart(p.out, attempt, false);
    cr_expect_eq(pair_deliver_only(&p, lost), GW_OK, "of another attempt: dropped");
    cr_expect_not(p.result.ack_due);
    page_records = 0;
    ship_all();
    cr_expect_lt(page_records + chunk_records, KEYS / 2 + KEYS / 8 - first + 200);
    expect_all(KEYS, 600);
    frame_free(lost);
    closed();
}

Test(pass, acks_of_an_earlier_attempt_and_of_no_page_do_not_count)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    uint64_t first = gw_outgoing_attempt(p.out);
    struct gw_frame ack = {.flags = GW_CHUNK_PAGE, .view = first, .sequence = 0};
    cr_expect_not(gw_outgoing_acked(p.out, &ack), "of a page that nobody has claimed");
    struct frame frame = made_by(0);
    cr_assert_eq(frame_header(frame).sequence, 0);
    cr_assert_not(frame_header(frame).flags & GW_CHUNK_LAST);
    cr_expect_not(gw_outgoing_acked(p.out, &ack), "of a page that has not been sent to its end");
    cr_assert_eq(arrive(frame), GW_OK);
    gw_outgoing_restart(p.out, first + 1, true);
    gw_incoming_restart(p.in, first + 1);
    cr_expect_not(gw_outgoing_acked(p.out, &ack), "of an earlier attempt");
    ack.sequence = (uint64_t)GW_PASS_PAGES_MAX << 32;
    ack.view = first + 1;
    cr_expect_not(gw_outgoing_acked(p.out, &ack), "no such page");
    frame_free(frame);
    ship_all();
    expect_all(KEYS, 600);
    closed();
}

/* R12: the source restarts when the target has everything, and its pages come once more. */
Test(pass, what_comes_with_a_page_for_a_complete_chunk_is_dropped)
{
    opened(KEYS, 1, 1 << 20);
    fill(KEYS, 600);
    ship_all();
    uint32_t gone = 0;
    while (!moves(name(gone)))
        gone++;
    gw_store_keep_tombstones(p.t.store, NULL);
    for (uint32_t i = gone; i < KEYS; i++) /* the first of them were the first on the device */
        if (moves(name(i)))
            cr_assert_eq(side_del(&p.t, name(i)), GW_OK);
    struct gw_store_stats stats;
    gw_store_stats(p.t.store, &stats);
    uint64_t deleted = stats.log_tail;
    /* And their tombstones go with compaction. */
    for (uint32_t i = 0; i < 20 * KEYS && stats.log_begin < deleted; i++) {
        char other[24];
        snprintf(other, sizeof other, "other%u", i % 500);
        cr_assert_eq(side_put(&p.t, other, value_of(i, 1, 3000)), GW_OK);
        gw_store_stats(p.t.store, &stats);
    }
    cr_assert_geq(stats.log_begin, deleted);
    uint64_t attempt = gw_outgoing_attempt(p.out) + 1;
    gw_incoming_restart(p.in, attempt);
    gw_outgoing_restart(p.out, attempt, true);
    uint32_t before = page_records;
    for (uint32_t idle = 0; !gw_outgoing_done(p.out) && idle < 100;)
        idle = ship_one(0) ? 0 : idle + 1;
    cr_expect_gt(page_records, before, "they came");
    for (uint32_t i = gone; i < KEYS; i++)
        if (moves(name(i)))
            cr_assert_eq(side_get(&p.t, name(i)), GW_NOT_FOUND, "key %u is back", i);
    closed();
}

static struct frame made(uint64_t sequence, uint16_t flags, const struct gw_peer_record *record)
{
    struct frame frame = {calloc(1, PAIR_FRAME_BYTES), 0};
    struct gw_writer w =
        gw_writer_of(frame.bytes + GW_FRAME_HEADER, PAIR_FRAME_BYTES - GW_FRAME_HEADER);
    if (record)
        gw_peer_record_encode(record, &w);
    frame.size = GW_FRAME_HEADER + gw_writer_used(&w);
    struct gw_frame f = {.bytes = (uint32_t)frame.size,
                         .kind = GW_KIND_CHUNK,
                         .flags = flags,
                         .count = record != NULL,
                         .session = 1,
                         .sequence = sequence,
                         .view = gw_incoming_attempt(p.in)};
    gw_frame_encode(&f, frame.bytes);
    return frame;
}

static enum gw_status deliver_made(uint64_t sequence, uint16_t flags,
                                   const struct gw_peer_record *record)
{
    struct frame frame = made(sequence, flags, record);
    enum gw_status st = pair_deliver_only(&p, frame);
    frame_free(frame);
    return st;
}

Test(pass, what_a_page_may_not_hold_is_refused)
{
    opened(0, 1, 1 << 20);
    uint32_t here = 0, elsewhere = 0;
    while (!moves(name(here)))
        here++;
    while (moves(name(elsewhere)))
        elsewhere++;
    char ours[24], theirs[24];
    snprintf(ours, sizeof ours, "%s", name(here));
    snprintf(theirs, sizeof theirs, "%s", name(elsewhere));
    struct gw_peer_record good = {.key = (const uint8_t *)ours,
                                  .key_bytes = (uint16_t)strlen(ours),
                                  .version = 1,
                                  .value = (const uint8_t *)"v",
                                  .value_bytes = 1};
    struct gw_peer_record foreign = good;
    foreign.key = (const uint8_t *)theirs;
    foreign.key_bytes = (uint16_t)strlen(theirs);
    const uint16_t page = GW_CHUNK_PAGE;
    cr_expect_eq(deliver_made(0, page, &foreign), GW_E_PROTOCOL, "a key of another range");
    cr_expect_eq(deliver_made(1, page, &good), GW_E_PROTOCOL, "not the frame that is wanted");
    cr_expect_eq(deliver_made((uint64_t)GW_PASS_PAGES_MAX << 32, page, &good), GW_E_PROTOCOL,
                 "no such page");
    cr_expect_eq(deliver_made(0, page | GW_CHUNK_HOT, &good), GW_E_PROTOCOL, "hot and of a page");
    struct gw_peer_indirection in = {.log_id = 9, .address = 4096, .slot = p.s.op.slot};
    uint8_t value[GW_PEER_INDIRECTION_BYTES];
    struct gw_peer_record indirection = gw_peer_indirection_record(&in, value);
    cr_expect_eq(deliver_made(0, page, &indirection), GW_E_PROTOCOL, "an indirection");
    cr_expect_eq(deliver_made(0, page | GW_CHUNK_LAST, &good), GW_OK);
    cr_expect(p.result.ack_due && p.result.page && p.result.chunk == 0);
    cr_expect_not(gw_incoming_done(p.in));
    closed();
}

/* A model of what the keys of the range hold at the source, and everything at random: sizes, rounds
 * of overwriting, deletes, few buckets (chains of several keys), writes to other ranges that move
 * head and begin while the range is shipped, restarts that lose what was under way. */
#define MODEL_KEYS 2000u
static struct {
    uint32_t version, bytes;
} model[MODEL_KEYS];

static void change(uint32_t i, struct gw_rand *rand, uint32_t version)
{
    if (gw_rand_below(rand, 8) == 0) {
        (void)side_del(&p.s, name(i));
        model[i].version = 0;
        return;
    }
    model[i].version = version;
    model[i].bytes = 30 + (uint32_t)gw_rand_below(rand, gw_rand_below(rand, 10) ? 600 : 3000);
    cr_assert_eq(side_put(&p.s, name(i), value_of(i, version, model[i].bytes)), GW_OK);
}

static void one_seed(uint64_t seed, uint64_t *passed)
{
    struct gw_rand rand;
    gw_rand_init(&rand, seed);
    few_slots = true;
    opened(MODEL_KEYS * 4, 2, 1 << 16);
    if (gw_rand_below(&rand, 2)) /* little room: compaction is at work all the time */
        gw_ram_device_limit(p.s.ram, (uint64_t)100 << GW_STORE_PAGE_BITS_MIN);
    memset(model, 0, sizeof model);
    uint32_t rounds = MODEL_KEYS * (2 + (uint32_t)gw_rand_below(&rand, 4));
    for (uint32_t n = 1; n <= rounds; n++)
        change((uint32_t)gw_rand_below(&rand, MODEL_KEYS), &rand, n);
    struct gw_store_stats before;
    gw_store_stats(p.s.store, &before);
    uint64_t begin = before.log_begin;
    for (uint32_t idle = 0; !gw_outgoing_done(p.out) && idle < 100;) {
        if (gw_rand_below(&rand, 60) == 0) {
            struct frame lost = made_by((uint32_t)gw_rand_below(&rand, 2));
            uint64_t attempt = gw_outgoing_attempt(p.out) + 1;
            gw_incoming_restart(p.in, attempt);
            gw_outgoing_restart(p.out, attempt, false);
            frame_free(lost);
        }
        idle = ship_one((uint32_t)gw_rand_below(&rand, 2)) ? 0 : idle + 1;
        uint64_t others = gw_rand_below(&rand, gw_rand_below(&rand, 6) ? 8 : 400);
        for (uint64_t n = others; n > 0; n--) {
            uint32_t i = (uint32_t)gw_rand_below(&rand, MODEL_KEYS);
            if (!moves(name(i)))
                change(i, &rand, 1000000 + (uint32_t)n);
            else if (n % 4 == 0) /* as pulls read them: twice, and it comes back to memory */
                expect_key(&p.s, i, model[i].version, model[i].bytes);
        }
    }
    cr_assert(gw_outgoing_done(p.out), "seed %llu", (unsigned long long)seed);
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        if (moves(name(i)))
            expect_key(&p.t, i, model[i].version, model[i].bytes);
        expect_key(&p.s, i, model[i].version, model[i].bytes);
    }
    struct gw_store_stats after;
    gw_store_stats(p.s.store, &after);
    *passed += (after.log_begin - begin) >> GW_STORE_PAGE_BITS_MIN;
    closed();
}

Test(pass, whatever_happens_meanwhile_the_target_has_what_the_source_had)
{
    const char *more = getenv("GW_SEEDS");
    uint32_t pages = 0;
    uint64_t compacted = 0;
    for (uint64_t seed = 1; seed <= (more ? strtoull(more, NULL, 10) : 40); seed++) {
        one_seed(seed, &compacted);
        pages += page_records;
    }
    cr_expect_gt(pages, 2000, "the pass was at work");
    cr_expect_gt(compacted, 100, "and compaction with it: %llu pages",
                 (unsigned long long)compacted);
}
