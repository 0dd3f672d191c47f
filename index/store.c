/* store.c - opening, threads, the epoch's bracket, and the numbers. Contract: store.h. */
#include "index/store.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/hash.h"
#include "index/cold.h"
#include "index/compact.h"
#include "index/device.h"
#include "index/foreign.h"
#include "index/pages.h"
#include "index/store_cut.h"
#include "index/store_internal.h"
#include "index/table_snapshot.h"

#define THREADS_DEFAULT 64u
#define CHAINS_SHARE    64u /* of the log's memory: names of mixed chains */

enum gw_status gwi_store_open_from(const struct gw_store_options *options,
                                   const struct gwi_store_origin *origin, struct gw_store **out)
{
    uint32_t page_bits = options->page_bits ? options->page_bits : GW_STORE_PAGE_BITS;
    uint32_t threads_max = options->threads_max ? options->threads_max : THREADS_DEFAULT;
    if (page_bits < GW_STORE_PAGE_BITS_MIN || page_bits > GW_STORE_PAGE_BITS_MAX ||
        threads_max > GW_STORE_THREADS_MAX)
        return GW_E_INVALID;
    uint64_t index_bytes = options->index_bytes ? options->index_bytes : options->log_bytes / 2;
    uint64_t start = options->log_start ? options->log_start : (uint64_t)1 << page_bits;

    struct gw_store *store = calloc(1, sizeof *store);
    if (!store)
        return GW_E_NOMEM;
    store->hash_seed = options->hash_seed;
    store->clock = options->clock ? options->clock : gw_clock_coarse();
    store->threads_max = threads_max;
    store->cold_reads_max = options->cold_reads_max;
    enum gw_status st = gw_epoch_create(threads_max, &store->epoch);
    if (st != GW_OK)
        goto fail_epoch;
    struct gw_table_options table = {
        .bytes = index_bytes,
        .bytes_max = options->index_bytes_max,
        .records = {.ctx = store, .range = gwi_index_range, .sides = gwi_index_sides},
    };
    store->index_bytes_max =
        index_bytes > options->index_bytes_max ? index_bytes : options->index_bytes_max;
    st = origin ? gwi_table_create_shaped(&table, origin->shape, &store->table)
                : gw_table_create(&table, &store->table);
    if (st != GW_OK)
        goto fail_table;
    st = gw_log_create(store->epoch, options->log_bytes, page_bits, start, &store->log);
    if (st != GW_OK)
        goto fail_log;
    store->index_bytes = index_bytes;
    store->memory_bytes = index_bytes + store->log->ring_bytes;
    st = gw_log_attach(store->log, options->device, options->evict);
    if (st == GW_OK && origin) {
        store->expiry_ms = origin->expiry_ms;
        st = gwi_log_resume(store->log, origin->begin, origin->end, origin->gaps,
                            origin->gaps_count, GW_STORE_GAPS_MAX, origin->waste);
        gw_log_cut_resume(store->log, origin->number);
    }
    if (st != GW_OK)
        goto fail_lock;
    if (pthread_mutex_init(&store->lock, NULL) != 0) {
        st = GW_E_NOMEM;
        goto fail_lock;
    }
    st = gwi_chains_create(options->log_bytes / CHAINS_SHARE, &store->chains);
    if (st != GW_OK)
        goto fail_chains;
    st = gwi_floors_create(&store->floors);
    if (st != GW_OK)
        goto fail_floors;
    st = gwi_foreign_create(&store->foreign);
    if (st != GW_OK)
        goto fail_foreign;
    st = gwi_compactor_create(store, &store->compactor);
    if (st != GW_OK)
        goto fail_compactor;
    store->units_max = gw_log_record_bytes_max(store->log) / GW_ADDR_UNIT;
    if (options->populate) {
        gw_table_populate(store->table);
        gw_memory_populate(store->log->frames, store->log->ring_bytes);
    }
    *out = store;
    return GW_OK;

fail_compactor:
    gwi_foreign_destroy(store->foreign);
fail_foreign:
    gwi_floors_destroy(store->floors);
fail_floors:
    gwi_chains_destroy(store->chains);
fail_chains:
    pthread_mutex_destroy(&store->lock);
fail_lock:
    gw_log_destroy(store->log);
fail_log:
    gw_table_destroy(store->table);
fail_table:
    gw_epoch_destroy(store->epoch);
fail_epoch:
    free(store);
    return st;
}

enum gw_status gw_store_open(const struct gw_store_options *options, struct gw_store **out)
{
    return gwi_store_open_from(options, NULL, out);
}

