/* Goal: the rules of indirections (MIGRATION R11 to R17, index/indirection.h), each driven by hand,
 * and the sampling of hot records. Random sequences are in model/, races in torture/.
 * How: stores over devices in memory that know each other's pages. Nothing is resolved in the
 * background unless a test says so. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/indirection.h"
#include "index/store_internal.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define STORES    3u
#define PAGE_BITS 16u
#define PAGES     12u
#define TRIES     100000u
#define WAIT_NS   5000000000ull

static struct side {
    struct gw_store_options options;
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_ram_device *ram;
    struct gw_op op; /* the last one */
} side[STORES];
static struct side *const a = &side[0], *const b = &side[1], *const c = &side[2];
static uint8_t room[1 << 17];
static uint64_t fillers;

static void open_side(struct side *s, uint64_t pages, uint64_t index_max)
{
    s->ram = gw_ram_device_create(&(
        struct gw_ram_device_options){.page_bits = PAGE_BITS, .log_id = 50 + (uint64_t)(s - side)});
    s->options = (struct gw_store_options){.log_bytes = pages << PAGE_BITS,
                                           .index_bytes = 1 << 16,
                                           .index_bytes_max = index_max,
                                           .page_bits = PAGE_BITS,
                                           .hash_seed = 3,
                                           .threads_max = 2,
                                           .device = gw_ram_device_face(s->ram)};
    cr_assert_eq(gw_store_open(&s->options, &s->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(s->store, &s->thread), GW_OK);
    gw_store_resolve_rate(s->store, 0);
}

static void setup(void)
{
    for (uint32_t i = 0; i < STORES; i++)
        open_side(&side[i], PAGES, 0);
    for (uint32_t i = 0; i < STORES; i++)
        for (uint32_t k = 0; k < STORES; k++)
            if (i != k)
                gw_ram_device_know(side[i].ram, side[k].ram);
}

static void teardown(void)
{
    for (uint32_t i = 0; i < STORES; i++) {
        gw_store_thread_close(side[i].thread);
        gw_store_close(side[i].store);
    }
    for (uint32_t i = 0; i < STORES; i++)
        gw_ram_device_destroy(side[i].ram);
}

TestSuite(indirection, .init = setup, .fini = teardown, .timeout = 60);
TestSuite(sampling, .init = setup, .fini = teardown, .timeout = 60);

static void turn(struct side *s)
{
    uint64_t hashes[32];
    gw_store_poll(s->thread);
    while (gw_store_ready(s->thread, hashes, 32) != 0) {}
}

/* Executes s->op until it is answered. */
static enum gw_status drive(struct side *s)
{
    size_t used;
    gw_store_hash(s->store, &s->op);
    for (uint32_t n = 0; n < TRIES; n++) {
        gw_store_enter(s->thread);
        gw_store_execute(s->thread, &s->op, 1, room, sizeof room, &used);
        gw_store_exit(s->thread);
        turn(s);
        if (s->op.status != GW_RETRY && s->op.status != GW_PENDING && s->op.status != GW_E_FULL)
            break;
    }
    return s->op.status;
}

static void op(struct side *s, uint8_t verb, const char *key)
{
    s->op = (struct gw_op){.verb = verb,
                           .key = (const uint8_t *)key,
                           .key_bytes = (uint16_t)strlen(key)};
}

static void put(struct side *s, const char *key, const char *value)
{
    op(s, GW_VERB_UPSERT, key);
    s->op.value = (const uint8_t *)value;
    s->op.value_bytes = (uint32_t)strlen(value);
    cr_assert_eq(drive(s), GW_OK);
}

static enum gw_status del(struct side *s, const char *key)
{
    op(s, GW_VERB_DELETE, key);
    return drive(s);
}

/* The key's value as text; what the status says if there is none. */
static const char *get(struct side *s, const char *key)
{
    static char text[64];
    op(s, GW_VERB_READ, key);
    if (drive(s) != GW_OK)
        return gw_status_text(s->op.status);
    snprintf(text, sizeof text, "%.*s", (int)s->op.out_bytes, (const char *)s->op.out);
    return text;
}

#define IS(s, key, want)                                                                           \
    do {                                                                                           \
        const char *is = get(s, key);                                                              \
        cr_assert(strcmp(is, want) == 0, "%s is %s instead of %s", key, is, want);                 \
    } while (0)
#define ABSENT gw_status_text(GW_NOT_FOUND)

static struct gw_store_stats stats_of(const struct side *s)
{
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    return stats;
}

static struct gw_indirection_stats in_stats_of(const struct side *s)
{
    struct gw_indirection_stats stats;
    gw_store_indirection_stats(s->store, &stats);
    return stats;
}

/* Writes other keys until all that was there lies on the device and with the others. `churn`: over
 * and over the same ones, so that there is something to compact. */
static void push_out(struct side *s, uint32_t pages, bool churn)
{
    static const uint8_t value[4000];
    uint64_t tail = stats_of(s).log_tail;
    for (uint64_t i = 0; i < pages << PAGE_BITS; i += sizeof value) {
        char key[32];
        snprintf(key, sizeof key, "filler%lu",
                 (unsigned long)(churn ? fillers++ % 400 : fillers++));
        op(s, GW_VERB_UPSERT, key);
        s->op.value = value;
        s->op.value_bytes = sizeof value;
        cr_assert_eq(drive(s), GW_OK);
    }
    for (uint32_t n = 0; n < TRIES && stats_of(s).log_flushed < tail; n++)
        turn(s);
    gw_ram_device_share(s->ram, gw_addr_of(stats_of(s).log_flushed));
}

static void slot_of(struct side *s, const char *key, struct gw_slots *out)
{
    op(s, GW_VERB_READ, key);
    gw_store_hash(s->store, &s->op);
    gw_slots_clear(out);
    gw_slots_add(out, s->op.slot);
}

/* ---- hand-over of a tag's slot ---- */

struct handing {
    struct side *to;
    uint32_t records, links;
    bool only_links;
};

static bool arrives(void *ctx, const struct gw_record_view *view)
{
    struct handing *h = ctx;
    h->records++;
    if (h->only_links)
        return true;
    h->to->op = (struct gw_op){.verb = GW_VERB_ARRIVE,
                               .key = view->key,
                               .key_bytes = view->key_bytes,
                               .number = view->number,
                               .expected_version = view->version,
                               .value = view->value,
                               .value_bytes = view->value_bytes,
                               .flags = (view->kind == GW_KIND_COUNTER ? GW_OP_COUNTER : 0) |
                                        (view->tombstone ? GW_OP_TOMBSTONE : 0)};
    enum gw_status st = drive(h->to);
    cr_assert(st == GW_OK || st == GW_EXISTS);
    return true;
}

static bool comes(void *ctx, const struct gw_indirection *in)
{
    struct handing *h = ctx;
    enum gw_status st = GW_RETRY;
    for (uint32_t n = 0; n < TRIES && (st == GW_RETRY || st == GW_NOT_YET); n++) {
        gw_store_enter(h->to->thread);
        st = gw_store_link(h->to->thread, in);
        gw_store_exit(h->to->thread);
        turn(h->to);
    }
    cr_assert_eq(st, GW_OK);
    h->links++;
    return true;
}

/* What `from` has of the slot comes to `to`, cold parts as indirections. */
static struct handing hand(struct side *from, struct side *to, const struct gw_slots *slots,
                           uint64_t map_version)
{
    struct handing h = {.to = to};
    for (struct gw_cursor cursor = {0}; !cursor.done;) {
        gw_store_enter(from->thread);
        gw_store_walk_shared(from->thread, &cursor, UINT64_MAX, slots, map_version, 64, arrives,
                             comes, &h);
        gw_store_exit(from->thread);
        turn(from);
    }
    return h;
}

/* Resolves in the background until none stands and `s` needs nothing; false: not in time. */
static bool resolve(struct side *s)
{
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + WAIT_NS;
    gw_store_resolve_rate(s->store, 100);
    bool done = false;
    while (!done && gw_clock_now_ns(gw_clock_system()) < end) {
        turn(s);
        done = in_stats_of(s).live == 0 && gw_store_foreign(s->store, NULL, 0) == 0;
    }
    gw_store_resolve_rate(s->store, 0);
    return done;
}

/* ---- what is found ---- */

Test(indirection, what_was_written_here_is_never_hidden)
{
    struct gw_slots slots;
    put(a, "{x}1", "old");
    put(a, "{x}2", "old");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}", &slots);
    put(b, "{x}1", "new");
    struct handing h = hand(a, b, &slots, 5);
    cr_assert(h.links == 2 && h.records == 0, "%u links, %u records", h.links, h.records);
    IS(b, "{x}1", "new");
    put(b, "{x}2", "new"); /* blind, over the indirection */
    IS(b, "{x}2", "new");
    push_out(b, PAGES + 2, false);
    IS(b, "{x}1", "new");
    IS(b, "{x}2", "new");
    cr_assert(resolve(b));
    IS(b, "{x}1", "new");
    IS(b, "{x}2", "new");
}

