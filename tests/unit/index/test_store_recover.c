/* Goal: a store that goes on from an image has what the image had and nothing else, refuses what
 * does not fit or is damaged and says why, and works on over the gap that the restart has left.
 * How: small stores on a device in memory, which outlives them; one thread by hand. Random
 * workloads over many generations: model/test_store_recover.c. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/store_internal.h"
#include "index/table_internal.h"
#include "index/table_snapshot.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS 16u
#define SEGMENT   ((uint64_t)4 << PAGE_BITS)
#define VALUE_MAX 400u

struct fixture {
    struct gw_ram_device *ram;
    struct gw_store_options options;
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_op op;
    uint8_t room[4096];
    char key[32], why[256];
    uint64_t number;
};

static void fixture_open(struct fixture *f, uint64_t limit_bytes)
{
    memset(f, 0, sizeof *f);
    f->ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                                  .segment_bytes = SEGMENT,
                                                                  .limit_bytes = limit_bytes});
    f->options = (struct gw_store_options){.log_bytes = (uint64_t)12 << PAGE_BITS,
                                           .index_bytes = 1 << 16,
                                           .index_bytes_max = 1 << 19,
                                           .page_bits = PAGE_BITS,
                                           .threads_max = 4,
                                           .hash_seed = 99,
                                           .device = gw_ram_device_face(f->ram)};
    cr_assert_eq(gw_store_open(&f->options, &f->store), GW_OK);
    gw_store_retain_all(f->store);
    cr_assert_eq(gw_store_thread_open(f->store, &f->thread), GW_OK);
}

static void store_close(struct fixture *f)
{
    if (f->thread)
        gw_store_thread_close(f->thread);
    gw_store_close(f->store);
    f->thread = NULL;
    f->store = NULL;
}

static void fixture_close(struct fixture *f)
{
    store_close(f);
    gw_ram_device_destroy(f->ram);
}

static gw_addr resume_of(const struct fixture *f)
{
    return gw_addr_of((gw_log_tail(f->store->log).v / SEGMENT + 1) * SEGMENT);
}

static void thread_open(struct fixture *f)
{
    cr_assert_eq(gw_store_thread_open(f->store, &f->thread), GW_OK);
}

/* The old store ends as a process does, and a new one goes on from the image. */
static enum gw_status restart(struct fixture *f, const struct gw_test_image *image,
                              struct gw_test_snapshot *snapshot, const struct gw_slots *drop)
{
    gw_addr resume = resume_of(f);
    store_close(f);
    enum gw_status st =
        gw_test_recover(&f->options, image, snapshot, resume, 2, drop, &f->store, f->why);
    if (st == GW_OK) {
        gw_store_retain_all(f->store);
        gw_store_retain(f->store, image->numbers.begin, image->numbers.end);
        thread_open(f);
    }
    return st;
}

static enum gw_status run(struct fixture *f)
{
    gw_store_hash(f->store, &f->op);
    struct gw_op op = f->op;
    for (uint32_t turns = 0; turns < 100000; turns++) {
        size_t used;
        uint64_t hashes[8];
        gw_store_poll(f->thread);
        while (gw_store_ready(f->thread, hashes, 8) != 0) {}
        f->op = op;
        gw_store_enter(f->thread);
        gw_store_execute(f->thread, &f->op, 1, f->room, sizeof f->room, &used);
        gw_store_exit(f->thread);
        if (f->op.status != GW_RETRY && f->op.status != GW_PENDING)
            return (enum gw_status)f->op.status;
    }
    return GW_PENDING;
}

static void verb(struct fixture *f, uint8_t verb, uint32_t key)
{
    int n = snprintf(f->key, sizeof f->key, key % 7 == 0 ? "{one}%u" : "key %u", key);
    f->op = (struct gw_op){.verb = verb, .key = (const uint8_t *)f->key, .key_bytes = (uint16_t)n};
}

/* Values are a function of key and generation; so long that a page holds some hundred. */
static void put(struct fixture *f, uint32_t key, uint32_t generation)
{
    uint8_t value[VALUE_MAX];
    uint32_t bytes = (key * 31 + generation * 7) % VALUE_MAX;
    memset(value, (int)(key + generation), bytes);
    verb(f, GW_VERB_UPSERT, key);
    f->op.value = value;
    f->op.value_bytes = bytes;
    enum gw_status st = run(f);
    cr_assert_eq(st, GW_OK, "key %u: %d", key, st);
}

