/* cold_walk.c - the steps of a cold walk: record after record down a chain, and on into the logs of
 * others. Rules: cold.c. */
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/cold_internal.h"
#include "index/foreign.h"

#define GUESS_MAX 65536u

/* ---- the walk ---- */

static void walk_end(struct gwi_cold *cold, struct gwi_cold_walk *w, enum gwi_cold_state state,
                     enum gw_status status)
{
    w->state = (uint8_t)state;
    w->status = status;
    w->ended_ns = gw_clock_now_ns(gw_clock_system());
    if (state != GWI_COLD_FOUND)
        gwi_cold_block_leave(cold, w);
    w->ended_turn = cold->turn;
    gwi_cold_list_add(w->whole ? &cold->whole : &cold->fresh, w);
    if (!w->whole && w->stop == 0) {
        w->announced = true;
        w->announce = NULL;
        *cold->announced_end = w;
        cold->announced_end = &w->announce;
    }
}

/* ---- other logs (rule 4) ---- */

enum gw_status gwi_cold_meet(struct gwi_cold *cold, struct gwi_cold_walk *w,
                             const struct gw_indirection *in, bool retired)
{
    for (uint32_t i = 0; i < w->met_count; i++)
        if (gwi_indirection_is(&w->met[i].in, in))
            return GW_OK; /* of the same two the upper one counts: it is newer */
    if (w->met_count == w->met_room) {
        uint32_t room = w->met_room ? w->met_room * 2 : 2;
        struct gwi_lead *met = realloc(w->met, room * sizeof *met);
        if (!met)
            return GW_E_NOMEM;
        gwi_cold_account(cold, (int64_t)((room - w->met_room) * sizeof *met));
        w->met = met;
        w->met_room = room;
    }
    w->met[w->met_count++] = (struct gwi_lead){.in = *in, .done = retired};
    return GW_OK;
}

bool gwi_cold_walk_next(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    struct gwi_lead *next = NULL;
    for (uint32_t i = 0; i < w->met_count; i++)
        if (!w->met[i].done && (!next || w->met[i].in.map_version > next->in.map_version))
            next = &w->met[i];
    if (!next)
        return false;
    next->done = true;
    uint64_t base = 0;
    if (cold->device->origin)
        base = cold->device->origin(cold->device, next->in.log_id);
    if (base == 0) {
        walk_end(cold, w, GWI_COLD_FAILED, cold->device->origin ? GW_E_LIMIT : GW_E_UNSUPPORTED);
        return false;
    }
    w->at = base | next->in.address;
    w->end = base | next->in.begin;
    return true;
}

/* The chain is at its end. True: the walk goes on in another log. */
static bool chain_ended(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    if (w->foreign && !w->whole) {
        gwi_cold_block_leave(cold, w);
        if (gwi_cold_walk_next(cold, w))
            return true;
        if (w->state == GWI_COLD_FAILED)
            return false;
    }
    walk_end(cold, w, GWI_COLD_ABSENT, GW_OK);
    return false;
}

/* Its place cannot be read. True: the walk goes on in another log. */
static bool walk_fail(struct gwi_cold *cold, struct gwi_cold_walk *w, enum gw_status status)
{
    /* What was trimmed meanwhile was dead: the chain ends there. Acquire: begin before the trim. */
    bool gone = w->foreign ? status == GW_NOT_FOUND && (w->end & GW_INDIRECTION_ADDRESS_MAX) == 0
                           : w->at < atomic_load_explicit(&cold->log->begin, memory_order_acquire);
    if (gone)
        return chain_ended(cold, w);
    walk_end(cold, w, GWI_COLD_FAILED, status == GW_NOT_FOUND ? GW_E_IO : status);
    return false;
}

static void block_read(void *arg, enum gw_status status);

/* Puts the walk behind a block that holds w->at: one that is there or under way, or a new read.
 * GW_OK: it is there; GW_PENDING: it will be; GW_WOULD_BLOCK: later; else failed. */