/* An object store that is away holds up no blind write, whether the key is in the log of another or
 * what leads there cannot be read itself; all else is told. */
Test(indirection, a_blind_write_needs_no_log_that_is_away)
{
    struct gw_slots slots;
    for (uint32_t cold = 0; cold < 2; cold++) {
        const char *blind = cold ? "{y}1" : "{x}1", *adds = cold ? "{y}2" : "{x}2";
        put(a, blind, "old");
        put(a, adds, "old");
        push_out(a, PAGES + 2, false);
        slot_of(a, blind, &slots);
        struct handing h = hand(a, b, &slots, 5);
        cr_assert(h.links == 2 && h.records == 0, "%u links, %u records", h.links, h.records);
        if (cold)
            push_out(b, PAGES + 2, false);
        uint64_t foreign = gw_ram_device_foreign_reads(b->ram);
        gw_ram_device_lose(b->ram, gw_addr_of(stats_of(b).log_head), cold == 1);
        gw_ram_device_fail(b->ram, GW_RAM_READ, 0, UINT64_MAX, GW_E_UNREACHABLE);
        put(b, blind, "new");
        cr_expect_eq(gw_ram_device_foreign_reads(b->ram), foreign);
        IS(b, blind, "new");
        IS(b, adds, gw_status_text(GW_E_UNREACHABLE));
        cr_expect_eq(del(b, adds), GW_E_UNREACHABLE);
        gw_ram_device_fail(b->ram, GW_RAM_READ, 0, 0, GW_OK);
        gw_ram_device_lose(b->ram, gw_addr_of(0), false);
        IS(b, adds, "old");
        IS(b, blind, "new");
    }
    cr_assert(resolve(b));
    IS(b, "{x}1", "new");
    IS(b, "{y}1", "new");
    IS(b, "{y}2", "old");
}

