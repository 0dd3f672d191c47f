/* page_read.c - see page_read.h. */
#include "index/page_read.h"

#include <stdlib.h>

#include "index/base/hash.h"
#include "index/foreign.h"

void gwi_page_begin(struct gwi_page_read *in, const struct gw_log *log, uint64_t page)
{
    in->page = page;
    in->at = (page << log->page_bits) + GW_LOG_PAGE_HEADER;
    in->end = 0;
    in->from = in->until = 0;
    in->read = GWI_READ_NONE;
}

static void read_done(void *arg, enum gw_status status)
{
    struct gwi_page_read *in = arg;
    in->read = GWI_READ_DONE;
    in->read_status = status;
}

static bool buffer_want(struct gwi_page_read *in, uint64_t bytes)
{
    if (bytes <= in->buffer_bytes)
        return true;
    uint8_t *buffer = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    if (!buffer)
        return false;
    free(in->buffer);
    in->buffer = buffer;
    in->buffer_bytes = bytes;
    atomic_store_explicit(&in->buffer_memory, bytes, memory_order_relaxed);
    return true;
}

void gwi_page_free(struct gwi_page_read *in)
{
    free(in->buffer);
    in->buffer = NULL;
    in->buffer_bytes = 0;
    atomic_store_explicit(&in->buffer_memory, 0, memory_order_relaxed);
}

enum gw_status gwi_page_fetch(struct gw_thread *t, struct gwi_page_read *in, uint64_t at,
                              uint64_t need, uint64_t piece)
{
    struct gw_log *log = t->log;
    uint64_t page_end = (in->page + 1) << log->page_bits;
    uint64_t from = at & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    uint64_t bytes = at + need - from;
    if (bytes < piece)
        bytes = piece;
    bytes = (bytes + GW_DEVICE_BLOCK - 1) & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    if (bytes > page_end - from)
        bytes = page_end - from;
    if (!buffer_want(in, bytes))
        return GW_E_NOMEM;
    in->from = in->until = from;
    enum gw_status st = log->device->read(log->device, t->slot, gw_addr_of(from), in->buffer,
                                          (uint32_t)bytes, read_done, in);
    if (st == GW_PENDING) {
        in->read = GWI_READ_UNDER_WAY;
        in->asked = from + bytes;
    }
    return st;
}

enum gw_status gwi_page_take(struct gw_thread *t, struct gwi_page_read *in)
{
    uint64_t start = in->page << t->log->page_bits;
    in->read = GWI_READ_NONE;
    in->until = in->from;
    if (in->read_status != GW_OK)
        return in->read_status;
    if (in->end == 0) {
        GW_ASSERT(in->from == start);
        const struct gw_log_page_header *header = (const void *)in->buffer;
        uint64_t used = (uint64_t)header->used_units * GW_ADDR_UNIT;
        if (header->magic != GW_LOG_PAGE_MAGIC || header->address != start ||
            used < GW_LOG_PAGE_HEADER || used > t->log->page_bytes)
            return GW_E_CORRUPT;
        in->end = start + used;
    }
    in->until = in->asked;
    return GW_OK;
}

/* Where the log's bytes at `at` are; *left: how many are there. NULL: they have to be fetched. */
static uint8_t *peek(struct gw_thread *t, struct gwi_page_read *in, uint64_t at, uint64_t *left)
{
    uint64_t start = in->page << t->log->page_bits;
    if (start + GW_LOG_PAGE_HEADER >= t->view.head) {
        struct gw_log_page_header *header = gw_log_page(t->log, in->page);
        if (in->end == 0)
            in->end = start + (uint64_t)header->used_units * GW_ADDR_UNIT;
        *left = start + t->log->page_bytes - at;
        return (uint8_t *)header + (at - start);
    }
    if (at < in->from || at >= in->until)
        return NULL;
    *left = in->until - at;
    return in->buffer + (at - in->from);
}

enum gwi_page_at gwi_page_parse(struct gw_thread *t, struct gwi_page_read *in, uint64_t at,
                                bool sealed, struct gwi_met *met, uint64_t *bytes)
{
    uint64_t left;
    uint8_t *p = peek(t, in, at, &left);
    *bytes = GW_RECORD_HEADER;
    if (!p || left < GW_RECORD_HEADER)
        return GWI_AT_MISSING;
    struct gw_record *record = (struct gw_record *)(void *)p;
    *bytes = gw_record_units(record) * GW_ADDR_UNIT;
    if (*bytes == 0)
        return GWI_AT_END;
    if (at + *bytes > in->end)
        return GWI_AT_BAD;
    /* Relaxed: final, and acquired with `flushable`. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (GW_UNLIKELY(control & GW_CONTROL_SEALED) && at < t->log->resumed) {
        control &= ~GW_CONTROL_SEALED; /* log_resume.c, rule 3; the buffer is ours */
        atomic_store_explicit(&record->control, control, memory_order_relaxed);
    }
    if (gw_control_kind(control) == GW_RECORD_VOID || (!sealed && (control & GW_CONTROL_SEALED)))
        return GWI_AT_NOTHING;
    if (gw_record_head_bytes(control) + gw_round8(gw_control_key_bytes(control)) +
            gw_control_slack(control) >
        *bytes)
        return GWI_AT_BAD;
    if (left < *bytes)
        return GWI_AT_MISSING;
    struct gw_indirection indirection;
    if (GW_UNLIKELY(gw_control_kind(control) == GW_RECORD_INDIRECTION) &&
        !gwi_indirection_of(record, control, &indirection))
        return GWI_AT_BAD;
    met->record = record;
    met->address = gw_addr_of(at);
    return GWI_AT_RECORD;
}

uint64_t gwi_page_missing(const struct gw_log *log, const struct gwi_page_read *in)
{
    return in->end ? in->at : in->page << log->page_bits;
}

void gwi_page_hash(struct gw_thread *t, struct gwi_met *met)
{
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    if (GW_UNLIKELY(gw_control_kind(control) == GW_RECORD_INDIRECTION)) {
        struct gw_indirection in = {0};
        (void)gwi_indirection_of(met->record, control, &in); /* sound: gwi_page_parse */
        met->hash = in.hash_prefix;
        met->slot = in.slot;
        return;
    }
    const uint8_t *key = gw_record_key(met->record, control);
    uint16_t key_bytes = gw_control_key_bytes(control);
    met->hash = gw_key_hash(key, key_bytes, t->store->hash_seed);
    met->slot = gw_key_slot(key, key_bytes);
    __builtin_prefetch(gw_table_bucket(t->table, met->hash), 0, 3);
}
