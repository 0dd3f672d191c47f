/* Goal: compaction loses nothing, brings nothing back, and gives back what is dead: memory only,
 * and in cache mode. With a device: test_compact_device.c; with threads: torture/index_compact.c.
 * How: seeded churn on tiny pages against a plain map, with compaction in every turn. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compact_world.h"
#include "index/base/clock.h"
#include "index/base/hash.h"
#include "index/base/rand.h"
#include "index/compact_internal.h"

static void churn(struct world *w, uint64_t bytes)
{
    uint64_t until = w->written + bytes;
    while (w->written < until) {
        uint32_t i = (uint32_t)gw_rand_below(&w->rand, w->keys);
        uint64_t draw = gw_rand_below(&w->rand, 10);
        if (draw < 7)
            cr_assert_eq(world_put(w, i, (uint32_t)gw_rand_below(&w->rand, w->value_max)), GW_OK);
        else if (draw < 8)
            world_delete(w, i);
        else
            world_check(w, i);
    }
}

Test(compact, memory_of_replaced_and_deleted_records_is_given_back)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 2000, .value_max = 600});
    uint64_t log_bytes = 32u << 16;
    churn(&w, 12 * log_bytes);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.log_begin, 8 * log_bytes);
    cr_expect_gt(stats.compacted_bytes, 8 * log_bytes);
    cr_expect_eq(stats.refused_full, 0);
    cr_expect_eq(stats.keys, world_live(&w));
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w));
    cr_expect_eq(stats.evicted, 0);
    world_close(&w);
}

/* Few slots and a small index: most chains hold several keys, so entries seldom lead to the record
 * that is asked about. */
Test(compact, chains_of_several_keys_lose_nothing)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32,
                                           .keys = 3000,
                                           .value_max = 300,
                                           .index_bytes = 65536,
                                           .one_slot = true});
    churn(&w, (uint64_t)24 << 20);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(gwi_chains_count(w.f.store->chains), 100);
    cr_expect_gt(stats.compacted_bytes, (uint64_t)4 << 20);
    cr_expect_eq(stats.keys, world_live(&w));
    /* A tombstone that was left behind in a chain of several keys is counted off, but still found
     * until begin has passed it; written again until then it is counted off twice. */
    int64_t drift = (int64_t)stats.live_bytes - (int64_t)world_live_bytes(&w);
    cr_expect(drift <= 0 && drift > -(int64_t)stats.live_bytes / 100, "%ld", (long)drift);
    world_close(&w);
}

/* Beyond six doublings an entry says no more to which child it goes, and both may have it: the
 * names of mixed chains are coarser than the chains then, and some entries lead to foreign records.
 */
Test(compact, a_table_that_has_grown_beyond_its_six_bits_loses_nothing)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 400,
                                           .keys = 250000,
                                           .value_max = 24,
                                           .index_bytes = 65536,
                                           .index_bytes_max = 8u << 20});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 8 + i % 16), GW_OK, "%u", i);
    struct gw_store_stats stats;
    for (uint32_t n = 0; n < 400000; n++) {
        uint32_t i = (uint32_t)gw_rand_below(&w.rand, w.keys);
        if (n % 8 == 0)
            world_delete(&w, i);
        else
            cr_assert_eq(world_put(&w, i, (uint32_t)gw_rand_below(&w.rand, 100)), GW_OK);
    }
    gw_store_stats(w.f.store, &stats);
    cr_expect_geq(stats.index_buckets, 512u << 6);
    cr_expect_gt(stats.compacted_bytes, 10u << 20);
    cr_expect_eq(stats.keys, world_live(&w));
    world_check_all(&w);
    world_close(&w);
}

Test(compact, values_of_most_of_a_page_move_too)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 24, .value_max = 40000});
    churn(&w, (uint64_t)40 << 20);
    world_check_all(&w);
    world_close(&w);
}