static void del(struct fixture *f, uint32_t key)
{
    verb(f, GW_VERB_DELETE, key);
    cr_assert_eq(run(f), GW_OK, "key %u", key);
}

static void is_there(struct fixture *f, uint32_t key, uint32_t generation)
{
    verb(f, GW_VERB_READ, key);
    cr_assert_eq(run(f), GW_OK, "key %u: %d", key, f->op.status);
    uint32_t bytes = (key * 31 + generation * 7) % VALUE_MAX;
    cr_assert_eq(f->op.out_bytes, bytes, "key %u", key);
    for (uint32_t i = 0; i < bytes; i++)
        cr_assert_eq(f->op.out[i], (uint8_t)(key + generation), "key %u", key);
}

static void is_gone(struct fixture *f, uint32_t key)
{
    verb(f, GW_VERB_READ, key);
    cr_assert_eq(run(f), GW_NOT_FOUND, "key %u: %d", key, f->op.status);
}

static void take(struct fixture *f, struct gw_test_image *image)
{
    gw_test_image_take(image, f->store, f->thread, ++f->number);
    gw_store_retain(f->store, image->numbers.begin, image->numbers.end);
}

static void checkpoint(struct fixture *f)
{
    struct gw_test_image image;
    take(f, &image);
    gw_test_image_free(&image);
}

/* As put, with checkpoints when they are wanted, as a server takes them. */
static void churn(struct fixture *f, uint32_t key, uint32_t generation)
{
    if (gw_store_wants_checkpoint(f->store))
        checkpoint(f);
    put(f, key, generation);
}

Test(store_recover, an_empty_store_comes_back)
{
    struct fixture f;
    struct gw_test_image image;
    fixture_open(&f, 0);
    take(&f, &image);
    cr_assert_eq(restart(&f, &image, NULL, NULL), GW_OK, "%s", f.why);
    is_gone(&f, 1);
    put(&f, 1, 1);
    is_there(&f, 1, 1);
    gw_test_image_free(&image);
    fixture_close(&f);
}

Test(store_recover, the_image_is_there_and_what_came_later_is_not)
{
    for (uint32_t way = 0; way < 3; way++) { /* no snapshot, an old one, one right before */
        struct fixture f;
        struct gw_test_image image;
        struct gw_test_snapshot snapshot;
        fixture_open(&f, 0);
        for (uint32_t i = 0; i < 3000; i++)
            put(&f, i, 1);
        if (way == 1)
            gw_test_snapshot_take(&snapshot, f.store);
        for (uint32_t i = 0; i < 6000; i += 3)
            put(&f, i, 2);
        for (uint32_t i = 1; i < 3000; i += 10)
            if (i % 3 != 0)
                del(&f, i);
        if (way == 2)
            gw_test_snapshot_take(&snapshot, f.store);
        take(&f, &image);
        for (uint32_t i = 0; i < 8000; i += 2) /* in place, copied, new: none of it */
            put(&f, i, 3);
        cr_assert_eq(restart(&f, &image, way ? &snapshot : NULL, NULL), GW_OK, "%s", f.why);
        struct gw_store_stats stats;
        gw_store_stats(f.store, &stats);
        uint64_t keys = 0;
        for (uint32_t i = 0; i < 8000; i++) {
            bool dead = i < 3000 && i % 10 == 1 && i % 3 != 0;
            if (i < 6000 && i % 3 == 0)
                is_there(&f, i, 2);
            else if (i < 3000 && !dead)
                is_there(&f, i, 1);
            else
                is_gone(&f, i);
            keys += (i < 6000 && i % 3 == 0) || (i < 3000 && !dead);
        }
        cr_expect_eq(stats.keys, keys);
        cr_expect_eq(stats.corrupt, 0);
        cr_expect_lt(stats.log_bytes_used, stats.log_tail - stats.log_begin, "the gap counts");
        gw_test_image_free(&image);
        if (way)
            gw_test_snapshot_free(&snapshot);
        fixture_close(&f);
    }
}

