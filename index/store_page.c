/* store_page.c - visiting the records of a page of the log that is on the device, in the order in
 * which they lie there, and of these the ones to which the index leads at once.
 *
 * Rules:
 *  1. A cursor says all: which page, and where in it. What has been read of a page is only a
 *     buffer, of which a thread has a few, each for one owner; one that its owner has not come back
 *     for is taken by the next, and who comes late reads again.
 *  2. The record to which an index entry leads is the newest of its chain, hence of its key. The
 *     entry is looked at in the same stay in the epoch in which the record is handed out.
 *  3. Seals mean nothing here, as in a walk over the index: what an entry leads to counts. */
#include <stdlib.h>

#include "index/gather.h"
#include "index/pages.h"

#define READERS 4u
/* About so much is asked for at once: enough for a device to be read at its rate by one read at a
 * time, little enough for the memory of a thread. */
#define PIECE_BYTES  (1u << 20)
#define WAITED_FOR   100000000u /* ns; a buffer that nobody has come for since is anybody's */
#define GIVE_BACK_NS 1000000000u

struct reader {
    struct gwi_page_read in;
    uint64_t owner;   /* the cursor's */
    uint64_t used_ns; /* 0: never */
    bool done;        /* its page is at its end, or cannot be read */
};

struct gwi_pages {
    struct reader reader[READERS];
    uint64_t look_ns; /* then some may be given back; UINT64_MAX: nothing is held */
};