Test(indirection, an_absent_key_is_absent_and_a_cold_one_is_found_and_changed)
{
    struct gw_slots slots;
    op(a, GW_VERB_ADD, "{x}sum");
    a->op.delta = 41;
    cr_assert_eq(drive(a), GW_OK);
    uint32_t version = a->op.version;
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}", &slots);
    hand(a, b, &slots, 5);
    IS(b, "{x}none", ABSENT);
    op(b, GW_VERB_ADD, "{x}sum");
    b->op.delta = 1;
    cr_assert_eq(drive(b), GW_OK);
    cr_assert_eq(b->op.number, 42, "%ld", (long)b->op.number);
    cr_assert_eq(b->op.version, version + 1);
    cr_assert(b->op.effect & GW_EFFECT_START, "it had arrived");
}

/* R16: in whatever order they came. */
Test(indirection, the_newest_map_version_is_followed_first)
{
    for (uint32_t order = 0; order < 2; order++) {
        const char *key = order ? "{y}k" : "{x}k";
        struct gw_slots slots;
        put(a, key, "first");
        put(c, key, "second");
        push_out(a, PAGES + 2, false);
        push_out(c, PAGES + 2, false);
        slot_of(a, key, &slots);
        if (order) {
            hand(c, b, &slots, 8);
            hand(a, b, &slots, 3);
        } else {
            hand(a, b, &slots, 3);
            hand(c, b, &slots, 8);
        }
        IS(b, key, "second");
    }
    cr_assert(resolve(b));
    IS(b, "{x}k", "second");
    IS(b, "{y}k", "second");
}