Test(compact, a_full_store_refuses_writes_without_going_in_circles_and_recovers)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 20000, .value_max = 400});
    uint32_t n = 0;
    while (n < w.keys && world_put(&w, n, 300) == GW_OK)
        n++;
    cr_assert_lt(n, w.keys, "never full");
    struct gw_store_stats before, after;
    gw_store_stats(w.f.store, &before);
    cr_expect_gt(before.refused_full, 0);
    for (uint32_t i = 0; i < 2000; i++)
        gw_store_poll(w.f.thread);
    cr_expect_eq(world_put(&w, n, 300), GW_E_FULL);
    gw_store_stats(w.f.store, &after);
    cr_expect_lt(after.compacted_bytes, before.compacted_bytes + (2u << 16), "nothing to gain");
    world_check_all(&w); /* reads go on */
    for (uint32_t i = 0; i < n; i += 3)
        cr_assert_eq(world_delete(&w, i), GW_OK, "a delete of a full store");
    for (uint32_t i = 0; i < n / 4; i++)
        cr_assert_eq(world_put(&w, i * 3, 250), GW_OK, "%u", i);
    world_check_all(&w);
    gw_store_stats(w.f.store, &after);
    cr_expect_eq(after.keys, world_live(&w));
    world_close(&w);
}

static uint64_t fake_ms;

static uint64_t fake_now_ns(void *ctx)
{
    (void)ctx;
    return fake_ms * 1000000;
}
static uint64_t fake_wall_ms(void *ctx)
{
    (void)ctx;
    return fake_ms;
}
static const struct gw_clock fake_clock = {fake_now_ns, fake_wall_ms, NULL};

/* Nothing says that a record has expired but the clock: the store has to look. */
Test(compact, a_store_full_of_expired_records_takes_writes_again)
{
    struct world w;
    fake_ms = 1000;
    world_open(&w, &(struct world_options){
                       .pages = 32, .keys = 40000, .value_max = 400, .clock = &fake_clock});
    w.expiry_ms = 5000;
    uint32_t n = 0;
    while (n < w.keys && world_put(&w, n, 300) == GW_OK)
        n++;
    cr_assert_lt(n, w.keys, "never full");
    fake_ms = 4999;
    cr_expect_eq(world_put(&w, n, 300), GW_E_FULL, "not yet");
    fake_ms = 6000;
    memset(w.entry, 0, w.keys * sizeof *w.entry);
    w.expiry_ms = 0;
    enum gw_status st = GW_E_FULL;
    for (uint32_t i = 0; i < 1000000 && st == GW_E_FULL; i++)
        st = world_put(&w, n, 300);
    cr_assert_eq(st, GW_OK, "%d", st);
    for (uint32_t i = 0; i < n / 2; i++)
        cr_assert_eq(world_put(&w, n + i, 300), GW_OK, "%u", i);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.expired, n / 3);
    cr_expect_eq(stats.keys, world_live(&w) + n - stats.expired);
    world_close(&w);
}

/* Keys that are written once and expire: what the log takes follows what is live. */
Test(compact, a_stream_of_expiring_keys_does_not_fill_the_log)
{
    struct world w;
    fake_ms = 1000;
    world_open(&w, &(struct world_options){
                       .pages = 32, .keys = 60000, .value_max = 400, .clock = &fake_clock});
    for (uint32_t i = 0; i < w.keys; i++) {
        fake_ms = 1000 + i;
        w.expiry_ms = fake_ms + 1000;
        enum gw_status st = GW_E_FULL;
        for (uint32_t turn = 0; turn < 100000 && st == GW_E_FULL; turn++)
            st = world_put(&w, i, 300);
        cr_assert_eq(st, GW_OK, "%u", i);
        if (i >= 1100)
            w.entry[i - 1100].live = false;
    }
    for (uint32_t i = 0; i < w.keys; i++)
        if (i < w.keys - 1100 || i > w.keys - 900)
            world_check(&w, i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.expired, w.keys / 2);
    world_close(&w);
}

Test(compact, everything_can_be_deleted_and_written_again)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 3000, .value_max = 200});
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < w.keys; i++)
            cr_assert_eq(world_put(&w, i, 100), GW_OK, "round %u, key %u", round, i);
        for (uint32_t i = 0; i < w.keys; i++)
            cr_assert_eq(world_delete(&w, i), GW_OK, "round %u, key %u", round, i);
    }
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.keys, 0);
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w), "tombstones");
    world_close(&w);
}

Test(compact, cache_mode_drops_the_oldest_and_counts_them)
{
    struct world w;
    world_open(
        &w, &(struct world_options){.pages = 16, .keys = 100000, .value_max = 200, .evict = true});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 100), GW_OK, "%u", i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.refused_full, 0);
    cr_expect_gt(stats.evicted, w.keys / 2);
    cr_expect_eq(stats.keys + stats.evicted, w.keys);
    uint32_t found = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        found += world_may_be_gone(&w, i);
    cr_expect_gt(found, 3000);
    cr_expect(world_may_be_gone(&w, w.keys - 1), "the newest");
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w));
    world_close(&w);
}