static enum gw_status block_enter(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    uint64_t start = w->at & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    uint64_t want = w->need ? w->need : cold->guess;
    uint64_t end = (w->at + want + GW_DEVICE_BLOCK - 1) & ~(uint64_t)(GW_DEVICE_BLOCK - 1);
    /* A foreign page is one of the smallest at least; a record of known size lies within its own.
     */
    uint64_t page_bytes =
        w->foreign ? (uint64_t)1 << GW_STORE_PAGE_BITS_MIN : cold->log->page_bytes;
    uint64_t page_end = (w->at | (page_bytes - 1)) + 1;
    if (!w->foreign || !w->need)
        end = end < page_end ? end : page_end;
    for (struct gwi_cold_block *b = *gwi_cold_block_place(cold, start); b; b = b->next) {
        if (b->at != start || b->at + b->bytes < (w->need ? end : start + GW_DEVICE_BLOCK))
            continue;
        b->refs++;
        w->block = b;
        if (b->ready)
            return GW_OK;
        w->wait = b->waiting;
        b->waiting = w;
        return GW_PENDING;
    }
    if (cold->reads >= cold->reads_max)
        return GW_WOULD_BLOCK;
    struct gwi_cold_block *b = calloc(1, sizeof *b);
    if (!b)
        return GW_WOULD_BLOCK;
    b->cold = cold;
    b->at = start;
    b->bytes = (uint32_t)(end - start);
    b->data = gwi_cold_buffer_take(cold, b->bytes, w->needed);
    if (!b->data) {
        free(b);
        return GW_WOULD_BLOCK;
    }
    enum gw_status st = cold->device->read(cold->device, cold->queue, gw_addr_of(start), b->data,
                                           b->bytes, block_read, b);
    if (st != GW_PENDING) {
        GW_ASSERT(st != GW_OK);
        gwi_cold_buffer_free(cold, b->data, b->bytes);
        free(b);
        return st;
    }
    cold->reads++;
    b->refs = 1;
    b->waiting = w;
    w->wait = NULL;
    w->block = b;
    b->next = *gwi_cold_block_place(cold, start);
    *gwi_cold_block_place(cold, start) = b;
    return GW_PENDING;
}

static bool chain_add(struct gwi_cold *cold, struct gwi_cold_walk *w,
                      const struct gw_record *record)
{
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    if (w->chain_count == w->chain_room) {
        uint32_t room = w->chain_room ? w->chain_room * 2 : 4;
        struct gw_record **chain = realloc((void *)w->chain, room * sizeof *chain);
        if (!chain)
            return false;
        gwi_cold_account(cold, (int64_t)((room - w->chain_room) * sizeof *chain));
        w->chain = chain;
        w->chain_room = room;
    }
    struct gw_record *copy = malloc(bytes);
    if (!copy)
        return false;
    memcpy(copy, record, bytes);
    w->chain[w->chain_count++] = copy;
    gwi_cold_account_bulk(cold, (int64_t)bytes);
    return true;
}

/* Is the record one, as far as its lengths say? */
static bool is_sound(const struct gwi_cold *cold, const struct gwi_cold_walk *w, uint64_t control,
                     uint64_t bytes)
{
    uint64_t most = (uint64_t)1 << GW_STORE_PAGE_BITS_MAX;
    if (!w->foreign)
        most = (w->at | (cold->log->page_bytes - 1)) + 1 - w->at;
    return bytes >= GW_RECORD_HEADER && bytes <= most &&
           gw_record_head_bytes(control) + gw_round8(gw_control_key_bytes(control)) +
                   gw_control_slack(control) <=
               bytes;
}

/* What the walk does with a record that it has whole; GW_PENDING: it goes on behind it. */
static enum gw_status walk_take(struct gwi_cold *cold, struct gwi_cold_walk *w,
                                struct gw_record *record, uint64_t control)
{
    if (w->whole) {
        if (!chain_add(cold, w, record))
            return GW_E_NOMEM;
        return w->one ? GW_NOT_FOUND : GW_PENDING;
    }
    if (GW_UNLIKELY(gw_control_kind(control) == GW_RECORD_INDIRECTION)) {
        struct gw_indirection in;
        if (!gwi_indirection_of(record, control, &in))
            return GW_E_CORRUPT;
        if (!gwi_indirection_covers(&in, w->hash))
            return GW_PENDING;
        enum gw_status st = gwi_cold_meet(cold, w, &in, control & GW_CONTROL_TOMBSTONE);
        return st == GW_OK ? GW_PENDING : st;
    }
    if (!gw_record_has_key(record, control, w->key, w->key_bytes))
        return GW_PENDING;
    w->record = record;
    return GW_OK;
}