Test(store_recover, a_snapshot_spares_the_replay_of_what_lies_below_it)
{
    struct fixture f;
    struct gw_test_image image;
    struct gw_test_snapshot snapshot;
    fixture_open(&f, 0);
    for (uint32_t i = 0; i < 4000; i++)
        put(&f, i, 1);
    gw_test_snapshot_take(&snapshot, f.store);
    for (uint32_t i = 0; i < 100; i++)
        put(&f, i, 2);
    take(&f, &image);
    gw_addr resume = resume_of(&f);
    store_close(&f);
    struct gw_device_usage before, after;
    struct gw_device *device = f.options.device;
    device->usage(device, &before);
    cr_assert_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store, f.why),
                 GW_OK, "%s", f.why);
    device->usage(device, &after);
    uint64_t pages = (after.read_bytes - before.read_bytes) >> PAGE_BITS;
    cr_expect_leq(pages, 3, "%lu pages were read", (unsigned long)pages);
    thread_open(&f);
    for (uint32_t i = 0; i < 4000; i++)
        is_there(&f, i, i < 100 ? 2 : 1);
    gw_test_image_free(&image);
    gw_test_snapshot_free(&snapshot);
    fixture_close(&f);
}

static void *snapshot_main(void *arg)
{
    void **args = arg;
    gw_test_snapshot_take(args[0], args[1]);
    return NULL;
}

/* A record may lie below the snapshot's start and not be published yet: then neither the index nor
 * the replay would have it. */
Test(store_recover, a_record_that_is_about_to_be_published_is_not_missed)
{
    struct fixture f;
    struct gw_test_image image;
    struct gw_test_snapshot snapshot;
    fixture_open(&f, 0);
    for (uint32_t i = 0; i < 100; i++)
        put(&f, i, 1);
    verb(&f, GW_VERB_UPSERT, 1000);
    gw_store_hash(f.store, &f.op);
    gw_store_enter(f.thread);
    gw_addr at;
    uint64_t units = gw_record_units_for(f.op.key_bytes, 8, false), entry;
    cr_assert_eq(gw_log_allocate(f.store->log, units, &at), GW_OK);
    struct gw_record *record = gw_log_at(&f.thread->view, at);
    uint64_t control = gw_control_make(1, f.op.key_bytes, 0, GW_RECORD_COUNTER, 0);
    control |= (units * 16 - 16 - gw_round8(f.op.key_bytes) - 8) << GW_CONTROL_SLACK_SHIFT;
    gw_record_fill(record, units, f.op.key, control);
    atomic_store(gw_record_value(record, control), 4711);
    for (uint32_t i = 0; i < 2;
         i++) { /* on to the next page: the replay begins at a page's start */
        gw_addr more;
        cr_assert_eq(gw_log_allocate(f.store->log, 2500, &more), GW_OK);
        gw_log_void(gw_log_at(&f.thread->view, more), 2500);
    }
    pthread_t thread;
    void *args[] = {&snapshot, f.store};
    cr_assert_eq(pthread_create(&thread, NULL, snapshot_main, args), 0);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    _Atomic uint64_t *place;
    cr_assert_eq(gw_table_insert(f.store->table, f.op.hash,
                                 gw_table_tag(f.store->table, f.op.hash, f.op.slot), at, &place,
                                 &entry),
                 GW_OK);
    gw_store_exit(f.thread);
    pthread_join(thread, NULL);
    cr_assert_gt(snapshot.start.v >> PAGE_BITS, at.v >> PAGE_BITS);
    take(&f, &image);
    cr_assert_eq(restart(&f, &image, &snapshot, NULL), GW_OK, "%s", f.why);
    verb(&f, GW_VERB_READ, 1000);
    cr_assert_eq(run(&f), GW_OK, "the record was missed");
    cr_expect_eq(f.op.number, 4711);
    gw_test_image_free(&image);
    gw_test_snapshot_free(&snapshot);
    fixture_close(&f);
}