/* What fits is not dropped because of what was replaced. */
Test(compact, cache_mode_keeps_what_fits_through_overwrites)
{
    struct world w;
    world_open(&w,
               &(struct world_options){.pages = 32, .keys = 2000, .value_max = 300, .evict = true});
    churn(&w, (uint64_t)24 << 20);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.evicted, 0);
    cr_expect_eq(stats.keys, world_live(&w));
    world_close(&w);
}

Test(compact, cache_mode_drops_from_chains_of_several_keys)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16,
                                           .keys = 30000,
                                           .value_max = 200,
                                           .evict = true,
                                           .one_slot = true,
                                           .index_bytes = 1 << 18});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 100), GW_OK, "%u", i);
    uint32_t found = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        found += world_may_be_gone(&w, i);
    cr_expect_gt(found, 2000);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.keys + stats.evicted, w.keys);
    world_close(&w);
}

/* ---- ENGINE H17: tombstones ---- */

/* Writes and deletes `key`, then as much as makes compaction pass it. */
static void bury(struct world *w, uint32_t key)
{
    cr_assert_eq(world_put(w, key, 40), GW_OK);
    cr_assert_eq(world_delete(w, key), GW_OK);
    uint64_t tail = gw_log_tail(w->f.store->log).v;
    struct gw_store_stats stats;
    do {
        uint32_t other = 1 + (uint32_t)gw_rand_below(&w->rand, w->keys - 1);
        cr_assert_eq(world_put(w, other, (uint32_t)gw_rand_below(&w->rand, w->value_max)), GW_OK);
        gw_store_stats(w->f.store, &stats);
    } while (stats.log_begin <= tail);
}

static enum gw_status fetch_key(struct world *w, const char *key)
{
    op(&w->f, GW_VERB_FETCH, key, 0);
    return run(&w->f);
}

Test(holes, h17_a_tombstone_goes_when_it_is_the_newest_of_the_oldest_page)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 500, .value_max = 400});
    bury(&w, 0);
    cr_expect_eq(fetch_key(&w, "key 0"), GW_NOT_FOUND, "dropped, and nothing rose behind it");
    world_check_all(&w);
    world_close(&w);
}

/* A CAS that was prepared in an earlier life of the key must not succeed in the next one. */
Test(compact, a_key_that_comes_back_begins_above_its_earlier_versions)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 500, .value_max = 400});
    uint32_t before = 0;
    for (uint32_t life = 0; life < 3; life++) {
        for (uint32_t i = 0; i < 100000; i++) /* in place: versions rise, addresses do not */
            cr_assert_eq(world_put(&w, 0, 40), GW_OK);
        bury(&w, 0);
        cr_assert_eq(fetch_key(&w, "key 0"), GW_NOT_FOUND);
        op(&w.f, GW_VERB_UPSERT, "key 0", 0);
        w.f.op.value = (const uint8_t *)"x";
        w.f.op.value_bytes = 1;
        cr_assert_eq(run(&w.f), GW_OK);
        cr_expect_gt(w.f.op.version, before + 100000, "life %u", life);
        before = w.f.op.version;
    }
    world_close(&w);
}

Test(holes, h17_a_tombstone_stays_while_older_records_of_its_slot_may_arrive)
{
    struct world w;
    struct gw_slots slots;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 500, .value_max = 400});
    gw_slots_clear(&slots);
    gw_slots_add(&slots, gw_key_slot("key 0", 5));
    gw_store_keep_tombstones(w.f.store, &slots);
    bury(&w, 0);
    cr_expect_eq(fetch_key(&w, "key 0"), GW_TOMBSTONE, "kept through compaction");
    uint32_t version = w.f.op.version;
    op(&w.f, GW_VERB_ARRIVE, "key 0", 0);
    w.f.op.value = (const uint8_t *)"old";
    w.f.op.value_bytes = 3;
    w.f.op.expected_version = 1;
    cr_expect_eq(run(&w.f), GW_EXISTS, "the deleted key would rise");
    cr_expect_eq(get(&w.f, "key 0"), GW_NOT_FOUND);
    gw_store_keep_tombstones(w.f.store, NULL);
    cr_expect_eq(fetch_key(&w, "key 0"), GW_TOMBSTONE);
    cr_expect_eq(w.f.op.version, version, "copied as it was");
    world_check_all(&w);
    world_close(&w);
}