/* A to B to C and back to A; nobody has looked at the key meanwhile. */
Test(indirection, it_is_found_through_the_logs_of_all_former_owners)
{
    struct gw_slots slots;
    put(a, "{x}k", "value");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    struct side *way[] = {a, b, c, a};
    for (uint32_t i = 0; i < 3; i++) {
        if (i == 2) { /* it comes back: what is there goes first */
            uint64_t n = 0;
            struct gw_cursor cursor = {0};
            gw_store_enter(a->thread);
            gw_store_unlink(a->thread, &cursor, UINT64_MAX, &slots, UINT32_MAX, &n);
            gw_store_exit(a->thread);
            IS(a, "{x}k", ABSENT);
        }
        hand(way[i], way[i + 1], &slots, 10 + i);
        push_out(way[i + 1], PAGES + 2, false); /* the indirection itself goes cold */
    }
    IS(a, "{x}k", "value");
    IS(a, "{x}other", ABSENT);
}

/* ---- what is deleted ---- */

/* R13: compaction passes the tombstone while an indirection leads to an older record. */
Test(indirection, a_tombstone_stays_as_long_as_an_indirection_may_lead_to_the_key)
{
    struct gw_slots slots;
    put(a, "{x}k", "old");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    hand(a, b, &slots, 5);
    put(b, "{x}k", "new"); /* blind: what is behind stays unread */
    cr_assert_eq(del(b, "{x}k"), GW_OK);
    uint64_t tail = stats_of(b).log_tail;
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + 4 * WAIT_NS;
    gw_store_resolve_rate(b->store, 1); /* else nothing is compacted for thrift; it cannot: */
    gw_ram_device_delete(a->ram, gw_addr_of(UINT64_MAX));
    while (stats_of(b).log_begin < tail && gw_clock_now_ns(gw_clock_system()) < end) {
        push_out(b, PAGES / 2, true);
        for (uint32_t n = 0; n < 500; n++) /* compaction has a share of the time */
            turn(b);
    }
    struct gw_store_stats now = stats_of(b);
    cr_assert_geq(now.log_begin, tail,
                  "compaction did not come there: begin %lu, tombstone below %lu, tail %lu, live "
                  "%lu, compacted %lu, corrupt %lu",
                  (unsigned long)now.log_begin, (unsigned long)tail, (unsigned long)now.log_tail,
                  (unsigned long)now.live_bytes, (unsigned long)now.compacted_bytes,
                  (unsigned long)now.corrupt);
    IS(b, "{x}k", ABSENT);
    struct gw_indirection_stats in = in_stats_of(b);
    cr_assert(in.live == 1 && in.retired == 0, "%lu live, %lu retired, %lu resolved",
              (unsigned long)in.live, (unsigned long)in.retired, (unsigned long)in.resolved);
}

Test(indirection, a_delete_over_it_hides_what_is_behind)
{
    struct gw_slots slots;
    put(a, "{x}k", "old");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    hand(a, b, &slots, 5);
    cr_assert_eq(del(b, "{x}k"), GW_OK);
    cr_assert_eq(del(b, "{x}k"), GW_NOT_FOUND);
    push_out(b, PAGES + 2, false);
    IS(b, "{x}k", ABSENT);
    cr_assert(resolve(b));
    IS(b, "{x}k", ABSENT);
}

Test(indirection, unlinking_takes_indirections_away)
{
    struct gw_slots slots;
    uint64_t n = 0;
    struct gw_cursor cursor = {0};
    put(a, "{x}k", "old");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    hand(a, b, &slots, 5);
    gw_store_enter(b->thread);
    gw_store_unlink(b->thread, &cursor, UINT64_MAX, &slots, UINT32_MAX, &n);
    gw_store_exit(b->thread);
    cr_assert_eq(n, 1);
    IS(b, "{x}k", ABSENT);
    cr_assert_eq(in_stats_of(b).live, 0);
}

/* ---- resolving ---- */