/* Compaction passes from pages of the first process over two gaps into those of the third. */
Test(store_recover, compaction_steps_over_gaps, .timeout = 60)
{
    struct fixture f;
    struct gw_test_image image;
    fixture_open(&f, 30 * SEGMENT);
    uint32_t generation = 0;
    for (uint32_t restarts = 0; restarts < 4; restarts++) {
        for (uint32_t g = 0; g < 3; g++) {
            generation++;
            for (uint32_t i = 0; i < 3000; i++)
                churn(&f, i, generation);
        }
        take(&f, &image);
        cr_assert_eq(restart(&f, &image, NULL, NULL), GW_OK, "%s", f.why);
        gw_test_image_free(&image);
        for (uint32_t i = 0; i < 3000; i += 11)
            is_there(&f, i, generation);
    }
    uint64_t gaps = f.store->log->gaps_count, last = f.store->log->resumed;
    cr_assert_geq(gaps, 1);
    for (uint32_t turns = 0; turns < 40 && f.store->log->begin <= last; turns++) {
        generation++;
        for (uint32_t i = 0; i < 3000; i++)
            churn(&f, i, generation);
        checkpoint(&f);
    }
    cr_assert_gt(f.store->log->begin, last, "compaction has come over the gaps");
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_eq(stats.corrupt, 0);
    cr_expect_leq(stats.log_bytes_used, 30 * SEGMENT);
    cr_expect_eq(stats.keys, 3000);
    for (uint32_t i = 0; i < 3000; i++)
        is_there(&f, i, generation);
    fixture_close(&f);
}

/* What only the older one of two checkpoints needed is given back with the next one, and not when
 * compaction has passed more: on a full device it could not. */
Test(store_recover, room_below_the_image_comes_back_with_the_next_checkpoint, .timeout = 60)
{
    struct fixture f;
    struct gw_test_image older, image, next;
    fixture_open(&f, 0);
    for (uint32_t g = 0; g < 3; g++)
        for (uint32_t i = 0; i < 3000; i++)
            put(&f, i, g);
    gw_test_image_take(&older, f.store, f.thread, ++f.number);
    gw_store_retain(f.store, older.numbers.begin, older.numbers.end);
    uint64_t from = older.numbers.begin.v;
    for (uint32_t g = 3; f.store->log->begin < from + 4 * SEGMENT; g++)
        for (uint32_t i = 0; i < 3000; i++)
            put(&f, i, g);
    gw_test_image_take(&image, f.store, f.thread, ++f.number);
    gw_addr resume = resume_of(&f);
    store_close(&f);
    uint64_t begin = image.numbers.begin.v / SEGMENT * SEGMENT;
    cr_assert_lt(gw_ram_device_trimmed(f.ram), begin);
    cr_assert_eq(gw_test_recover(&f.options, &image, NULL, resume, 2, NULL, &f.store, f.why), GW_OK,
                 "%s", f.why);
    gw_store_retain_all(f.store);
    gw_store_retain(f.store, older.numbers.begin, image.numbers.end);
    thread_open(&f);
    for (uint32_t i = 0; i < 100; i++)
        gw_store_poll(f.thread);
    cr_expect_leq(gw_ram_device_trimmed(f.ram), older.numbers.begin.v, "the older one needs it");
    gw_test_image_take(&next, f.store, f.thread, ++f.number);
    gw_store_retain(f.store, image.numbers.begin, next.numbers.end);
    for (uint32_t i = 0; i < 100; i++)
        gw_store_poll(f.thread);
    cr_expect_geq(gw_ram_device_trimmed(f.ram), begin);
    gw_test_image_free(&older);
    gw_test_image_free(&image);
    gw_test_image_free(&next);
    fixture_close(&f);
}

Test(store_recover, seals_of_a_dropped_interval_say_nothing, .timeout = 60)
{
    struct fixture f;
    struct gw_test_image image;
    fixture_open(&f, 16 * SEGMENT);
    for (uint32_t i = 0; i < 2000; i++)
        put(&f, i, 1);
    /* The cut's pages go to the device after their records were sealed by changes that are lost:
     * somebody who has not left the epoch keeps them in memory until then. */
    struct gw_thread *other;
    cr_assert_eq(gw_store_thread_open(f.store, &other), GW_OK);
    gw_store_enter(other);
    gw_test_image_begin(&image, f.store, f.thread, ++f.number);
    uint64_t sealed = 0;
    for (uint32_t i = 1000; i < 1400; i++)
        put(&f, i, 2);
    gw_store_exit(other);
    gw_store_thread_close(other);
    while (!gw_store_cut_flushed(f.store, image.numbers.end))
        gw_store_poll(f.thread);
    gw_test_image_finish(&image, f.store);
    for (uint64_t page = 1; page < image.numbers.end.v >> PAGE_BITS; page++) {
        const uint8_t *block = gw_ram_device_peek(f.ram, gw_addr_of(page << PAGE_BITS));
        if (!block)
            continue;
        uint64_t end = ((const struct gw_log_page_header *)(const void *)block)->used_units * 16;
        for (uint64_t at = 64; at < end;) {
            const struct gw_record *r = (const void *)(block + at);
            sealed += (atomic_load(&((struct gw_record *)r)->control) & GW_CONTROL_SEALED) != 0;
            at += gw_record_units(r) * 16;
        }
    }
    cr_assert_gt(sealed, 0, "nothing was sealed: the test is too easy");
    cr_assert_eq(restart(&f, &image, NULL, NULL), GW_OK, "%s", f.why);
    for (uint32_t i = 0; i < 2000; i++)
        is_there(&f, i, 1);
    for (uint32_t i = 0; i < 2000; i += 2) /* a write finds them free */
        put(&f, i, 3);
    uint64_t resumed = f.store->log->resumed;
    for (uint32_t g = 0; g < 60 && f.store->log->begin <= resumed; g++) {
        for (uint32_t i = 0; i < 2000; i += 2)
            churn(&f, i, 4 + g), churn(&f, i, 3);
        checkpoint(&f);
    }
    cr_assert_gt(f.store->log->begin, image.numbers.end.v, "compaction has run");
    for (uint32_t i = 0; i < 2000; i++)
        is_there(&f, i, i % 2 ? 1 : 3);
    gw_test_image_free(&image);
    fixture_close(&f);
}

