/* foreign.c - words of slots and numbers of logs, their form on paper, and the indirection's own.
 * Contract and rules: foreign.h, indirection.h. */
#include "index/foreign.h"

#include <stdlib.h>
#include <string.h>

#define BEGIN_SHIFT 16u

enum gw_status gwi_foreign_create(struct gwi_foreign **out)
{
    struct gwi_foreign *f = calloc(1, sizeof *f);
    if (!f)
        return GW_E_NOMEM;
    if (pthread_mutex_init(&f->lock, NULL) != 0) {
        free(f);
        return GW_E_NOMEM;
    }
    atomic_init(&f->resolve_percent, 5);
    if (gwi_resolver_create(&f->resolver) != GW_OK) {
        pthread_mutex_destroy(&f->lock);
        free(f);
        return GW_E_NOMEM;
    }
    *out = f;
    return GW_OK;
}

void gwi_foreign_destroy(struct gwi_foreign *f)
{
    if (!f)
        return;
    gwi_resolver_destroy(f->resolver);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* ---- what is there ---- */

/* Strictly upwards, so that who looks whether it has changed sees that it has (rule 3). */
static void word_raise(_Atomic uint64_t *word, uint64_t to)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed), next;
    do {
        uint64_t was = now & ~(uint64_t)GWI_FOREIGN_CLEARED;
        next = was < to ? to : was + GW_ADDR_UNIT;
        /* seq_cst: before `any` is looked at; pairs with gwi_foreign_none. */
    } while (!atomic_compare_exchange_weak_explicit(word, &now, next, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

static struct gwi_foreign_log *log_find(struct gwi_foreign *f, uint64_t id)
{
    /* Acquire: the log's id before the number that counts it. */
    uint32_t n = atomic_load_explicit(&f->logs, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load_explicit(&f->log[i].id, memory_order_relaxed) == id)
            return &f->log[i];
    return NULL;
}

static struct gwi_foreign_log *log_want(struct gwi_foreign *f, uint64_t id)
{
    struct gwi_foreign_log *log = log_find(f, id);
    if (GW_LIKELY(log != NULL))
        return log;
    pthread_mutex_lock(&f->lock);
    log = log_find(f, id);
    uint32_t n = atomic_load_explicit(&f->logs, memory_order_relaxed);
    if (!log && n < GWI_FOREIGN_LOGS_MAX) {
        log = &f->log[n];
        atomic_store_explicit(&log->id, id, memory_order_relaxed);
        atomic_store_explicit(&log->lowest, UINT64_MAX, memory_order_relaxed);
        atomic_store_explicit(&f->logs, n + 1, memory_order_release);
    }
    pthread_mutex_unlock(&f->lock);
    return log;
}

static void log_raise(struct gwi_foreign_log *log, uint64_t lowest, uint64_t highest)
{
    uint64_t now = atomic_load_explicit(&log->lowest, memory_order_relaxed);
    /* Release, with word_raise behind it: who sees that the log is needed sees from where on. */
    while (lowest < now &&
           !atomic_compare_exchange_weak_explicit(&log->lowest, &now, lowest, memory_order_release,
                                                  memory_order_relaxed)) {}
    word_raise(&log->highest, highest);
}

enum gw_status gwi_foreign_raise(struct gwi_foreign *f, const struct gw_indirection *in,
                                 gw_addr address)
{
    struct gwi_foreign_log *log = log_want(f, in->log_id);
    if (!log)
        return GW_E_LIMIT;
    log_raise(log, in->begin, address.v);
    word_raise(&f->slot[in->slot], address.v);
    gwi_foreign_some(f);
    return GW_OK;
}

void gwi_foreign_some(struct gwi_foreign *f)
{
    /* seq_cst: the word before this load. SOME here: whoever goes on to CLOSING after it sees the
     * word. */
    if (atomic_load_explicit(&f->any, memory_order_seq_cst) != GWI_FOREIGN_SOME)
        atomic_store_explicit(&f->any, GWI_FOREIGN_SOME, memory_order_seq_cst);
}

void gwi_foreign_none(struct gwi_foreign *f)
{
    uint8_t now = GWI_FOREIGN_SOME;
    if (!atomic_compare_exchange_strong_explicit(&f->any, &now, GWI_FOREIGN_CLOSING,
                                                 memory_order_seq_cst, memory_order_relaxed))
        return;
    uint8_t next = GWI_FOREIGN_NONE;
    for (uint32_t i = 0; i < GW_SLOTS && next == GWI_FOREIGN_NONE; i++) {
        uint64_t word = atomic_load_explicit(&f->slot[i], memory_order_seq_cst);
        if (word != 0 && !(word & GWI_FOREIGN_CLEARED))
            next = GWI_FOREIGN_SOME;
    }
    now = GWI_FOREIGN_CLOSING; /* else somebody has written SOME, which stays */
    (void)atomic_compare_exchange_strong_explicit(&f->any, &now, next, memory_order_seq_cst,
                                                  memory_order_relaxed);
}

void gwi_foreign_count(struct gwi_foreign *f, uint64_t log_id, int64_t n)
{
    struct gwi_foreign_log *log = log_find(f, log_id);
    if (log)
        atomic_fetch_add_explicit(&log->live, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&f->live, n, memory_order_relaxed);
}

/* ---- on paper ----
 *
 * how many words of slots, how many of logs; slots: first << 32 | last, word; logs: id, lowest,
 * highest, live. */

static bool counts(uint64_t word, uint64_t from, uint64_t held)
{
    return word != 0 && word >= from && (!(word & GWI_FOREIGN_CLEARED) || word > held);
}

static uint64_t slots_write(struct gwi_foreign *f, uint64_t from, uint64_t held, uint64_t *words,
                            uint64_t max)
{
    uint64_t n = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS;) {
        uint64_t word = atomic_load_explicit(&f->slot[slot], memory_order_acquire);
        uint32_t first = slot++;
        if (!counts(word, from, held))
            continue;
        /* A run has the highest of its words: too high is right, too. */
        for (; slot < GW_SLOTS; slot++) {
            uint64_t next = atomic_load_explicit(&f->slot[slot], memory_order_acquire);
            if (!counts(next, from, held) || ((next ^ word) & GWI_FOREIGN_CLEARED))
                break;
            word = next > word ? next : word;
        }
        if (n + 2 <= max) {
            words[n] = (uint64_t)first << 32 | (slot - 1);
            words[n + 1] = word;
        }
        n += 2;
    }
    return n;
}

static uint64_t logs_write(struct gwi_foreign *f, uint64_t from, uint64_t held, uint64_t *words,
                           uint64_t max)
{
    uint64_t n = 0;
    uint32_t logs = atomic_load_explicit(&f->logs, memory_order_acquire);
    for (uint32_t i = 0; i < logs; i++) {
        struct gwi_foreign_log *log = &f->log[i];
        uint64_t highest = atomic_load_explicit(&log->highest, memory_order_acquire);
        if (!counts(highest, from, held))
            continue;
        if (n + 4 <= max) {
            words[n] = atomic_load_explicit(&log->id, memory_order_relaxed);
            words[n + 1] = atomic_load_explicit(&log->lowest, memory_order_acquire);
            words[n + 2] = highest;
            words[n + 3] = (uint64_t)atomic_load_explicit(&log->live, memory_order_relaxed);
        }
        n += 4;
    }
    return n;
}

uint64_t gwi_foreign_write(struct gwi_foreign *f, uint64_t from, uint64_t held, uint64_t *words,
                           uint64_t max)
{
    if (atomic_load_explicit(&f->logs, memory_order_acquire) == 0)
        return 0;
    uint64_t at = max < 2 ? max : 2;
    uint64_t slots = slots_write(f, from, held, words ? words + at : NULL, max - at);
    at = at + slots < max ? at + slots : max;
    uint64_t logs = logs_write(f, from, held, words ? words + at : NULL, max - at);
    if (2 + slots + logs <= max) {
        words[0] = slots;
        words[1] = logs;
    }
    return 2 + slots + logs;
}

/* As of the image: what was cleared since stands there. */
static uint64_t as_of(uint64_t word, gw_addr end)
{
    return (word & GWI_FOREIGN_CLEARED) ? end.v : word;
}

enum gw_status gwi_foreign_read(struct gwi_foreign *f, const uint64_t *words, uint64_t count,
                                gw_addr end)
{
    if (count == 0)
        return GW_OK;
    if (count < 2 || words[0] > count - 2 || words[1] != count - 2 - words[0] ||
        words[0] % 2 != 0 || words[1] % 4 != 0)
        return GW_E_CORRUPT;
    const uint64_t *slots = words + 2, *logs = slots + words[0];
    for (uint64_t i = 0; i < words[0]; i += 2) {
        uint64_t first = slots[i] >> 32, last = slots[i] & UINT32_MAX;
        if (first > last || last >= GW_SLOTS)
            return GW_E_CORRUPT;
        for (uint64_t slot = first; slot <= last; slot++)
            word_raise(&f->slot[slot], as_of(slots[i + 1], end));
        gwi_foreign_some(f);
    }
    for (uint64_t i = 0; i < words[1]; i += 4) {
        struct gwi_foreign_log *log = log_want(f, logs[i]);
        if (!log)
            return GW_E_CORRUPT;
        log_raise(log, logs[i + 1], as_of(logs[i + 2], end));
        int64_t live = (int64_t)logs[i + 3];
        gwi_foreign_count(f, logs[i], live > 0 ? live : 0);
    }
    return GW_OK;
}

/* ---- what others may delete ---- */

void gw_store_foreign_retained(struct gw_store *store, uint64_t oldest_end)
{
    _Atomic uint64_t *retained = &store->foreign->retained;
    uint64_t now = atomic_load_explicit(retained, memory_order_relaxed);
    while (now < oldest_end &&
           !atomic_compare_exchange_weak_explicit(retained, &now, oldest_end, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

/* Below this address no record is met any more, by images either. */
static uint64_t lowest_own(struct gw_store *store)
{
    return gwi_begin_needed(store, atomic_load_explicit(&store->log->begin, memory_order_acquire));
}

uint32_t gw_store_foreign(struct gw_store *store, struct gw_foreign_need *out, uint32_t max)
{
    struct gwi_foreign *f = store->foreign;
    uint64_t own = lowest_own(store), held = UINT64_MAX;
    if (store->retains)
        held = atomic_load_explicit(&f->retained, memory_order_acquire);
    uint32_t n = 0, logs = atomic_load_explicit(&f->logs, memory_order_acquire);
    for (uint32_t i = 0; i < logs; i++) {
        struct gwi_foreign_log *log = &f->log[i];
        uint64_t highest = atomic_load_explicit(&log->highest, memory_order_acquire);
        if (!counts(highest, own, held))
            continue;
        int64_t live = atomic_load_explicit(&log->live, memory_order_relaxed);
        if (n < max)
            out[n] = (struct gw_foreign_need){.log_id = atomic_load_explicit(&log->id,
                                                                             memory_order_relaxed),
                                              .lowest = atomic_load_explicit(&log->lowest,
                                                                             memory_order_acquire),
                                              .indirections = live > 0 ? (uint64_t)live : 0,
                                              .retained_only = highest & GWI_FOREIGN_CLEARED};
        n++;
    }
    return n;
}

void gw_store_indirection_stats(const struct gw_store *store, struct gw_indirection_stats *out)
{
    const struct gwi_foreign *f = store->foreign;
    int64_t live = atomic_load_explicit(&f->live, memory_order_relaxed);
    *out = (struct gw_indirection_stats){
        .linked = atomic_load_explicit(&f->linked, memory_order_relaxed),
        .followed = atomic_load_explicit(&f->followed, memory_order_relaxed),
        .found = atomic_load_explicit(&f->found, memory_order_relaxed),
        .absent = atomic_load_explicit(&f->absent, memory_order_relaxed),
        .resolved = atomic_load_explicit(&f->resolved, memory_order_relaxed),
        .retired = atomic_load_explicit(&f->retired, memory_order_relaxed),
        .live = live > 0 ? (uint64_t)live : 0};
}

/* ---- the record ---- */

void gw_indirection_encode(const struct gw_indirection *in, uint8_t value[GW_INDIRECTION_BYTES])
{
    uint64_t begin = in->begin >> BEGIN_SHIFT;
    gw_store64(value, in->log_id);
    gw_store64(value + 8, in->address);
    gw_store64(value + 16, in->hash_prefix);
    gw_store64(value + 24, in->map_version);
    gw_store64(value + 32, (uint64_t)in->slot | (uint64_t)in->prefix_bits << 16 | begin << 24);
}

void gw_indirection_decode(const uint8_t value[GW_INDIRECTION_BYTES], struct gw_indirection *out)
{
    uint64_t last = gw_load64(value + 32);
    *out = (struct gw_indirection){.log_id = gw_load64(value),
                                   .address = gw_load64(value + 8),
                                   .hash_prefix = gw_load64(value + 16),
                                   .map_version = gw_load64(value + 24),
                                   .slot = (uint16_t)last,
                                   .prefix_bits = (uint8_t)(last >> 16),
                                   .begin = last >> 24 << BEGIN_SHIFT};
}

bool gw_indirection_is_sound(const struct gw_indirection *in)
{
    return in->slot < GW_SLOTS && in->prefix_bits <= 64 && in->address != 0 &&
           in->address <= GW_INDIRECTION_ADDRESS_MAX && in->address % GW_ADDR_UNIT == 0 &&
           in->begin <= in->address && in->begin % (1u << BEGIN_SHIFT) == 0 &&
           (in->prefix_bits == 64 || (in->prefix_bits == 0 && in->hash_prefix == 0) ||
            (in->prefix_bits != 0 && in->hash_prefix << in->prefix_bits == 0));
}

bool gwi_indirection_of(struct gw_record *record, uint64_t control, struct gw_indirection *out)
{
    uint8_t value[GW_INDIRECTION_BYTES];
    if (gw_record_units(record) != GWI_INDIRECTION_UNITS || gw_control_key_bytes(control) != 0 ||
        gw_record_value_bytes(record, control) != GW_INDIRECTION_BYTES)
        return false;
    gw_value_load(value, gw_record_value(record, control), sizeof value);
    gw_indirection_decode(value, out);
    return gw_indirection_is_sound(out);
}

void gwi_indirection_fill(struct gw_record *record, const struct gw_indirection *in, uint64_t flags)
{
    uint8_t value[GW_INDIRECTION_BYTES];
    uint64_t capacity = GWI_INDIRECTION_UNITS * GW_ADDR_UNIT - GW_RECORD_HEADER;
    uint64_t control =
        gw_control_make(0, 0, (uint32_t)(capacity - sizeof value), GW_RECORD_INDIRECTION, flags);
    gw_indirection_encode(in, value);
    gw_record_fill(record, GWI_INDIRECTION_UNITS, value, control);
    gw_value_store(gw_record_value(record, control), value, sizeof value);
    gw_record_pad(record, control);
}

uint32_t gwi_chain_bits(const struct gw_thread *t, uint64_t hash)
{
    struct gw_table_chain bucket;
    gw_table_chain_open(t->table, hash, &bucket);
    uint32_t of_bucket = (uint32_t)__builtin_clzll(bucket.last - bucket.first);
    uint32_t of_entry = 64 - t->table->split_shift;
    return of_bucket > of_entry ? of_bucket : of_entry;
}

void gwi_chain_prefix(const struct gw_thread *t, uint64_t hash, uint64_t entry,
                      struct gw_indirection *out)
{
    uint32_t shift = t->table->split_shift, bits = gwi_chain_bits(t, hash);
    uint64_t of = (hash & ~((uint64_t)63 << shift)) | (uint64_t)gw_entry_hash_bits(entry) << shift;
    out->hash_prefix = of & ~(UINT64_MAX >> bits);
    out->prefix_bits = (uint8_t)bits;
}