static uint64_t now(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

enum gw_status gwi_pages_join(struct gw_thread *t)
{
    t->pages = calloc(1, sizeof *t->pages);
    if (!t->pages)
        return GW_E_NOMEM;
    t->pages->look_ns = UINT64_MAX;
    return GW_OK;
}

void gwi_pages_leave(struct gw_thread *t)
{
    for (uint32_t i = 0; i < READERS; i++) {
        struct gwi_page_read *in = &t->pages->reader[i].in;
        while (in->read == GWI_READ_UNDER_WAY) /* it calls back once */
            t->log->device->poll(t->log->device, t->slot);
        gwi_page_free(in);
    }
    free(t->pages);
    t->pages = NULL;
}

void gwi_pages_turn(struct gw_thread *t)
{
    struct gwi_pages *pages = t->pages;
    if (GW_LIKELY(pages->look_ns == UINT64_MAX))
        return;
    uint64_t now_ns = now();
    if (now_ns < pages->look_ns)
        return;
    pages->look_ns = UINT64_MAX;
    for (uint32_t i = 0; i < READERS; i++) {
        struct reader *r = &pages->reader[i];
        if (r->in.read != GWI_READ_UNDER_WAY && now_ns - r->used_ns >= GIVE_BACK_NS) {
            gwi_page_free(&r->in);
            r->in.read = GWI_READ_NONE; /* whatever came: nobody came for it */
            r->used_ns = 0;
        }
        if (r->used_ns != 0)
            pages->look_ns = now_ns + GIVE_BACK_NS;
    }
}

uint32_t gwi_pages_reads(const struct gw_thread *t)
{
    uint32_t reads = 0;
    for (uint32_t i = 0; i < READERS; i++)
        reads += t->pages->reader[i].in.read == GWI_READ_UNDER_WAY;
    return reads;
}

uint64_t gwi_pages_bytes(const struct gw_thread *t)
{
    uint64_t bytes = sizeof *t->pages;
    for (uint32_t i = 0; i < READERS; i++)
        bytes += atomic_load_explicit(&t->pages->reader[i].in.buffer_memory, memory_order_relaxed);
    return bytes;
}

/* May the reader be taken for another page of this owner, who has one in hand at a time? That of a
 * page that he has left in the middle only if there is no other. */
static uint32_t idleness(const struct reader *r, uint64_t owner, uint64_t now_ns)
{
    if (r->in.read == GWI_READ_UNDER_WAY)
        return 0;
    if (r->done || now_ns - r->used_ns >= WAITED_FOR)
        return 2;
    return r->owner == owner;
}

/* The reader that has the cursor's page, or one that takes it up; NULL: none is to be had. */
static struct reader *reader_of(struct gw_thread *t, const struct gw_page_cursor *cursor)
{
    struct gwi_pages *pages = t->pages;
    struct reader *best = NULL;
    uint64_t now_ns = now();
    uint32_t best_idle = 0;
    for (uint32_t i = 0; i < READERS; i++) {
        struct reader *r = &pages->reader[i];
        if (r->used_ns != 0 && !r->done && r->owner == cursor->owner &&
            r->in.page == cursor->page) {
            r->used_ns = now_ns;
            return r;
        }
        uint32_t idle = idleness(r, cursor->owner, now_ns);
        /* Of those that are over the last one: its buffer is there. Else who waits longest. */
        if (idle > best_idle ||
            (idle != 0 && idle == best_idle && (r->used_ns > best->used_ns) == (idle == 2))) {
            best = r;
            best_idle = idle;
        }
    }
    if (!best)
        return NULL;
    best->used_ns = now_ns;
    best->done = false;
    best->owner = cursor->owner;
    gwi_page_begin(&best->in, t->log, cursor->page);
    if (pages->look_ns == UINT64_MAX)
        pages->look_ns = now_ns + GIVE_BACK_NS;
    return best;
}

/* Does the index lead to the record at once? Then it is the newest of its key (rule 2). */
static bool is_led_to(struct gw_thread *t, const struct gwi_met *met)
{
    uint64_t entry, tag = gw_table_tag(t->table, met->hash, met->slot);
    return gw_table_find(t->table, met->hash, tag, &entry) != NULL &&
           gw_addr_widen(gw_entry_narrow(entry), t->view.reference).v == met->address.v;
}

/* False: fn has stopped it, or there was no memory for the value. */
static bool hand_out(struct gw_thread *t, const struct gwi_met *met, gw_walk_cb fn, void *ctx)
{
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    struct gw_record_view view = {
        .key = gw_record_key(met->record, control),
        .key_bytes = gw_control_key_bytes(control),
        .slot = met->slot,
        .hash = met->hash,
    };
    return gwi_view_fill(t, met->record, &view) && fn(ctx, &view);
}

static bool is_key(const struct gwi_met *met)
{
    return gw_control_kind(atomic_load_explicit(&met->record->control, memory_order_relaxed)) !=
           GW_RECORD_INDIRECTION;
}

/* Records are handed out some behind those that are parsed, so that the misses of the index
 * overlap. */
#define BEHIND 8u

struct visit {
    const struct gw_slots *slots;
    gw_walk_cb fn;
    void *ctx;
    struct gwi_met met[BEHIND];
    uint32_t count;
};

/* Hands out what was met; false: stopped, *stopped is the address of the first that was not. */
static bool visit_met(struct gw_thread *t, struct visit *v, uint64_t *stopped)
{
    for (uint32_t i = 0; i < v->count; i++)
        if (is_led_to(t, &v->met[i]) && !hand_out(t, &v->met[i], v->fn, v->ctx)) {
            *stopped = v->met[i].address.v;
            v->count = 0;
            return false;
        }
    v->count = 0;
    return true;
}

/* Goes over what the buffer holds. GW_OK; GW_END; GW_NOT_YET: *need bytes at in->at are not there;
 * GW_E_CORRUPT. */
static enum gw_status visit_buffer(struct gw_thread *t, struct gwi_page_read *in, struct visit *v,
                                   uint32_t records_max, uint64_t *need)
{
    enum gw_status st = GW_OK;
    uint64_t at = in->at;
    for (uint32_t n = 0; n < records_max && st == GW_OK; n++) {
        if (in->end != 0 && at >= in->end) {
            st = GW_END;
            break;
        }
        struct gwi_met *met = &v->met[v->count];
        switch (gwi_page_parse(t, in, at, true, met, need)) {
        case GWI_AT_RECORD:
            at += *need;
            if (!is_key(met))
                break;
            gwi_page_hash(t, met);
            v->count += gw_slots_has(v->slots, met->slot);
            if (v->count == BEHIND && !visit_met(t, v, &at)) {
                in->at = at;
                return GW_OK;
            }
            break;
        case GWI_AT_NOTHING:
            at += *need;
            break;
        case GWI_AT_END:
            st = GW_END;
            break;
        case GWI_AT_MISSING:
            st = GW_NOT_YET;
            break;
        case GWI_AT_BAD:
            st = GW_E_CORRUPT;
            break;
        }
    }
    bool all = visit_met(t, v, &at);
    in->at = at;
    return all ? st : GW_OK;
}

enum gw_status gw_store_walk_page(struct gw_thread *t, struct gw_page_cursor *cursor,
                                  const struct gw_slots *slots, uint32_t records_max, gw_walk_cb fn,
                                  void *ctx)
{
    GW_ASSERT(t->inside);
    struct gw_log *log = t->log;
    uint64_t page_end = (cursor->page + 1) << log->page_bits;
    if (!log->device || page_end <= t->view.begin ||
        gwi_log_page_from(log, cursor->page) != cursor->page)
        return GW_END; /* nothing in it counts any more, or it never was */
    GW_ASSERT(page_end <= t->view.head);
    struct reader *r = reader_of(t, cursor);
    if (!r)
        return GW_NOT_YET;
    struct gwi_page_read *in = &r->in;
    if (in->read == GWI_READ_UNDER_WAY)
        return GW_PENDING;
    enum gw_status st = in->read == GWI_READ_DONE ? gwi_page_take(t, in) : GW_OK;
    in->at = cursor->at ? cursor->at : (cursor->page << log->page_bits) + GW_LOG_PAGE_HEADER;
    if (cursor->end != 0)
        in->end = cursor->end;
    struct visit v = {.slots = slots, .fn = fn, .ctx = ctx};
    uint64_t need = 0;
    if (st == GW_OK)
        st = visit_buffer(t, in, &v, records_max, &need);
    if (in->end != 0) {
        cursor->at = in->at;
        cursor->end = in->end;
    }
    if (st == GW_NOT_YET) {
        st = gwi_page_fetch(t, in, gwi_page_missing(log, in), need, PIECE_BYTES);
        st = st == GW_WOULD_BLOCK || st == GW_E_NOMEM ? GW_NOT_YET : st;
    }
    r->done = st != GW_OK && st != GW_PENDING && st != GW_NOT_YET;
    /* Acquire: begin before the trim. What was trimmed meanwhile was dead. */
    if (GW_UNLIKELY(r->done && st != GW_END) &&
        page_end <= atomic_load_explicit(&log->begin, memory_order_acquire))
        return GW_END;
    return st;
}

void gw_store_pages_cold(struct gw_thread *t, uint64_t *first, uint64_t *end)
{
    GW_ASSERT(t->inside);
    *first = t->view.begin >> t->log->page_bits;
    *end = t->log->device ? t->view.head >> t->log->page_bits : *first;
    *end = *end > *first ? *end : *first;
}

uint64_t gw_store_page_bytes(const struct gw_thread *t)
{
    return t->log->page_bytes;
}
