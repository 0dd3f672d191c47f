/* hold.c - replies wait until they are durable, or name the position at which they are; hold.h.
 *
 * Rules: 1. Positions that a dispatcher gives rise, so the oldest frame is the first to leave.
 * 2. On one connection frames leave in the order in which they were made. 3. Before a dispatcher
 * with held frames, or with clients to be told, sleeps, it says that it waits and looks once more:
 * whoever makes something durable meanwhile wakes it. */
#include "server/hold.h"

#include <stdlib.h>
#include <string.h>

#include "index/store_cut.h"
#include "server/server.h"

#define MALLOC_BYTES 16u

void gwi_hold_init(struct gwi_dispatcher *d)
{
    d->hold = (struct gwi_holding){.bytes_max = (size_t)d->server->memory.gather_bytes_max};
    d->hold.end = &d->hold.first;
}

void gwi_hold_fini(struct gwi_dispatcher *d)
{
    while (d->hold.first) {
        struct gwi_held *h = d->hold.first;
        d->hold.first = h->next;
        free(h);
    }
    d->hold.end = &d->hold.first;
    d->hold.bytes = 0;
}

static size_t cost(const struct gwi_held *h)
{
    return sizeof *h + MALLOC_BYTES + h->bytes;
}

static struct gwi_held *append(struct gwi_link *link, size_t bytes, uint64_t position)
{
    struct gwi_holding *hold = &link->dispatcher->hold;
    struct gwi_held *h = malloc(sizeof *h + bytes);
    if (!h)
        return NULL;
    *h = (struct gwi_held){.link = link, .bytes = bytes, .position = position};
    *hold->end = h;
    hold->end = &h->next;
    hold->bytes += cost(h);
    if (link->hold_of.last)
        link->hold_of.last->next_of_link = h;
    else
        link->hold_of.first = h;
    link->hold_of.last = h;
    link->hold_of.bytes += bytes;
    return h;
}

uint8_t *gwi_hold_room(struct gwi_link *link, size_t bytes)
{
    struct gwi_held *h = append(link, bytes, 0);
    return h ? h->frame : NULL;
}

bool gwi_hold_close_behind(struct gwi_link *link)
{
    struct gwi_held *h = link->hold_of.first ? append(link, 0, 0) : NULL;
    if (h)
        h->last = true;
    return h != NULL;
}

bool gwi_hold_is_full(const struct gwi_dispatcher *d)
{
    return d->hold.bytes > d->hold.bytes_max;
}

/* ---- positions given to clients ---- */

static void tell_remove(struct gwi_holding *hold, struct gwi_link *link)
{
    struct gwi_link_hold *t = &link->hold_of;
    if (!t->listed)
        return;
    *(t->before ? &t->before->hold_of.after : &hold->tell_first) = t->after;
    *(t->after ? &t->after->hold_of.before : &hold->tell_last) = t->before;
    t->before = t->after = NULL;
    t->listed = false;
}

static void tell_append(struct gwi_holding *hold, struct gwi_link *link)
{
    struct gwi_link_hold *t = &link->hold_of;
    t->listed = true;
    t->after = NULL;
    t->before = hold->tell_last;
    *(t->before ? &t->before->hold_of.after : &hold->tell_first) = link;
    hold->tell_last = link;
}

static void give(struct gwi_link *link, uint64_t position)
{
    struct gwi_holding *hold = &link->dispatcher->hold;
    struct gwi_link_hold *t = &link->hold_of;
    if (position <= t->position)
        return;
    t->position = position;
    if (!t->listed) {
        /* All that it was given before has been told; so it comes behind those who wait. */
        t->told = hold->told;
        tell_append(hold, link);
    }
}

void gwi_hold_resume(struct gwi_link *link)
{
    struct gwi_dispatcher *d = link->dispatcher;
    if (d->commit.log)
        give(link, gwi_commit_end(d));
    else if (d->server->durable.mode == GWI_DURABILITY_MEMORY)
        give(link, gw_store_interval(d->store));
}

void gwi_hold_forget(struct gwi_link *link)
{
    tell_remove(&link->dispatcher->hold, link);
    for (struct gwi_held *h = link->hold_of.first; h; h = h->next_of_link)
        h->link = NULL; /* it goes when its turn comes */
    link->hold_of.first = link->hold_of.last = NULL;
}

/* ---- sending ---- */