/* A slot that was given away and came back does not bring along what it had before. */
Test(store_recover, unlinked_slots_stay_unlinked)
{
    for (uint32_t way = 0; way < 2; way++) {
        struct fixture f;
        struct gw_test_image image;
        struct gw_test_snapshot snapshot;
        fixture_open(&f, 0);
        for (uint32_t i = 0; i < 700; i++)
            put(&f, i, 1);
        verb(&f, GW_VERB_READ, 7);
        gw_store_hash(f.store, &f.op);
        struct gw_slots slots = {{0}};
        gw_slots_add(&slots, f.op.slot);
        if (way)
            gw_test_snapshot_take(&snapshot, f.store); /* it still has them */
        struct gw_cursor cursor = {0};
        uint64_t unlinked = 0;
        gw_store_enter(f.thread);
        gw_store_unlink(f.thread, &cursor, UINT64_MAX, &slots, UINT32_MAX, &unlinked);
        gw_store_exit(f.thread);
        cr_assert_gt(unlinked, 50);
        for (uint32_t i = 0; i < 700; i += 14)
            put(&f, i, 2);
        for (uint32_t round = 0; round < 2; round++) { /* and not at the restart after it either */
            take(&f, &image);
            cr_assert_eq(restart(&f, &image, way && !round ? &snapshot : NULL, NULL), GW_OK, "%s",
                         f.why);
            for (uint32_t i = 0; i < 700; i++)
                if (i % 14 == 0)
                    is_there(&f, i, 2);
                else if (i % 7 == 0)
                    is_gone(&f, i);
                else
                    is_there(&f, i, 1);
            gw_test_image_free(&image);
        }
        if (way)
            gw_test_snapshot_free(&snapshot);
        fixture_close(&f);
    }
}

Test(store_recover, dropped_slots_are_gone_for_good)
{
    for (uint32_t way = 0; way < 2; way++) {
        struct fixture f;
        struct gw_test_image image;
        struct gw_test_snapshot snapshot;
        fixture_open(&f, 0);
        for (uint32_t i = 0; i < 1400; i++)
            put(&f, i, 1);
        verb(&f, GW_VERB_READ, 7);
        gw_store_hash(f.store, &f.op);
        struct gw_slots drop = {{0}};
        gw_slots_add(&drop, f.op.slot);
        if (way)
            gw_test_snapshot_take(&snapshot, f.store);
        take(&f, &image);
        cr_assert_eq(restart(&f, &image, way ? &snapshot : NULL, &drop), GW_OK, "%s", f.why);
        struct gw_store_stats stats;
        gw_store_stats(f.store, &stats);
        cr_expect(stats.keys >= 1190 && stats.keys <= 1210, "%lu", (unsigned long)stats.keys);
        put(&f, 14, 5);
        gw_test_image_free(&image);
        take(&f, &image);
        cr_assert_eq(restart(&f, &image, NULL, NULL), GW_OK, "%s", f.why);
        for (uint32_t i = 0; i < 1400; i++)
            if (i == 14)
                is_there(&f, i, 5);
            else if (i % 7 == 0)
                is_gone(&f, i);
            else
                is_there(&f, i, 1);
        gw_test_image_free(&image);
        if (way)
            gw_test_snapshot_free(&snapshot);
        fixture_close(&f);
    }
}