/* Looks at the record at w->at, which is in w->block. True: the walk goes on at the next one (its
 * block is left); false: it has ended, or waits. */
static bool walk_look(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    struct gwi_cold_block *b = w->block;
    struct gw_record *record = (struct gw_record *)(void *)(b->data + (w->at - b->at));
    uint64_t left = b->at + b->bytes - w->at;
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (!is_sound(cold, w, control, bytes))
        return walk_fail(cold, w, GW_E_CORRUPT);
    if (GW_UNLIKELY(control & GW_CONTROL_SEALED) && (w->foreign || w->at < cold->log->resumed)) {
        control &= ~GW_CONTROL_SEALED; /* log_resume.c, rule 3; the buffer is this thread's */
        atomic_store_explicit(&record->control, control, memory_order_relaxed);
    }
    uint32_t seen = bytes < GUESS_MAX ? (uint32_t)bytes : GUESS_MAX;
    cold->guess = seen > cold->guess ? seen : cold->guess - (cold->guess - seen) / 16;
    if (bytes > left) { /* rule 3 */
        w->need = (uint32_t)bytes;
        gwi_cold_block_leave(cold, w);
        return true;
    }
    w->need = 0;
    enum gw_status st = walk_take(cold, w, record, control);
    if (st != GW_PENDING) {
        walk_end(cold, w,
                 st == GW_OK          ? GWI_COLD_FOUND
                 : st == GW_NOT_FOUND ? GWI_COLD_ABSENT
                                      : GWI_COLD_FAILED,
                 st == GW_NOT_FOUND ? GW_OK : st);
        return false;
    }
    uint64_t narrow = gw_record_previous(record);
    uint64_t base = w->foreign ? w->at & ~GW_INDIRECTION_ADDRESS_MAX : 0;
    uint64_t reference =
        w->foreign ? w->at & GW_INDIRECTION_ADDRESS_MAX : gw_log_tail(cold->log).v + GW_ADDR_LEAD;
    uint64_t next = gw_addr_widen(narrow, gw_addr_of(reference)).v | base;
    uint64_t stop =
        w->foreign ? w->end : atomic_load_explicit(&cold->log->begin, memory_order_acquire);
    if (narrow == 0 || next <= w->stop || next < stop) {
        w->at = narrow == 0 ? 0 : next;
        return chain_ended(cold, w);
    }
    if (next >= w->at)
        return walk_fail(cold, w, GW_E_CORRUPT);
    w->at = next;
    gwi_cold_block_leave(cold, w);
    return true;
}

void gwi_cold_walk_go(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    for (;;) {
        w->state = GWI_COLD_READING;
        enum gw_status st = block_enter(cold, w);
        if (st == GW_PENDING)
            return;
        if (st == GW_WOULD_BLOCK) {
            w->state = GWI_COLD_QUEUED;
            gwi_cold_list_add(&cold->queued, w);
            return;
        }
        if (st == GW_OK ? !walk_look(cold, w) : !walk_fail(cold, w, st))
            return;
    }
}

/* The device's callback. */
static void block_read(void *arg, enum gw_status status)
{
    struct gwi_cold_block *b = arg;
    struct gwi_cold *cold = b->cold;
    struct gwi_cold_walk *w = b->waiting;
    cold->reads--;
    b->waiting = NULL;
    b->ready = status == GW_OK;
    b->refs++; /* ours, until all walks have been told */
    while (w) {
        struct gwi_cold_walk *next = w->wait;
        if (status == GW_OK ? walk_look(cold, w) : walk_fail(cold, w, status))
            gwi_cold_walk_go(cold, w);
        w = next;
    }
    gwi_cold_block_release(cold, b);
}
