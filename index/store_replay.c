/* store_replay.c - the log of an image read from the device by all cores, its records put into the
 * index. Contract: replay.h.
 *
 * Rules:
 *  1. Each worker takes the next page, reads it in large pieces, several on their way, and works on
 *     what has come. In which order records are met does not matter: an entry is raised by CAS,
 * only to a higher address, and the highest record of a chain is its newest (ENGINE H13).
 *  2. Seals say nothing here: who set one may have been dropped with what lay above the image. Void
 *     records were never published. Everything else was, or its thread had been inside the epoch
 *     when the pages below the cut's end were written, which nobody was.
 *  3. The table is as fine as any for which a record was written, so records that share an entry
 *     here shared one then. It may grow meanwhile: what shared an entry does so in both halves.
 *  4. Bytes come from the device checked against the checksums of their blocks; what they mean is
 *     checked here. What is wrong is named and ends the replay: an image is whole or it is none.
 *  5. Buckets are fetched while the records before them are worked on: a batch is hashed first. */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/checksum.h"
#include "index/base/hash.h"
#include "index/device.h"
#include "index/foreign.h"
#include "index/replay.h"

#define BATCH       64u
#define PAGES_AHEAD 3u /* of a worker: one that is worked on, others on their way */
#define AHEAD_BYTES (24u << 20)
#define PIECE_BYTES (1u << 20)
#define IDLE_MS     1
#define IDLE_NS     20000
#define GROW_BUDGET 512u

struct worker;

struct piece {
    struct page *page;
    uint64_t at;
    uint32_t bytes;
    bool asked;
    enum gw_status status;
};

struct page {
    struct worker *worker;
    bool open;
    uint64_t number;
    uint8_t *data;
    uint32_t pieces, left; /* left: that have not come */
    struct piece *piece;
};

struct worker {
    struct gwi_replay *r;
    struct gw_device *device;
    pthread_t thread;
    uint32_t queue, slot, on_their_way, pages_count;
    struct page pages[PAGES_AHEAD];
    uint64_t reference; /* for widening */
};

struct found {
    uint64_t hash, last; /* last: of what an indirection covers; else as hash */
    gw_addr address;
    uint16_t slot;
};