Test(store_recover, what_is_known_of_mixed_chains_is_kept)
{
    struct fixture f;
    struct gw_test_image image;
    fixture_open(&f, 0);
    f.options.index_bytes = f.options.index_bytes_max = 1 << 16; /* small: tags meet */
    for (uint32_t i = 0; i < 7 * 3000; i += 7)
        put(&f, i, 1);
    uint64_t mixed = gwi_chains_count(f.store->chains);
    cr_assert_gt(mixed, 10);
    take(&f, &image);
    f.options.index_bytes_max = 1 << 19;
    f.options.index_bytes = 1 << 16;
    cr_assert_eq(restart(&f, &image, NULL, NULL), GW_OK, "%s", f.why);
    cr_expect_geq(gwi_chains_count(f.store->chains), mixed);
    struct gwi_chains *chains = f.store->chains;
    uint64_t names[4096], all, n = gwi_chains_names(chains, names, 4096, &all);
    cr_assert(n > 0 && n <= 4096);
    uint64_t begin = f.store->log->begin;
    cr_expect(gwi_chains_mixed(chains, names[0], begin));
    cr_expect(!gwi_chains_mixed(chains, UINT64_MAX / 3, begin));
    gw_test_image_free(&image);
    fixture_close(&f);
}

/* Counters under keys of 8 bytes, in batches, in few slots: many keys share a tag. */
static void counters(struct fixture *f, uint32_t first, uint32_t last, int64_t to, bool check)
{
    static struct gw_op ops[256], wait[256];
    static uint8_t keys[256][8];
    uint32_t n = 0, next = first;
    for (uint32_t turns = 0; next < last || n != 0; turns++) {
        cr_assert_lt(turns, 1000000);
        for (; n < 256 && next < last; n++, next++) {
            char key[16];
            snprintf(key, sizeof key, "{%02x}%04x", next % 64, next / 64);
            /* Those that wait keep their place, and with it their key. */
            memcpy(keys[n], key, 8);
            ops[n] = (struct gw_op){.verb = check ? GW_VERB_READ : GW_VERB_UPSERT,
                                    .flags = check ? 0 : GW_OP_COUNTER,
                                    .key = keys[n],
                                    .key_bytes = 8,
                                    .number = to};
            gw_store_hash(f->store, &ops[n]);
        }
        size_t used;
        uint64_t hashes[64];
        gw_store_poll(f->thread);
        while (gw_store_ready(f->thread, hashes, 64) != 0) {}
        gw_store_enter(f->thread);
        gw_store_execute(f->thread, ops, n, f->room, sizeof f->room, &used);
        gw_store_exit(f->thread);
        uint32_t left = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (ops[i].status == GW_RETRY || ops[i].status == GW_PENDING) {
                uint8_t key[8];
                memcpy(key, ops[i].key, 8);
                wait[left] = ops[i];
                memcpy(keys[left], key, 8);
                wait[left].key = keys[left];
                wait[left].number = to;
                left++;
                continue;
            }
            cr_assert_eq(ops[i].status, GW_OK, "%.8s: %d", ops[i].key, ops[i].status);
            if (check)
                cr_assert_eq(ops[i].number, to, "%.8s: %ld", ops[i].key, (long)ops[i].number);
        }
        memcpy(ops, wait, left * sizeof *ops);
        n = left;
    }
}

/* Beyond six doublings the entries' own bits do not tell any more to which bucket they belong: keys
 * that share a tag may have entries of their own by then, and records that know nothing of one
 * another. A table that were coarser than theirs would lose some of them. */