bool gwi_hold_reply(struct gwi_link *link, struct gw_frame *f, uint8_t *frame, bool early)
{
    struct gwi_dispatcher *d = link->dispatcher;
    uint64_t position = 0;
    f->confirmed = 0;
    if (GW_UNLIKELY(d->commit.log != NULL)) {
        position = gwi_commit_end(d);
        if (early) {
            f->confirmed = position;
            position = 0;
        }
    } else if (d->server->durable.mode == GWI_DURABILITY_MEMORY) {
        /* What it shows was changed in this interval at the latest: a thread that meets a later
         * record crosses first (index/store_cut.h). */
        f->confirmed = gw_store_interval(d->store);
    }
    if (f->confirmed != 0)
        give(link, f->confirmed);
    gw_frame_encode(f, frame);
    if (GW_LIKELY(position == 0 && !link->hold_of.first))
        return gwi_link_send(link->conn, frame, f->bytes);
    struct gwi_held *h = append(link, f->bytes, position);
    if (h)
        memcpy(h->frame, frame, f->bytes);
    return h != NULL;
}

bool gwi_hold_frame(struct gwi_link *link, const uint8_t *frame, size_t bytes, bool shows)
{
    struct gwi_dispatcher *d = link->dispatcher;
    uint64_t position = shows && d->commit.log ? gwi_commit_end(d) : 0;
    if (GW_LIKELY(position == 0 && !link->hold_of.first))
        return gwi_link_send(link->conn, frame, bytes);
    struct gwi_held *h = append(link, bytes, position);
    if (h)
        memcpy(h->frame, frame, bytes);
    return h != NULL;
}

static void let_go(struct gwi_held *h)
{
    struct gwi_link *link = h->link;
    if (!link)
        return;
    link->hold_of.first = h->next_of_link;
    if (!link->hold_of.first)
        link->hold_of.last = NULL;
    link->hold_of.bytes -= h->bytes;
    /* It has not read for a whole backlog, or it is ending: then this does nothing. */
    if (h->bytes && !gwi_link_send(link->conn, h->frame, h->bytes))
        gw_conn_close(link->conn);
    if (h->last)
        gw_conn_close_after_flush(link->conn);
}

static void release(struct gwi_dispatcher *d, uint64_t durable)
{
    struct gwi_holding *hold = &d->hold;
    while (hold->first && hold->first->position <= durable) {
        struct gwi_held *h = hold->first;
        hold->first = h->next;
        if (!hold->first)
            hold->end = &hold->first;
        hold->bytes -= cost(h);
        let_go(h);
        free(h);
    }
}

/* Tells connections that have been given a position what is durable now. True: there are more. */
static bool tell(struct gwi_dispatcher *d, uint64_t durable)
{
    struct gwi_holding *hold = &d->hold;
    if (durable > hold->told)
        hold->told = durable;
    for (uint32_t n = 0; n < GWI_TELL_LINKS; n++) {
        struct gwi_link *link = hold->tell_first;
        if (!link || link->hold_of.told >= hold->told)
            return false;
        uint8_t frame[GW_FRAME_HEADER];
        struct gw_frame f = {.bytes = GW_FRAME_HEADER,
                             .kind = GW_KIND_DURABLE,
                             .session = link->session ? link->session->id : 0,
                             .confirmed = hold->told};
        gw_frame_encode(&f, frame);
        if (link->session && !gwi_link_send(link->conn, frame, sizeof frame))
            gw_conn_close(link->conn); /* it has not read for a whole backlog */
        tell_remove(hold, link);
        link->hold_of.told = hold->told;
        if (link->hold_of.position > hold->told)
            tell_append(hold, link);
    }
    return hold->tell_first && hold->tell_first->hold_of.told < hold->told;
}

static bool work(struct gwi_dispatcher *d)
{
    if (d->commit.log) {
        gwi_commit_look(d);
        release(d, d->commit.durable);
        return tell(d, d->commit.durable);
    }
    /* Acquire: what the position stands for is on the disk. */
    return tell(d, atomic_load_explicit(&d->server->durable.checkpointed, memory_order_acquire));
}

bool gwi_hold_turn(struct gwi_dispatcher *d)
{
    if (GW_LIKELY(!d->hold.first && !d->hold.tell_first))
        return false;
    bool more = work(d);
    if (!more && d->commit.log && (d->hold.first || d->hold.tell_first)) {
        gwi_commit_sleep(d);
        more = work(d);
    }
    return more;
}