/* Other keys of the chain are live and older than the tombstone: they are copied before it goes. */
Test(holes, h17_a_tombstone_in_a_chain_of_several_keys_uncovers_nothing)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16,
                                           .keys = 800,
                                           .value_max = 300,
                                           .index_bytes = 65536,
                                           .one_slot = true});
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < w.keys; i++)
            cr_assert_eq(world_put(&w, i, 100), GW_OK);
        for (uint32_t i = round; i < w.keys; i += 3)
            cr_assert_eq(world_delete(&w, i), GW_OK);
        churn(&w, 4u << 20);
        world_check_all(&w);
    }
    world_close(&w);
}

/* ---- ENGINE H18: compaction inserts conditionally ---- */

static enum gwi_walk find_key(struct world *w, const char *key, struct gwi_position *position)
{
    enum gw_status why;
    op(&w->f, GW_VERB_READ, key, 0);
    gw_store_hash(w->f.store, &w->f.op);
    return gwi_find(w->f.thread, &w->f.op, position, &why);
}

/* A copy of the record that `key` had before `change`, published with the entry seen then. */
static void late_copy(void (*change)(struct fixture *f), enum gw_status answer)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 10, .value_max = 400});
    put(&w.f, "key", "old");
    cr_assert_eq(gw_store_shift_read_only(w.f.store), GW_OK);
    for (int i = 0; i < 4; i++)
        gw_store_poll(w.f.thread);
    struct gwi_position seen;
    gw_store_enter(w.f.thread);
    cr_assert_eq(find_key(&w, "key", &seen), GWI_FOUND);
    uint64_t hash = w.f.op.hash;
    gw_store_exit(w.f.thread);
    change(&w.f);
    gw_store_enter(w.f.thread);
    cr_expect_eq(gwi_copy_to_tail(w.f.thread, &seen, hash, true), GW_RETRY, "an old value is back");
    gw_store_exit(w.f.thread);
    cr_expect_eq(get(&w.f, "key"), answer);
    world_close(&w);
}

static void overwrite(struct fixture *f)
{
    put(f, "key", "a new value that is longer");
}
static void delete (struct fixture *f)
{
    del(f, "key");
}

Test(holes, h18_a_copy_does_not_undo_an_overwrite)
{
    late_copy(overwrite, GW_OK);
}

Test(holes, h18_a_copy_does_not_undo_a_delete)
{
    late_copy(delete, GW_NOT_FOUND);
}

Test(holes, h18_a_copy_keeps_version_expiry_and_arrived)
{
    struct world w;
    fake_ms = 1000;
    world_open(&w, &(struct world_options){
                       .pages = 16, .keys = 500, .value_max = 400, .clock = &fake_clock});
    op(&w.f, GW_VERB_ARRIVE, "arrived", GW_OP_HAS_EXPIRY);
    w.f.op.value = (const uint8_t *)"value";
    w.f.op.value_bytes = 5;
    w.f.op.expected_version = 77;
    w.f.op.expiry_ms = 9000;
    cr_assert_eq(run(&w.f), GW_OK);
    bury(&w, 0); /* compaction has passed it */
    struct gwi_position position;
    gw_store_enter(w.f.thread);
    cr_assert_eq(find_key(&w, "arrived", &position), GWI_FOUND);
    uint64_t control = atomic_load(&position.record->control);
    cr_expect(control & GW_CONTROL_ARRIVED);
    cr_expect_eq(gw_control_version(control), 77);
    cr_expect_eq(gw_record_expiry(position.record, control), 9000);
    gw_store_exit(w.f.thread);
    cr_assert_eq(get(&w.f, "arrived"), GW_OK);
    cr_expect_arr_eq(w.f.op.out, "value", 5);
    world_close(&w);
}

/* ---- ENGINE H11: what was replaced while it could change is known dead by its seal ---- */