/* R17: what is behind comes here, the need ends, and the origin may delete it. */
Test(indirection, is_retired_only_when_nothing_is_missing_and_then_nothing_is_needed)
{
    struct gw_slots slots;
    struct gw_foreign_need need[2];
    char key[32], value[32];
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "{x}%u", i);
        snprintf(value, sizeof value, "value %u", i);
        put(a, key, value);
    }
    uint64_t begin = stats_of(a).log_begin;
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}", &slots);
    struct handing h = hand(a, b, &slots, 5);
    cr_assert_eq(gw_store_foreign(b->store, need, 2), 1);
    cr_assert(need[0].log_id == 50 && need[0].lowest <= begin);
    gw_ram_device_hold(b->ram, GW_RAM_READ, true);
    gw_store_resolve_rate(b->store, 100);
    for (uint32_t n = 0; n < 3000; n++)
        turn(b);
    cr_assert_eq(in_stats_of(b).retired, 0, "nothing could be read");
    cr_assert_eq(gw_store_foreign(b->store, need, 2), 1);
    gw_ram_device_hold(b->ram, GW_RAM_READ, false);
    cr_assert(resolve(b));
    cr_assert_eq(in_stats_of(b).retired, h.links);
    cr_assert_eq(in_stats_of(b).resolved, 300);
    gw_ram_device_delete(a->ram, gw_addr_of(UINT64_MAX));
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "{x}%u", i);
        snprintf(value, sizeof value, "value %u", i);
        IS(b, key, value);
    }
}

/* A checkpoint that holds the indirection needs what it leads to, though it is retired since. */
Test(indirection, what_a_retained_image_holds_is_needed)
{
    struct gw_slots slots;
    struct gw_test_image older = {.words = NULL}, newer = {.words = NULL};
    struct gw_store *again;
    char why[256];
    gw_store_retain_all(b->store);
    put(a, "{x}k", "value");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    hand(a, b, &slots, 5);
    gw_test_image_take(&older, b->store, b->thread, 1);
    gw_store_retain(b->store, older.numbers.begin, older.numbers.end);
    gw_store_foreign_retained(b->store, older.numbers.end.v);
    cr_assert(!resolve(b), "the image needs it");
    cr_assert_eq(in_stats_of(b).live, 0);
    cr_assert_eq(gw_store_foreign(b->store, NULL, 0), 1);
    gw_test_image_take(&newer, b->store, b->thread, 2);
    gw_store_retain(b->store, newer.numbers.begin, newer.numbers.end);
    gw_store_foreign_retained(b->store, newer.numbers.end.v);
    cr_assert_eq(gw_store_foreign(b->store, NULL, 0), 0);
    /* Both images, as they are: the first one follows the indirection, the second needs not. */
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t mask = (UINT64_C(1) << PAGE_BITS) - 1;
        gw_addr resume = gw_addr_of((stats_of(b).log_tail | mask) + 1 + mask * i + i);
        gw_store_thread_close(b->thread);
        gw_store_close(b->store);
        if (i == 1)
            gw_ram_device_delete(a->ram, gw_addr_of(UINT64_MAX));
        cr_assert_eq(gw_test_recover(&b->options, i ? &newer : &older, NULL, resume, 1, NULL,
                                     &again, why),
                     GW_OK, "%s", why);
        b->store = again;
        cr_assert_eq(gw_store_thread_open(b->store, &b->thread), GW_OK);
        gw_store_resolve_rate(b->store, 0);
        cr_assert(i == 1 || gw_store_foreign(b->store, NULL, 0) == 1);
        IS(b, "{x}k", "value");
    }
    gw_test_image_free(&older);
    gw_test_image_free(&newer);
}

/* A newer record of ours that cannot be read is not replaced by an older one of another log. */
Test(indirection, nothing_older_takes_the_place_of_what_is_damaged)
{
    struct gw_slots slots;
    put(a, "{x}k", "old");
    push_out(a, PAGES + 2, false);
    slot_of(a, "{x}k", &slots);
    hand(a, b, &slots, 5);
    uint64_t tail = stats_of(b).log_tail;
    put(b, "{x}k", "new");
    push_out(b, PAGES + 2, false);
    IS(b, "{x}k", "new");
    struct gw_store_stats s = stats_of(b);
    cr_assert(s.log_head > tail && s.promoted == 0);
    for (uint64_t at = tail & ~UINT64_C(4095); at < tail + 4096; at += 4096)
        gw_ram_device_flip(b->ram, gw_addr_of(at), 5);
    gw_store_resolve_rate(b->store, 100);
    for (uint64_t end = gw_clock_now_ns(gw_clock_system()) + WAIT_NS / 10;
         gw_clock_now_ns(gw_clock_system()) < end;)
        turn(b);
    const char *is = get(b, "{x}k");
    cr_assert(strcmp(is, "old") != 0 && strcmp(is, ABSENT) != 0, "it is %s", is);
}

