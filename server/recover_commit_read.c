/* recover_commit_read.c - commit logs to items, by several threads, a log each. Every session that
 * a log names is made, and learns what its client has confirmed; entries of slots that were not
 * ours any more are left out (MIGRATION R23). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"
#include "server/recover_commit_chain.h"
#include "server/recover_commit_internal.h"

bool gwi_redo_grow(void **array, size_t n, size_t *max, size_t each)
{
    if (n < *max)
        return true;
    size_t more = *max ? *max * 2 : 256;
    void *wider = realloc(*array, more * each);
    if (!wider)
        return false;
    *array = wider;
    *max = more;
    return true;
}

enum gw_status gwi_redo_fail(struct gwi_redo_worker *w, enum gw_status st, const char *why)
{
    if (w->status == GW_OK) {
        w->status = st;
        snprintf(w->why, sizeof w->why, "%s", why);
    }
    atomic_store(&w->redo->stop, true);
    return st;
}

/* The session of a group, with its client's word; NULL: there are too many, or no memory. */
static struct gwi_session *session_of(struct gwi_redo *redo, const struct gw_commit_group *g)
{
    uint32_t i = (uint32_t)(g->session % redo->workers);
    struct gwi_sessions *sessions = &redo->sessions[i];
    pthread_mutex_lock(&redo->session_lock[i]);
    struct gwi_session *s = gwi_sessions_find(sessions, g->session);
    if (!s) {
        /* Never by forgetting another one: pointers to all of them are held. */
        uint32_t max = sessions->count_max ? sessions->count_max : GWI_SESSIONS_MAX;
        if (sessions->count < max)
            s = gwi_sessions_create(sessions, g->session, GW_APPLIED_WINDOW_MAX);
        if (!s) /* its client learns that there is one that we do not know */
            gwi_sessions_raise_forgotten(&redo->server->durable.forgotten);
    }
    if (s)
        gw_applied_confirm(s->applied, g->confirmed);
    pthread_mutex_unlock(&redo->session_lock[i]);
    return s;
}

static bool is_stale(const struct gwi_redo *redo, uint16_t slot, uint64_t view)
{
    return redo->map && redo->self != GW_NO_SERVER && redo->map->owner[slot] == redo->self &&
           view < redo->map->since[slot];
}

static bool is_good(const struct gw_commit_entry *e)
{
    switch (e->reply) {
    case 0:
    case GW_WIRE_COUNTER:
    case GW_WIRE_LENGTH:
    case GW_WIRE_NONE:
    case GW_WIRE_FORGOTTEN:
        break;
    default:
        return false;
    }
    return e->key_bytes > 0 && e->op >= GW_COMMIT_SET && e->op <= GW_COMMIT_NOTHING &&
           (e->version != 0 || e->op == GW_COMMIT_NOTHING);
}

/* The six bits that name a part lie behind those that name the pass. */
static bool take_entry(struct gwi_redo_worker *w, const struct gw_commit_block *block,
                       const struct gw_commit_entry *e, uint32_t at)
{
    struct gwi_redo *redo = w->redo;
    struct gw_op op = {.key = e->key, .key_bytes = e->key_bytes};
    gw_store_hash(redo->server->store, &op);
    bool stale = is_stale(redo, op.slot, block->view);
    if (redo->pass == 0) {
        w->entries++;
        w->dropped += stale;
    }
    if (stale || op.hash % redo->passes != redo->pass)
        return true;
    struct gwi_redo_part *part = &w->part[op.hash / redo->passes % GWI_REDO_PARTS];
    if (!gwi_redo_grow((void **)&part->items, part->n, &part->max, sizeof *part->items))
        return false;
    part->items[part->n++] = (struct gwi_redo_item){.hash = op.hash,
                                                    .version = e->version,
                                                    .at = at,
                                                    .group = (uint32_t)(w->groups_n - 1),
                                                    .reader = (uint16_t)w->index,
                                                    .op = e->op};
    return true;
}

static bool take_block(void *ctx, const struct gw_commit_block *block, const uint8_t *payload)
{
    struct gwi_redo_worker *w = ctx;
    struct gwi_redo *redo = w->redo;
    if (atomic_load_explicit(&redo->stop, memory_order_relaxed)) /* sooner or later */
        return false;
    uint32_t group_at = 0;
    struct gw_commit_group group;
    const uint8_t *entries;
    bool bad = false;
    while (gw_commit_next_group(payload, block->payload_bytes, &group_at, &group, &entries, &bad)) {
        if (!gwi_redo_grow((void **)&w->groups, w->groups_n, &w->groups_max, sizeof *w->groups) ||
            w->groups_n == UINT32_MAX) {
            (void)gwi_redo_fail(w, GW_E_NOMEM, "no memory for what the commit logs hold");
            return false;
        }
        w->groups[w->groups_n++] = (struct gwi_redo_group){.group = group,
                                                           .entries = entries,
                                                           .session = session_of(redo, &group),
                                                           .interval = block->interval};
        struct gw_commit_entry e;
        for (uint32_t at = 0, here = 0; gw_commit_next_entry(&group, entries, &at, &e, &bad);
             here = at) {
            bad = bad || !is_good(&e);
            if (bad)
                break;
            if (!take_entry(w, block, &e, here)) {
                (void)gwi_redo_fail(w, GW_E_NOMEM, "no memory for what the commit logs hold");
                return false;
            }
        }
        if (bad)
            break;
    }
    if (bad) {
        char why[160];
        snprintf(why, sizeof why,
                 "block %llu of the commit log of dispatcher %u, incarnation %u, has a good "
                 "checksum and an entry that makes no sense",
                 (unsigned long long)block->sequence, block->dispatcher, block->incarnation);
        (void)gwi_redo_fail(w, GW_E_CORRUPT, why);
        return false;
    }
    if (redo->pass == 0) {
        w->blocks++;
        w->bytes += GW_COMMIT_BLOCK_HEADER + block->payload_bytes;
        atomic_fetch_add_explicit(&redo->report->progress_bytes,
                                  GW_COMMIT_BLOCK_HEADER + block->payload_bytes,
                                  memory_order_relaxed); /* a number for people */
    }
    return true;
}

void gwi_redo_read(struct gwi_redo_worker *w)
{
    struct gwi_redo *redo = w->redo;
    uint32_t count = gw_commit_logs_count(redo->logs);
    while (w->status == GW_OK && !atomic_load(&redo->stop)) {
        uint32_t log = atomic_fetch_add(&redo->log_next, 1);
        if (log >= count)
            return;
        enum gw_status st = gw_commit_logs_each(redo->logs, log, take_block, w);
        if (st != GW_OK && w->status == GW_OK && !atomic_load(&redo->stop)) {
            struct gw_commit_log_info info;
            gw_commit_logs_info(redo->logs, log, &info);
            char why[160];
            snprintf(why, sizeof why,
                     "the commit log of dispatcher %u, incarnation %u, cannot be read",
                     info.dispatcher, info.incarnation);
            (void)gwi_redo_fail(w, st, why);
        }
    }
}