void gwi_replay_fail(struct gwi_replay *r, enum gw_status status, const char *text)
{
    pthread_mutex_lock(&r->lock);
    if (r->status == GW_OK) {
        r->status = status;
        snprintf(r->why, r->why_bytes, "%s", text);
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store_explicit(&r->stop, true, memory_order_relaxed);
}

static void fail_at(struct gwi_replay *r, enum gw_status status, uint64_t at, const char *what)
{
    char text[192];
    snprintf(text, sizeof text, "address %llu (0x%llx): %s", (unsigned long long)at,
             (unsigned long long)at, what);
    gwi_replay_fail(r, status, text);
}

static void fail_full(struct gwi_replay *r)
{
    char text[192];
    const struct gw_table *table = r->store->table;
    snprintf(text, sizeof text,
             "the index has no room for the keys of the image: it has taken %llu bytes of memory "
             "of %llu that it is given",
             (unsigned long long)gw_table_memory_bytes(table),
             (unsigned long long)r->store->index_bytes_max);
    gwi_replay_fail(r, GW_E_INVALID, text);
}

static bool stopped(const struct gwi_replay *r)
{
    return atomic_load_explicit(&r->stop, memory_order_relaxed); /* a hint */
}

/* ---- the index ---- */

/* Makes the address the newest of its chain if it is higher than what is there. Requires: inside
 * the epoch. GW_RETRY: the table has to grow first. */
static enum gw_status raise(struct worker *w, const struct found *f)
{
    struct gw_table *table = w->r->store->table;
    uint64_t tag = gw_table_tag(table, f->hash, f->slot);
    for (;;) {
        uint64_t entry;
        _Atomic uint64_t *place;
        enum gw_status st = gw_table_insert(table, f->hash, tag, f->address, &place, &entry);
        if (st != GW_EXISTS)
            return st;
        while (gw_entry_matches(entry, tag)) {
            gw_addr there = gw_addr_widen(gw_entry_narrow(entry), gw_addr_of(w->reference));
            if (there.v >= f->address.v)
                return GW_OK;
            /* Relaxed: nobody follows it before the workers have been joined. A word that is frozen
             * or was moved meanwhile does not match any more: from the start. */
            if (atomic_compare_exchange_strong_explicit(place, &entry,
                                                        gw_entry_make(tag, f->address),
                                                        memory_order_relaxed, memory_order_relaxed))
                return GW_OK;
        }
    }
}

/* The same for every chain that an indirection covers: beyond six doublings of the index there may
 * be several, and the record is in each of them. */
static enum gw_status raise_part(struct worker *w, struct found *f)
{
    for (;;) {
        enum gw_status st = raise(w, f);
        if (st != GW_OK || f->hash == f->last)
            return st;
        struct gw_table_chain bucket;
        gw_table_chain_open(w->r->store->table, f->hash, &bucket);
        if (bucket.last >= f->last)
            return GW_OK;
        f->hash = bucket.last + 1;
    }
}

/* Enters what was found, helping the table to grow where that is needed; leaves the epoch. */
static void raise_all(struct worker *w, struct found *found, uint32_t n)
{
    struct gw_store *store = w->r->store;
    for (uint32_t i = 0; i < n && !stopped(w->r); i++) {
        enum gw_status st;
        while ((st = raise_part(w, &found[i])) == GW_RETRY && !stopped(w->r)) {
            gw_table_grow(store->table, store->epoch, UINT64_MAX, 0, GROW_BUDGET);
            gw_epoch_exit(store->epoch, w->slot);
            gw_epoch_poll(store->epoch);
            gw_epoch_enter(store->epoch, w->slot);
        }
        if (st == GW_E_FULL)
            fail_full(w->r);
        else if (st != GW_OK && st != GW_RETRY)
            gwi_replay_fail(w->r, st, "the index");
    }
    gw_epoch_exit(store->epoch, w->slot);
    if (gw_table_grow_wanted(store->table)) {
        gw_epoch_enter(store->epoch, w->slot);
        gw_table_grow(store->table, store->epoch, UINT64_MAX, 0, GROW_BUDGET);
        gw_epoch_exit(store->epoch, w->slot);
        gw_epoch_poll(store->epoch);
    }
}

/* ---- a page ---- */

/* Where the page's records end; 0: it is not the page that should be here. */
static uint64_t page_end(struct worker *w, const struct page *p)
{
    const struct gw_log *log = w->r->store->log;
    struct gw_log_page_header h;
    memcpy(&h, p->data, sizeof h);
    uint64_t start = p->number << log->page_bits, used = (uint64_t)h.used_units * GW_ADDR_UNIT;
    const char *why = NULL;
    if (h.magic != GW_LOG_PAGE_MAGIC)
        why = "no page begins here";
    else if (h.crc != gw_crc32c(0, &h, offsetof(struct gw_log_page_header, crc)))
        why = "the page's header is damaged";
    else if (h.format != GW_LOG_PAGE_FORMAT)
        why = "the page has another format";
    else if (h.page_bits != log->page_bits)
        why = "the page has another size";
    else if (h.address != start)
        why = "the page is one of another address";
    else if (h.store_id != log->store_id)
        why = "the page is of another store";
    else if (used < GW_LOG_PAGE_HEADER || used > log->page_bytes)
        why = "the page's length is wrong";
    if (!why)
        return used;
    fail_at(w->r, GW_E_CORRUPT, start, why);
    return 0;
}

/* What is wrong with a record of which `left` bytes are there; NULL: nothing. */
static const char *record_fault(const struct gw_record *record, uint64_t control, uint64_t left)
{
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    if (bytes > left)
        return "a record is longer than what its page holds";
    if (gw_control_kind(control) == GW_RECORD_VOID)
        return NULL;
    if (gw_control_kind(control) == GW_RECORD_INDIRECTION) {
        struct gw_indirection in;
        return bytes == GWI_INDIRECTION_UNITS * GW_ADDR_UNIT &&
                       gwi_indirection_of((struct gw_record *)record, control, &in)
                   ? NULL
                   : "an indirection that makes no sense";
    }
    if (gw_control_key_bytes(control) == 0 || gw_record_head_bytes(control) +
                                                      gw_round8(gw_control_key_bytes(control)) +
                                                      gw_control_slack(control) >
                                                  bytes)
        return "a record whose key and value do not fit its length";
    return NULL;
}

static void page_replay(struct worker *w, struct page *p)
{
    struct gwi_replay *r = w->r;
    struct gw_store *store = r->store;
    uint64_t start = p->number << store->log->page_bits, end = page_end(w, p);
    uint64_t records = 0, dropped = 0;
    struct found found[BATCH];
    for (uint64_t at = GW_LOG_PAGE_HEADER; at < end && !stopped(r);) {
        uint32_t n = 0;
        gw_epoch_enter(store->epoch, w->slot);
        while (n < BATCH && at < end) {
            const struct gw_record *record = (const void *)(p->data + at);
            /* Relaxed: a buffer of one's own. */
            uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
            uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
            if (bytes == 0) { /* the rest is unused */
                at = end;
                break;
            }
            const char *fault = record_fault(record, control, end - at);
            if (GW_UNLIKELY(fault != NULL)) {
                fail_at(r, GW_E_CORRUPT, start + at, fault);
                break;
            }
            gw_addr address = gw_addr_of(start + at);
            at += bytes;
            if (gw_control_kind(control) == GW_RECORD_VOID)
                continue;
            struct found met = {.address = address};
            if (GW_UNLIKELY(gw_control_kind(control) == GW_RECORD_INDIRECTION)) {
                struct gw_indirection in;
                (void)gwi_indirection_of((struct gw_record *)record, control, &in); /* sound */
                met.hash = in.hash_prefix;
                met.last = gwi_prefix_last(in.hash_prefix, in.prefix_bits);
                met.slot = in.slot;
            } else {
                const uint8_t *key = gw_record_key(record, control);
                uint16_t key_bytes = gw_control_key_bytes(control);
                met.slot = gw_key_slot(key, key_bytes);
                met.hash = met.last = gw_key_hash(key, key_bytes, store->hash_seed);
            }
            records++;
            if (GW_UNLIKELY(gwi_floor(store->floors, met.slot) > address.v)) {
                dropped += r->drop && gw_slots_has(r->drop, met.slot);
                continue;
            }
            __builtin_prefetch(gw_table_bucket(store->table, met.hash), 1, 3);
            found[n++] = met;
        }
        raise_all(w, found, n);
    }
    atomic_fetch_add_explicit(&r->records, records, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->dropped, dropped, memory_order_relaxed);
    if (r->progress_bytes)
        atomic_fetch_add_explicit(r->progress_bytes, store->log->page_bytes, memory_order_relaxed);
}

/* ---- reading ---- */

static void piece_read(void *arg, enum gw_status status)
{
    struct piece *piece = arg;
    piece->status = status;
    piece->page->left--;
    piece->page->worker->on_their_way--;
}

static void device_wait(struct worker *w)
{
    if (w->device->poll(w->device, w->queue) != 0)
        return;
    int fd = w->device->wait_fd(w->device, w->queue);
    if (fd >= 0) {
        struct pollfd event = {.fd = fd, .events = POLLIN};
        (void)poll(&event, 1, IDLE_MS); /* whatever it says: the queue is polled again */
    } else {
        nanosleep(&(struct timespec){.tv_nsec = IDLE_NS}, NULL);
    }
}

/* A piece could not be read: which of its blocks? */
static void piece_fault(struct worker *w, struct piece *bad)
{
    struct page *page = bad->page;
    enum gw_status status = bad->status;
    uint64_t at = bad->at;
    for (uint64_t done = 0; done < bad->bytes && status == GW_E_CORRUPT; done += GW_DEVICE_BLOCK) {
        struct piece one = {.page = page, .at = bad->at + done, .bytes = GW_DEVICE_BLOCK};
        page->left++;
        w->on_their_way++;
        enum gw_status st;
        while ((st = w->device->read(w->device, w->queue, gw_addr_of(one.at), page->data, one.bytes,
                                     piece_read, &one)) == GW_WOULD_BLOCK)
            device_wait(w);
        if (st != GW_PENDING)
            piece_read(&one, st);
        while (page->left != 0)
            device_wait(w);
        if (one.status != GW_OK) {
            at = one.at;
            status = one.status;
            break;
        }
    }
    fail_at(w->r, status == GW_NOT_FOUND ? GW_E_CORRUPT : status, at,
            status == GW_NOT_FOUND   ? "the device has no such page"
            : status == GW_E_CORRUPT ? "the block's checksum is wrong"
                                     : "the device could not read it");
}

/* Asks for what was not asked for yet. */
static void page_ask(struct worker *w, struct page *p)
{
    for (uint32_t i = 0; i < p->pieces; i++) {
        struct piece *piece = &p->piece[i];
        if (piece->asked)
            continue;
        enum gw_status st =
            w->device->read(w->device, w->queue, gw_addr_of(piece->at),
                            p->data + (piece->at - (p->number << w->r->store->log->page_bits)),
                            piece->bytes, piece_read, piece);
        if (st == GW_WOULD_BLOCK)
            return;
        piece->asked = true;
        w->on_their_way++;
        if (st != GW_PENDING)
            piece_read(piece, st);
    }
}

static bool page_take(struct worker *w, struct page *p)
{
    struct gwi_replay *r = w->r;
    const struct gw_log *log = r->store->log;
    pthread_mutex_lock(&r->lock);
    uint64_t number = gwi_log_page_from(log, r->next);
    bool got = number < r->end && !stopped(r);
    if (got)
        r->next = number + 1;
    pthread_mutex_unlock(&r->lock);
    if (!got)
        return false;
    p->open = true;
    p->number = number;
    p->left = p->pieces;
    for (uint32_t i = 0; i < p->pieces; i++) {
        uint64_t offset = (uint64_t)i * PIECE_BYTES, rest = log->page_bytes - offset;
        p->piece[i] = (struct piece){.page = p,
                                     .at = (number << log->page_bits) + offset,
                                     .bytes = (uint32_t)(rest < PIECE_BYTES ? rest : PIECE_BYTES)};
    }
    page_ask(w, p);
    return true;
}

static void page_done(struct worker *w, struct page *p)
{
    p->open = false;
    for (uint32_t i = 0; i < p->pieces && !stopped(w->r); i++)
        if (p->piece[i].status != GW_OK)
            piece_fault(w, &p->piece[i]);
    if (!stopped(w->r))
        page_replay(w, p);
}

static void work(struct worker *w)
{
    bool more = true;
    while (!stopped(w->r)) {
        bool open = false, done = false;
        for (uint32_t i = 0; i < w->pages_count; i++) {
            struct page *p = &w->pages[i];
            if (!p->open && more)
                more = page_take(w, p);
            else if (p->open && p->left != 0)
                page_ask(w, p);
            open |= p->open;
        }
        if (!open)
            return;
        w->device->poll(w->device, w->queue);
        for (uint32_t i = 0; i < w->pages_count; i++) {
            struct page *p = &w->pages[i];
            if (!p->open || p->left != 0)
                continue;
            page_done(w, p);
            done = true;
            if (more && !stopped(w->r))
                more = page_take(w, p); /* its reads go on while the next one is worked on */
        }
        if (!done)
            device_wait(w);
    }
}

/* ---- workers ---- */

static void worker_free(struct worker *w)
{
    uint64_t bytes = w->r->store->log->page_bytes;
    while (w->on_their_way != 0) /* the rooms are ours */
        device_wait(w);
    for (uint32_t i = 0; i < w->pages_count; i++) {
        gw_memory_unmap(w->pages[i].data, bytes);
        free(w->pages[i].piece);
    }
    gw_epoch_leave(w->r->store->epoch, w->slot);
}

static enum gw_status worker_init(struct gwi_replay *r, struct worker *w, uint32_t queue)
{
    uint64_t bytes = r->store->log->page_bytes;
    *w = (struct worker){.r = r, .device = r->store->log->device, .queue = queue};
    w->reference = gw_log_tail(r->store->log).v + GW_ADDR_LEAD;
    enum gw_status st = gw_epoch_join(r->store->epoch, false, &w->slot);
    if (st != GW_OK)
        return st;
    uint64_t wanted = AHEAD_BYTES / bytes;
    wanted = wanted > r->pages_each ? r->pages_each : wanted;
    wanted = wanted < 2 ? 2 : wanted;
    while (w->pages_count < wanted) {
        struct page *p = &w->pages[w->pages_count];
        void *data;
        p->worker = w;
        p->pieces = (uint32_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES);
        p->piece = calloc(p->pieces, sizeof *p->piece);
        if (!p->piece || gw_memory_map(bytes, &data, NULL) != GW_OK) {
            free(p->piece);
            worker_free(w);
            return GW_E_NOMEM;
        }
        p->data = data;
        w->pages_count++;
    }
    return GW_OK;
}

static void *worker_main(void *arg)
{
    work(arg);
    return NULL;
}

enum gw_status gwi_replay_run(struct gwi_replay *r, uint32_t threads)
{
    /* All together not more than the memory of the log, of which nothing is in use yet. */
    uint32_t frames = r->store->log->frames_count;
    threads = threads < frames / 2 ? threads : frames / 2;
    r->pages_each = frames / threads < PAGES_AHEAD ? frames / threads : PAGES_AHEAD;
    struct worker *workers = calloc(threads, sizeof *workers);
    uint32_t made = 0, started = 0;
    if (!workers)
        return GW_E_NOMEM;
    /* Those that cannot be had are done without, all but the first. */
    while (made < threads && worker_init(r, &workers[made], made) == GW_OK)
        made++;
    if (made == 0) {
        free(workers);
        return GW_E_NOMEM;
    }
    while (started + 1 < made && pthread_create(&workers[started + 1].thread, NULL, worker_main,
                                                &workers[started + 1]) == 0)
        started++;
    work(&workers[0]);
    for (uint32_t i = 1; i <= started; i++)
        pthread_join(workers[i].thread, NULL);
    for (uint32_t i = 0; i < made; i++)
        worker_free(&workers[i]);
    free(workers);
    return r->status;
}
