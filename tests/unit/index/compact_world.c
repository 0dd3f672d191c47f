/* compact_world.c - see compact_world.h. */
#include "compact_world.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/hash.h"

/* Without the message that a passed cr_assert sends to the runner: there are a million of them. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            cr_assert_fail(__VA_ARGS__);                                                           \
    } while (0)

#define TURNS_MAX 200000u

void world_open(struct world *w, const struct world_options *options)
{
    memset(w, 0, sizeof *w);
    w->keys = options->keys;
    w->value_max = options->value_max;
    w->one_slot = options->one_slot;
    w->entry = calloc(w->keys, sizeof *w->entry);
    w->value = malloc(w->value_max + 512);
    for (uint32_t i = 0; i < w->value_max + 512; i++)
        w->value[i] = (uint8_t)i;
    gw_rand_init(&w->rand, options->seed ? options->seed : 1);
    fixture_open(&w->f, &(struct gw_store_options){.log_bytes = (uint64_t)options->pages << 16,
                                                   .page_bits = 16,
                                                   .index_bytes = options->index_bytes,
                                                   .index_bytes_max = options->index_bytes_max,
                                                   .evict = options->evict,
                                                   .device = options->device,
                                                   .clock = options->clock});
}

void world_close(struct world *w)
{
    fixture_close(&w->f);
    free(w->entry);
    free(w->value);
}

static enum gw_status execute(struct world *w)
{
    for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
        enum gw_status st = run(&w->f);
        uint64_t hashes[16];
        while (gw_store_ready(w->f.thread, hashes, 16) != 0) {}
        if (st != GW_RETRY && st != GW_PENDING)
            return st;
    }
    return GW_PENDING;
}

static void prepare(struct world *w, uint8_t verb, uint32_t key)
{
    static char text[32];
    int n = snprintf(text, sizeof text, w->one_slot ? "{t}%u" : "key %u", key);
    op_bytes(&w->f, verb, text, (uint16_t)n, 0);
}

enum gw_status world_put(struct world *w, uint32_t key, uint32_t value_bytes)
{
    struct world_entry *e = &w->entry[key];
    uint32_t fill = (uint32_t)gw_rand_below(&w->rand, 256);
    prepare(w, GW_VERB_UPSERT, key);
    w->f.op.value = w->value + fill;
    w->f.op.value_bytes = value_bytes;
    if (w->expiry_ms) {
        w->f.op.flags |= GW_OP_HAS_EXPIRY;
        w->f.op.expiry_ms = w->expiry_ms;
    }
    enum gw_status st = execute(w);
    if (st != GW_OK)
        return st;
    if (e->live)
        CHECK(w->f.op.version == e->version + 1, "key %u: version %u after %u", key,
              w->f.op.version, e->version);
    *e = (struct world_entry){true, w->f.op.version, value_bytes, fill};
    w->written += value_bytes;
    return st;
}

enum gw_status world_delete(struct world *w, uint32_t key)
{
    struct world_entry *e = &w->entry[key];
    prepare(w, GW_VERB_DELETE, key);
    enum gw_status st = execute(w);
    if (st == GW_E_FULL)
        return st;
    CHECK(st == (e->live ? GW_OK : GW_NOT_FOUND), "key %u: %d", key, st);
    e->live = false;
    return st;
}

static void compare(struct world *w, uint32_t key)
{
    const struct world_entry *e = &w->entry[key];
    CHECK(w->f.op.version == e->version, "key %u", key);
    CHECK(w->f.op.out_bytes == e->value_bytes, "key %u", key);
    CHECK(memcmp(w->f.op.out, w->value + e->fill, e->value_bytes) == 0, "key %u", key);
}

void world_check(struct world *w, uint32_t key)
{
    prepare(w, GW_VERB_READ, key);
    enum gw_status st = execute(w);
    CHECK(st == (w->entry[key].live ? GW_OK : GW_NOT_FOUND), "key %u: %d", key, st);
    if (st == GW_OK)
        compare(w, key);
}

void world_check_all(struct world *w)
{
    for (uint32_t i = 0; i < w->keys; i++)
        world_check(w, i);
}

bool world_may_be_gone(struct world *w, uint32_t key)
{
    prepare(w, GW_VERB_READ, key);
    enum gw_status st = execute(w);
    if (st == GW_NOT_FOUND)
        return false;
    CHECK(st == GW_OK && w->entry[key].live, "key %u: %d", key, st);
    compare(w, key);
    return true;
}

uint64_t world_live(const struct world *w)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->keys; i++)
        n += w->entry[i].live;
    return n;
}

/* Of one page, up to `end`. */
static uint64_t page_live_bytes(struct world *w, uint64_t at, uint64_t end)
{
    struct gw_thread *t = w->f.thread;
    uint64_t bytes = 0;
    while (at < end) {
        struct gw_record *record = gw_log_at(&t->view, gw_addr_of(at));
        uint64_t units = gw_record_units(record);
        cr_assert(units != 0 && at + units * 16 <= end);
        uint64_t control = atomic_load(&record->control);
        if (gw_control_kind(control) != GW_RECORD_VOID) {
            struct gw_op op = {.key = gw_record_key(record, control),
                               .key_bytes = gw_control_key_bytes(control)};
            struct gwi_position position;
            enum gw_status why;
            gw_store_hash(w->f.store, &op);
            if (gwi_find(t, &op, &position, &why) == GWI_FOUND && position.address.v == at)
                bytes += units * 16;
        }
        at += units * 16;
    }
    return bytes;
}

uint64_t world_live_bytes(struct world *w)
{
    struct gw_log *log = w->f.store->log;
    uint64_t bytes = 0;
    gw_store_enter(w->f.thread);
    uint64_t tail = gw_log_tail(log).v;
    for (uint64_t page = w->f.thread->view.begin >> 16; page <= tail >> 16; page++) {
        uint64_t end = page == tail >> 16
                           ? tail
                           : (page << 16) + (uint64_t)gw_log_page(log, page)->used_units * 16;
        bytes += page_live_bytes(w, (page << 16) + GW_LOG_PAGE_HEADER, end);
    }
    gw_store_exit(w->f.thread);
    return bytes;
}