void gw_store_close(struct gw_store *store)
{
    if (!store)
        return;
    for (uint32_t i = 0; i < store->threads_max; i++)
        GW_ASSERT(!store->threads[i]);
    gw_epoch_destroy(store->epoch); /* runs the log's last triggers, and compaction's */
    gwi_compactor_destroy(store->compactor);
    gw_log_destroy(store->log);
    gw_table_destroy(store->table);
    free(atomic_load_explicit(&store->sample, memory_order_relaxed));
    gwi_foreign_destroy(store->foreign);
    gwi_floors_destroy(store->floors);
    gwi_chains_destroy(store->chains);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

enum gw_status gw_store_thread_open(struct gw_store *store, struct gw_thread **out)
{
    struct gw_thread *t = aligned_alloc(GW_CACHE_LINE, sizeof *t);
    if (!t)
        return GW_E_NOMEM;
    memset(t, 0, sizeof *t);
    t->store = store;
    t->table = store->table;
    t->log = store->log;
    pthread_mutex_lock(&store->lock);
    t->now_ms = store->expiry_ms; /* the time never goes back (ENGINE H17) */
    pthread_mutex_unlock(&store->lock);
    enum gw_status st = gw_epoch_join(store->epoch, true, &t->slot);
    if (st != GW_OK) {
        free(t);
        return st;
    }
    gwi_store_enter(t);
    gwi_cross(t); /* from nowhere: it has executed nothing */
    gw_store_exit(t);
    if (t->log->device) {
        st = gwi_cold_create(t, store->cold_reads_max, &t->cold);
        if (st != GW_OK)
            goto fail_cold;
    }
    st = gwi_compact_join(t);
    if (st != GW_OK)
        goto fail_compact;
    st = gwi_pages_join(t);
    if (st != GW_OK)
        goto fail_pages;
    pthread_mutex_lock(&store->lock);
    GW_ASSERT(!store->threads[t->slot]);
    store->threads[t->slot] = t;
    pthread_mutex_unlock(&store->lock);
    *out = t;
    return GW_OK;

fail_pages:
    gwi_compact_leave(t);
fail_compact:
    gwi_cold_destroy(t->cold);
fail_cold:
    gw_epoch_leave(store->epoch, t->slot);
    free(t);
    return st;
}

/* What the thread has counted since the last time goes to the sums of those that are gone. */
static void counters_hand_over(struct gw_thread *t)
{
    gwi_counters_add(&t->store->closed, &t->counters);
    memset(&t->counters, 0, sizeof t->counters);
    if (t->store->expiry_ms < t->now_ms)
        t->store->expiry_ms = t->now_ms;
}

void gw_store_thread_close(struct gw_thread *t)
{
    if (!t)
        return;
    GW_ASSERT(!t->inside);
    struct gw_store *store = t->store;
    uint32_t slot = t->slot;
    /* Out of sight first: the statistics look at what is given back next. */
    pthread_mutex_lock(&store->lock);
    counters_hand_over(t);
    store->threads[slot] = NULL;
    pthread_mutex_unlock(&store->lock);
    gwi_resolve_leave(t);
    gwi_pages_leave(t);
    gwi_compact_leave(t);
    gwi_cold_destroy(t->cold);
    while (gw_log_writes(t->log, slot)) /* they call back on this queue, or never */
        t->log->device->poll(t->log->device, slot);
    pthread_mutex_lock(&store->lock);
    counters_hand_over(t);
    pthread_mutex_unlock(&store->lock);
    free(t->scratch);
    free((void *)t->chain);
    free(t->tops);
    free(t);
    gw_epoch_leave(store->epoch, slot);
}

void gwi_view_load(struct gw_thread *t)
{
    gw_log_view_load(t->log, &t->view); /* after entering: ENGINE rule 12 */
    /* Acquire: the slots that it leads to. */
    t->sample = atomic_load_explicit(&t->store->sample, memory_order_acquire);
    if (GW_UNLIKELY(t->sample != NULL)) {
        /* Relaxed: written before the pointer. Not above our tail: it was one before. */
        uint64_t from = atomic_load_explicit(&t->store->sample_from, memory_order_relaxed);
        t->aging = t->view.aging;
        t->read_only = t->view.read_only;
        t->view.read_only = from > t->read_only ? from : t->read_only;
        t->view.aging = t->view.read_only;
    }
}

void gwi_store_enter(struct gw_thread *t)
{
    gw_epoch_enter(t->store->epoch, t->slot);
    t->inside = true;
    gwi_view_load(t);
    uint64_t now_ms = gw_clock_wall_ms(t->store->clock);
    /* Relaxed: our own; others want a recent number. */
    if (now_ms > atomic_load_explicit(&t->now_ms, memory_order_relaxed))
        atomic_store_explicit(&t->now_ms, now_ms, memory_order_relaxed);
}

void gw_store_enter(struct gw_thread *t)
{
    gwi_store_enter(t);
    if (GW_UNLIKELY(t->view.cut != t->crossed))
        gwi_cross(t);
}

void gw_store_exit(struct gw_thread *t)
{
    t->inside = false;
    gw_epoch_exit(t->store->epoch, t->slot);
}

bool gw_store_poll(struct gw_thread *t)
{
    struct gw_store *store = t->store;
    GW_ASSERT(!t->inside);
    bool more = gw_epoch_poll(store->epoch) != 0;
    more |= gwi_index_turn(t);
    if (t->cold) {
        more |= gwi_cold_turn(t);
        more |= t->log->device->poll(t->log->device, t->slot) != 0;
    }
    more |= gwi_compact_turn(t);
    gwi_pages_turn(t);
    if (gwi_may_be_foreign(t))
        more |= gwi_resolve_turn(t);
    return gw_log_maintain(t->log, t->slot) || more || gw_epoch_waiting(store->epoch) != 0;
}

uint32_t gw_store_ready(struct gw_thread *t, uint64_t *hashes, uint32_t max)
{
    return t->cold ? gwi_cold_ready(t->cold, hashes, max) : 0;
}

uint32_t gw_store_in_flight(const struct gw_thread *t)
{
    return t->cold ? gwi_cold_reads(t->cold) + gw_log_writes(t->log, t->slot) +
                         gwi_compact_reads(t) + gwi_pages_reads(t)
                   : 0;
}

int gw_store_wait_fd(const struct gw_thread *t)
{
    struct gw_device *device = t->log->device;
    return device ? device->wait_fd(device, t->slot) : -1;
}

struct gw_epoch *gw_store_epoch(struct gw_store *store)
{
    return store->epoch;
}

uint32_t gw_store_epoch_slot(const struct gw_thread *t)
{
    return t->slot;
}

void gw_store_hash(const struct gw_store *store, struct gw_op *op)
{
    op->hash = gw_key_hash(op->key, op->key_bytes, store->hash_seed);
    op->slot = gw_key_slot(op->key, op->key_bytes);
}

uint64_t gw_store_hash_seed(const struct gw_store *store)
{
    return store->hash_seed;
}

uint64_t gw_store_record_bytes_max(const struct gw_store *store)
{
    return store->units_max * GW_ADDR_UNIT;
}

/* What a key would get that was allocated before everything that is allocated from now on. */
static uint32_t version_now(const struct gw_store *store)
{
    uint64_t before = gw_log_tail(store->log).v - store->log->page_bytes;
    return (uint32_t)(before >> GW_ADDR_UNIT_BITS);
}

/* `round`: versions go round, what is more than half of them ahead lies behind. Else as numbers. */
static void raise_base(struct gw_store *store, uint32_t above, bool round)
{
    uint32_t base = atomic_load_explicit(&store->version_base, memory_order_relaxed);
    uint32_t now = version_now(store);
    for (;;) {
        uint32_t at = now + base;
        if (round ? (int32_t)(above - at) < 0 : at > above)
            return;
        /* Release: pairs with the acquire where keys are created; who is told of a floor by other
         * means has synchronised already. */
        if (atomic_compare_exchange_weak_explicit(&store->version_base, &base, above + 1 - now,
                                                  memory_order_release, memory_order_relaxed))
            return;
    }
}

void gw_store_version_floor(struct gw_store *store, uint32_t floor)
{
    uint32_t now = atomic_load_explicit(&store->version_floor, memory_order_relaxed);
    do
        if (now >= floor)
            return;
    while (!atomic_compare_exchange_weak_explicit(&store->version_floor, &now, floor,
                                                  memory_order_release, memory_order_relaxed));
    raise_base(store, floor, false);
}

uint32_t gwi_version_above_all(const struct gw_store *store, gw_addr address)
{
    uint32_t highest = gw_store_version_highest(store);
    return highest < UINT32_MAX ? highest + 1 : gwi_first_version(store, address);
}

void gwi_version_leaves(struct gw_store *store, uint32_t version)
{
    raise_base(store, version, true);
}

enum gw_status gw_store_shift_read_only(struct gw_store *store)
{
    return gw_log_shift_read_only(store->log, gw_log_tail(store->log));
}