Test(store_recover, the_index_comes_back_as_fine_as_it_was, .timeout = 60)
{
    enum { KEYS = 420000, SOME = 100000 };
    for (uint32_t way = 0; way < 3; way++) { /* no snapshot, one of a coarser table, a late one */
        struct fixture f;
        struct gw_test_image image;
        struct gw_test_snapshot snapshot;
        fixture_open(&f, 0);
        store_close(&f);
        f.options.log_bytes = (uint64_t)300
                              << PAGE_BITS; /* the records are there: splits see them */
        f.options.index_bytes_max = 16 << 20;
        cr_assert_eq(gw_store_open(&f.options, &f.store), GW_OK);
        gw_store_retain_all(f.store);
        thread_open(&f);
        counters(&f, 0, SOME, 1, false);
        if (way == 1)
            gw_test_snapshot_take(&snapshot, f.store);
        uint64_t splits = f.store->table->grow->splits;
        counters(&f, SOME, KEYS, 1, false);
        counters(&f, 0, KEYS, 2, false);
        if (way == 2)
            gw_test_snapshot_take(&snapshot, f.store);
        cr_assert_geq(f.store->table->grow->splits, splits + 2);
        struct gwi_table_shape shape;
        gwi_table_shape_of(f.store->table, &shape);
        uint32_t finest = 0;
        for (uint32_t i = 0; i < 1u << shape.directory_bits; i++)
            finest += shape.chunk_bits[i] > shape.bucket_bits + 6;
        cr_assert_gt(finest, 0, "the table has not grown enough");
        for (uint32_t i = 0; i < KEYS; i += 5000) /* some at another time than their neighbours */
            counters(&f, i, i + 1, 2, false);
        take(&f, &image);
        cr_assert_eq(restart(&f, &image, way ? &snapshot : NULL, NULL), GW_OK, "%s", f.why);
        counters(&f, 0, KEYS, 2, true);
        gw_test_image_free(&image);
        if (way)
            gw_test_snapshot_free(&snapshot);
        fixture_close(&f);
    }
}

Test(store_recover, every_damaged_page_is_named)
{
    struct fixture f;
    struct gw_test_image image;
    fixture_open(&f, 0);
    for (uint32_t i = 0; i < 3000; i++)
        put(&f, i, 1);
    take(&f, &image);
    gw_addr resume = resume_of(&f);
    store_close(&f);
    uint32_t pages = 0;
    for (uint64_t at = 1 << PAGE_BITS; at < image.numbers.end.v; at += 1 << PAGE_BITS, pages++) {
        uint64_t bad = at + 16 * 4096 / 5 * (pages % 5) + pages; /* any block of it */
        cr_assert(gw_ram_device_flip(f.ram, gw_addr_of(bad), pages % 8));
        cr_expect_eq(gw_test_recover(&f.options, &image, NULL, resume, 1 + pages % 2, NULL,
                                     &f.store, f.why),
                     GW_E_CORRUPT);
        char name[32];
        snprintf(name, sizeof name, "address %lu ", (unsigned long)(bad & ~(uint64_t)4095));
        cr_expect_eq(strncmp(f.why, name, strlen(name)), 0, "%s, wanted %s", f.why, name);
        cr_assert(gw_ram_device_flip(f.ram, gw_addr_of(bad), pages % 8));
    }
    cr_assert_gt(pages, 5);
    f.store = NULL;
    for (uint32_t kind = 0; kind < 3; kind++) {
        static const enum gw_status status[] = {GW_E_IO, GW_NOT_FOUND, GW_WOULD_BLOCK};
        gw_ram_device_fail(f.ram, GW_RAM_READ, 2, 1, status[kind]);
        enum gw_status st =
            gw_test_recover(&f.options, &image, NULL, resume, 2, NULL, &f.store, f.why);
        cr_expect_eq(st,
                     kind == 0   ? GW_E_IO
                     : kind == 1 ? GW_E_CORRUPT
                                 : GW_OK,
                     "%d: %s", st, f.why);
        cr_expect(st == GW_OK || strncmp(f.why, "address ", 8) == 0, "%s", f.why);
    }
    thread_open(&f);
    for (uint32_t i = 0; i < 3000; i++)
        is_there(&f, i, 1);
    gw_test_image_free(&image);
    fixture_close(&f);
}