/* ---- an index that grows further than entries tell ---- */

#define MANY   200u
#define OTHERS 400000u
#define TAGS   12u /* of them: a slot has no more entries than there are chains in six doublings */

static void number_put(struct side *s, uint32_t i)
{
    char key[32];
    snprintf(key, sizeof key, "{%u}n%u", i % TAGS, i);
    op(s, GW_VERB_UPSERT, key);
    s->op.flags = GW_OP_COUNTER;
    s->op.number = i;
    cr_assert_eq(drive(s), GW_OK);
}

/* Those of the slot that came. */
static void numbers_check(struct side *s)
{
    for (uint32_t i = 1; i < OTHERS; i += TAGS) {
        char key[32];
        snprintf(key, sizeof key, "{1}n%u", i);
        op(s, GW_VERB_READ, key);
        cr_assert_eq(drive(s), GW_OK, "%s: %d", key, s->op.status);
        cr_assert_eq(s->op.number, i);
    }
}

static void many_check(struct side *s)
{
    for (uint32_t i = 0; i < MANY; i++) {
        char key[32], value[32];
        snprintf(key, sizeof key, "{1}%u", i);
        snprintf(value, sizeof value, "value %u", i);
        IS(s, key, value);
    }
}

/* Beyond six doublings a chain is split by what its records say, an indirection goes into both
 * halves, and each half has it retired for itself. A log that is replayed puts nothing of one half
 * over what is newer in the other. */
Test(indirection, is_met_in_every_chain_that_it_covers_however_far_the_index_grows)
{
    struct gw_slots slots;
    struct gw_test_image image = {.words = NULL};
    char key[32], value[32], why[256];
    gw_store_thread_close(b->thread);
    gw_store_close(b->store);
    gw_ram_device_destroy(b->ram);
    open_side(b, 400, 1 << 23);
    gw_ram_device_know(b->ram, a->ram);
    gw_store_retain_all(b->store);
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "{1}%u", i);
        snprintf(value, sizeof value, "value %u", i);
        put(a, key, value);
    }
    push_out(a, PAGES + 2, false);
    slot_of(a, "{1}", &slots);
    hand(a, b, &slots, 5);
    for (uint32_t i = 0; i < OTHERS; i++)
        number_put(b, i);
    for (uint32_t n = 0; n < TRIES; n++)
        turn(b);
    struct gw_store_stats s = stats_of(b);
    cr_assert_gt(s.index_buckets, 512u << 6, "%lu buckets", (unsigned long)s.index_buckets);
    numbers_check(b);
    for (uint32_t i = 0; i < MANY; i += 2) { /* half of them by look-ups */
        snprintf(key, sizeof key, "{1}%u", i);
        snprintf(value, sizeof value, "value %u", i);
        IS(b, key, value);
    }
    gw_store_resolve_rate(b->store, 100);
    for (uint64_t end = gw_clock_now_ns(gw_clock_system()) + WAIT_NS;
         gw_store_foreign(b->store, NULL, 0) != 0 && gw_clock_now_ns(gw_clock_system()) < end;)
        turn(b);
    many_check(b);
    gw_test_image_take(&image, b->store, b->thread, 1);
    uint64_t mask = (UINT64_C(1) << PAGE_BITS) - 1;
    gw_addr resume = gw_addr_of((stats_of(b).log_tail | mask) + 1);
    gw_store_thread_close(b->thread);
    gw_store_close(b->store);
    cr_assert_eq(gw_test_recover(&b->options, &image, NULL, resume, 1, NULL, &b->store, why), GW_OK,
                 "%s", why);
    cr_assert_eq(gw_store_thread_open(b->store, &b->thread), GW_OK);
    many_check(b);
    numbers_check(b);
    gw_test_image_free(&image);
}

/* ---- sampling ---- */

struct visited {
    uint32_t count, limit;
    uint64_t bytes;
    bool key[200];
};