Test(holes, h11_a_sealed_record_is_dead_without_a_look_at_the_index)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 10, .value_max = 400});
    put(&w.f, "key", "old");
    struct gwi_position old, now;
    gw_store_enter(w.f.thread);
    cr_assert_eq(find_key(&w, "key", &old), GWI_FOUND);
    gw_store_exit(w.f.thread);
    overwrite(&w.f); /* by copy: too long for its place */
    gw_store_enter(w.f.thread);
    cr_assert_eq(find_key(&w, "key", &now), GWI_FOUND);
    cr_expect_neq(now.address.v, old.address.v);
    cr_expect(atomic_load(&old.record->control) & GW_CONTROL_SEALED);
    uint64_t control = atomic_load(&now.record->control);
    cr_expect_not(control & GW_CONTROL_SEALED);
    gw_store_exit(w.f.thread);
    cr_assert_eq(gw_store_shift_read_only(w.f.store), GW_OK);
    for (int i = 0; i < 4; i++)
        gw_store_poll(w.f.thread);
    /* By hand: the index says that it is live, the seal that it is dead. */
    gw_store_enter(w.f.thread);
    struct gwi_compact_job job = {.open = true};
    struct gwi_met met = {now.record, now.address, w.f.op.hash, w.f.op.slot};
    cr_assert(gw_record_seal(now.record, control));
    uint64_t tail = gw_log_tail(w.f.store->log).v;
    cr_expect_eq(gwi_compact_settle(w.f.thread, &job, &met), GWI_SETTLED);
    cr_expect_eq(gw_log_tail(w.f.store->log).v, tail, "no copy");
    gw_record_unseal(now.record, control | GW_CONTROL_SEALED);
    cr_expect_eq(gwi_compact_settle(w.f.thread, &job, &met), GWI_SETTLED);
    cr_expect_gt(gw_log_tail(w.f.store->log).v, tail, "a copy");
    gw_store_exit(w.f.thread);
    world_close(&w);
}

/* ---- ENGINE H14: entries below begin go before their 42 bits come round ---- */

Test(holes, h14_entries_below_begin_are_swept)
{
    struct world w;
    world_open(&w,
               &(struct world_options){
                   .pages = 16, .keys = 60000, .value_max = 200, .evict = true, .one_slot = true});
    struct gwi_compactor *c = w.f.store->compactor;
    atomic_store(&c->sweep_every, 4u << 16);
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 100), GW_OK);
    for (uint32_t i = 0; i < 10000; i++)
        gw_store_poll(w.f.thread);
    uint64_t below = atomic_load(&c->sweep_from), entries = 0;
    cr_expect_gt(below, 64u << 16, "swept many times");
    struct gw_thread *t = w.f.thread;
    gw_store_enter(t);
    struct gw_table_chain bucket = {.last = 0};
    for (uint64_t hash = 0;; hash = bucket.last + 1) {
        uint64_t e;
        gw_table_chain_open(t->table, hash, &bucket);
        while (gw_table_chain_next(&bucket, &e)) {
            entries++;
            cr_assert_geq(gw_addr_widen(gw_entry_narrow(e), t->view.reference).v, below);
        }
        if (bucket.last == UINT64_MAX)
            break;
    }
    gw_store_exit(t);
    cr_expect_gt(entries, 1000);
    for (uint32_t i = 0; i < w.keys; i++)
        world_may_be_gone(&w, i);
    world_close(&w);
}

/* Small live records make a page take many turns, and in each of them users write as much as a
 * whole page holds. */
Test(compact, users_do_not_fill_the_pages_that_compaction_has_opened, .timeout = 60)
{
    enum { OPS = 256, COUNTERS = 250000 };
    static struct gw_op ops[OPS];
    static uint64_t keys[OPS];
    static uint8_t value[4096], room[64];
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 16 << 20,
                                                .page_bits = 20,
                                                .index_bytes = 16 << 20});
    uint64_t counter = OPS, last = gw_clock_now_ns(gw_clock_system());
    for (uint32_t round = 0; round < 2500;) {
        for (uint32_t i = 0; i < OPS; i++) {
            bool big = i % 32 == 0 || counter > COUNTERS;
            keys[i] = big ? i : counter++;
            ops[i] = (struct gw_op){.verb = GW_VERB_UPSERT,
                                    .flags = big ? 0 : GW_OP_COUNTER,
                                    .key = (const uint8_t *)&keys[i],
                                    .key_bytes = 8,
                                    .value = value,
                                    .value_bytes = round % 2 ? 3000 : 3900};
            gw_store_hash(f.store, &ops[i]);
        }
        size_t used;
        gw_store_poll(f.thread);
        gw_store_enter(f.thread);
        gw_store_execute(f.thread, ops, OPS, room, sizeof room, &used);
        gw_store_exit(f.thread);
        uint32_t good = 0;
        for (uint32_t i = 0; i < OPS; i++)
            good += ops[i].status == GW_OK;
        uint64_t now = gw_clock_now_ns(gw_clock_system());
        if (good)
            last = now;
        cr_assert_lt(now - last, 5000000000u, "round %u: nothing goes on any more", round);
        round += good != 0;
    }
    fixture_close(&f);
}