Test(store_recover, every_damaged_block_of_a_snapshot_is_named)
{
    struct fixture f;
    struct gw_test_image image;
    struct gw_test_snapshot snapshot;
    fixture_open(&f, 0);
    for (uint32_t i = 0; i < 12000; i++)
        put(&f, i, 1);
    gw_test_snapshot_take(&snapshot, f.store);
    cr_assert_gt(snapshot.count, 1);
    take(&f, &image);
    gw_addr resume = resume_of(&f);
    store_close(&f);
    for (uint64_t i = 0; i < snapshot.count * 6; i++) {
        uint64_t block = i / 6;
        uint64_t at = block * GW_SNAPSHOT_BLOCK + (i % 2 ? i * 1237 % GW_SNAPSHOT_BLOCK : i * 5);
        snapshot.blocks[at] ^= 4;
        cr_expect_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store,
                                     f.why),
                     GW_E_CORRUPT);
        char name[64];
        snprintf(name, sizeof name, "block %lu of the index snapshot", (unsigned long)block);
        cr_expect_eq(strncmp(f.why, name, strlen(name)), 0, "%s, wanted %s", f.why, name);
        snapshot.blocks[at] ^= 4;
    }
    snapshot.count--; /* cut off */
    cr_expect_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store, f.why),
                 GW_E_CORRUPT);
    cr_expect_not_null(strstr(f.why, "ends too early"), "%s", f.why);
    snapshot.count++;
    cr_assert_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store, f.why),
                 GW_OK, "%s", f.why);
    thread_open(&f);
    gw_test_image_free(&image);
    gw_test_snapshot_free(&snapshot);
    fixture_close(&f);
}

static void refused(struct fixture *f, const struct gw_test_image *image,
                    struct gw_test_snapshot *snapshot, gw_addr resume, enum gw_status wanted,
                    const char *why)
{
    struct gw_store *store = NULL;
    enum gw_status st =
        gw_test_recover(&f->options, image, snapshot, resume, 2, NULL, &store, f->why);
    cr_expect_eq(st, wanted, "%s: %d, %s", why, st, f->why);
    cr_expect_not_null(strstr(f->why, why), "%s: %s", why, f->why);
    cr_expect_null(store);
}

Test(store_recover, what_does_not_fit_is_refused_in_words)
{
    struct fixture f;
    struct gw_test_image image, other;
    struct gw_test_snapshot snapshot;
    fixture_open(&f, 0);
    for (uint32_t i = 0; i < 12000; i++)
        put(&f, i, 1);
    gw_test_snapshot_take(&snapshot, f.store);
    take(&f, &image);
    gw_addr resume = resume_of(&f);
    store_close(&f);
    struct gw_store_options o = f.options;

    f.options.index_bytes_max = 0;
    refused(&f, &image, NULL, resume, GW_E_INVALID, "it is given 0 MiB (65536 bytes)");
    f.options = o;
    f.options.hash_seed++;
    refused(&f, &image, &snapshot, resume, GW_E_INVALID, "another hash seed");
    f.options = o;
    refused(&f, &image, NULL, gw_addr_of(image.numbers.begin.v), GW_E_INVALID, "do not fit");
    refused(&f, &image, NULL, gw_addr_of(resume.v + 4096), GW_E_INVALID, "do not fit");

    snapshot.start.v += 16;
    refused(&f, &image, &snapshot, resume, GW_E_INVALID, "begins at another address");
    snapshot.start.v -= 16;
    other = image;
    other.numbers.end.v -= (uint64_t)2 << PAGE_BITS;
    refused(&f, &other, &snapshot, resume, GW_E_INVALID, "too new");
    other = image;
    other.words_count--;
    refused(&f, &other, NULL, resume, GW_E_CORRUPT, "missing or damaged");
    other.words_count = UINT64_MAX;
    other.words = NULL;
    refused(&f, &other, NULL, resume, GW_E_CORRUPT, "missing or damaged");
    struct gw_addr_range gap = {gw_addr_of(resume.v), gw_addr_of(resume.v + SEGMENT)};
    other = image;
    other.numbers.gaps = &gap;
    other.numbers.gaps_count = 1;
    refused(&f, &other, NULL, resume, GW_E_INVALID, "gap 0");

    cr_assert_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store, f.why),
                 GW_OK, "%s", f.why);
    /* Each page of memory less than the index takes is too little. */
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    gw_store_close(f.store);
    f.options.index_bytes_max = stats.index_bytes - 4096;
    refused(&f, &image, NULL, resume, GW_E_INVALID, "bytes");
    refused(&f, &image, &snapshot, resume, GW_E_INVALID, "bytes");
    f.options.index_bytes_max = stats.index_bytes;
    cr_assert_eq(gw_test_recover(&f.options, &image, &snapshot, resume, 2, NULL, &f.store, f.why),
                 GW_OK, "%s", f.why);
    thread_open(&f);
    gw_test_image_free(&image);
    gw_test_snapshot_free(&snapshot);
    fixture_close(&f);
}