static bool visits(void *ctx, const struct gw_record_view *view)
{
    struct visited *v = ctx;
    char text[32];
    snprintf(text, sizeof text, "%.*s", view->key_bytes, (const char *)view->key);
    v->count++;
    v->bytes += view->key_bytes + view->value_bytes;
    cr_assert_eq(memcmp(text, "{x}", 3), 0, "%s is visited", text);
    v->key[atoi(text + 3)] = true;
    return true;
}

static struct visited sampled(struct side *s, const struct gw_slots *slots, uint64_t bytes)
{
    struct visited v = {0};
    for (uint64_t at = 0; at != UINT64_MAX;) {
        gw_store_enter(s->thread);
        gw_store_walk_sampled(s->thread, &at, slots, bytes, visits, &v);
        gw_store_exit(s->thread);
    }
    return v;
}

static void hundred(struct side *s, const char *tag)
{
    char key[32];
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%s%u", tag, i);
        put(s, key, "a value of some length");
    }
}

/* Of what lies in memory and of what lies on the device. */
Test(sampling, what_is_read_or_written_of_the_slots_is_visited_and_nothing_else)
{
    struct gw_slots slots;
    for (uint32_t cold = 0; cold < 2; cold++) {
        hundred(a, "{x}");
        hundred(a, "{y}");
        if (cold)
            push_out(a, PAGES + 2, false);
        slot_of(a, "{x}", &slots);
        gw_store_sample(a->store, &slots);
        for (uint32_t n = 0; n < 3; n++) {
            IS(a, "{x}3", "a value of some length");
            IS(a, "{y}3", "a value of some length");
        }
        op(a, GW_VERB_APPEND, "{x}40");
        a->op.value = (const uint8_t *)"!";
        a->op.value_bytes = 1;
        cr_assert_eq(drive(a), GW_OK);
        put(a, "{x}150", "new");
        put(a, "{y}40", "changed");
        struct visited v = sampled(a, &slots, UINT64_MAX);
        cr_assert(v.count == 3 && v.key[3] && v.key[40] && v.key[150], "%u, cold %u", v.count,
                  cold);
        gw_store_sample(a->store, NULL);
        cr_assert_eq(sampled(a, &slots, UINT64_MAX).count, 3, "it is visited behind the end too");
    }
}

Test(sampling, a_record_is_copied_once_and_only_of_the_slots)
{
    struct gw_slots slots;
    hundred(a, "{x}");
    hundred(a, "{y}");
    slot_of(a, "{x}", &slots);
    gw_store_sample(a->store, &slots);
    uint64_t tail = stats_of(a).log_tail;
    for (uint32_t i = 0; i < 50; i++) {
        IS(a, "{y}7", "a value of some length");
        put(a, "{y}8", "in place, as long as it"); /* capacity is there */
    }
    uint64_t others = stats_of(a).log_tail - tail;
    cr_assert_leq(others, 128, "%lu bytes for slots that are not sampled", (unsigned long)others);
    tail = stats_of(a).log_tail;
    for (uint32_t i = 0; i < 50; i++)
        IS(a, "{x}7", "a value of some length");
    uint64_t own = stats_of(a).log_tail - tail;
    cr_assert(own > 0 && own <= 64, "%lu bytes", (unsigned long)own);
    gw_store_sample(a->store, NULL);
    tail = stats_of(a).log_tail;
    IS(a, "{x}9", "a value of some length");
    cr_assert_eq(stats_of(a).log_tail, tail, "nothing is copied any more");
}

Test(sampling, visiting_is_bounded_by_bytes)
{
    struct gw_slots slots;
    hundred(a, "{x}");
    slot_of(a, "{x}", &slots);
    gw_store_sample(a->store, &slots);
    for (uint32_t i = 0; i < 100; i++) {
        char key[32];
        snprintf(key, sizeof key, "{x}%u", i);
        IS(a, key, "a value of some length");
    }
    gw_store_sample(a->store, NULL);
    struct visited all = sampled(a, &slots, UINT64_MAX), some = sampled(a, &slots, 1000);
    cr_assert_eq(all.count, 100);
    cr_assert(some.count >= 10 && some.bytes <= 1000, "%u records, %lu bytes", some.count,
              (unsigned long)some.bytes);
}
