/* recover_commit.c - commit logs to a store that was recovered from an image: what was acknowledged
 * behind it (recover.h; ENGINE H3, rules 21 and 22).
 *
 *   each log -> entries -> parts by hash -> per key the chain that counts -> its last change into
 *   the store; what counts into its session's window: never PENDING, never below `confirmed`
 *
 * Several threads, first a log each, then a part each. When the logs hold more than the memory for
 * it allows, all of it is done several times, each time for a share of the keys.
 * Nothing here is durable before the checkpoint that follows: a kill begins it anew. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "server/recover_commit_internal.h"

#define PASS_BYTES_MIN (64ull << 20)
#define MEMORY_SHARE   8u /* of --memory */

static void *read_thread(void *arg)
{
    gwi_redo_read(arg);
    return NULL;
}

static void *apply_thread(void *arg)
{
    gwi_redo_apply(arg);
    return NULL;
}

/* Runs fn by every worker. */
static enum gw_status each_worker(struct gwi_redo *redo, void *(*fn)(void *))
{
    enum gw_status st = GW_OK;
    uint32_t started = 0;
    for (; started < redo->workers; started++)
        if (pthread_create(&redo->worker[started].thread, NULL, fn, &redo->worker[started]) != 0)
            break;
    if (started == 0)
        st = gwi_redo_fail(&redo->worker[0], GW_E_NOMEM, "no memory for a thread");
    for (uint32_t i = 0; i < started; i++)
        pthread_join(redo->worker[i].thread, NULL);
    for (uint32_t i = 0; i < redo->workers && st == GW_OK; i++)
        st = redo->worker[i].status;
    return st;
}

/* What sessions did, by one thread: windows are nobody else's now. */
static enum gw_status merge(struct gwi_redo *redo)
{
    for (uint32_t i = 0; i < redo->workers; i++) {
        struct gwi_redo_worker *w = &redo->worker[i];
        for (size_t k = 0; k < w->kept_n; k++)
            if (gw_applied_merge(w->kept[k].session->applied, &w->kept[k].applied) != GW_OK)
                return gwi_redo_fail(w, GW_E_NOMEM, "no memory for the windows of sessions");
        w->kept_n = 0;
    }
    return GW_OK;
}

static enum gw_status one_pass(struct gwi_redo *redo)
{
    atomic_store(&redo->log_next, 0);
    atomic_store(&redo->part_next, 0);
    for (uint32_t i = 0; i < redo->workers; i++)
        redo->worker[i].groups_n = 0;
    enum gw_status st = each_worker(redo, read_thread);
    if (st == GW_OK)
        st = each_worker(redo, apply_thread);
    return st == GW_OK ? merge(redo) : st;
}

static void count(struct gwi_redo *redo)
{
    struct gwi_recover_report *r = redo->report;
    for (uint32_t i = 0; i < redo->workers; i++) {
        const struct gwi_redo_worker *w = &redo->worker[i];
        r->blocks += w->blocks;
        r->bytes += w->bytes;
        r->entries += w->entries;
        r->applied += w->applied;
        r->dropped += w->dropped;
    }
}

static void redo_free(struct gwi_redo *redo)
{
    for (uint32_t i = 0; redo->worker && i < redo->workers; i++) {
        struct gwi_redo_worker *w = &redo->worker[i];
        for (uint32_t k = 0; k < GWI_REDO_PARTS; k++)
            free(w->part[k].items);
        free(w->groups);
        free(w->kept);
    }
    for (uint32_t i = 0; redo->session_lock && i < redo->workers; i++)
        pthread_mutex_destroy(&redo->session_lock[i]);
    free(redo->session_lock);
    free(redo->worker);
}

enum gw_status gwi_recover_commit(struct gwi_server *server, struct gw_commit_logs *logs,
                                  uint64_t number, const struct gw_map *map,
                                  struct gwi_sessions *sessions, struct gwi_recover_report *report,
                                  char *why, size_t why_bytes)
{
    uint64_t bytes = 0;
    uint32_t logs_count = gw_commit_logs_count(logs);
    for (uint32_t i = 0; i < logs_count; i++) {
        struct gw_commit_log_info info;
        gw_commit_logs_info(logs, i, &info);
        bytes += info.bytes;
        report->torn += info.torn_bytes;
    }
    if (bytes == 0)
        return GW_OK;
    struct gwi_redo redo = {.server = server,
                            .logs = logs,
                            .map = map,
                            .sessions = sessions,
                            .report = report,
                            .number = number,
                            .self = GW_NO_SERVER,
                            .workers = server->options.threads};
    int self = map ? gw_map_find(map, server->options.id) : -1;
    if (self >= 0)
        redo.self = (uint32_t)self;
    /* Items and groups take about as much as the logs do. */
    uint64_t share = server->memory.limit / MEMORY_SHARE;
    if (share < PASS_BYTES_MIN)
        share = PASS_BYTES_MIN;
    redo.passes = (uint32_t)((bytes + share - 1) / share);
    redo.worker = calloc(redo.workers, sizeof *redo.worker);
    redo.session_lock = calloc(redo.workers, sizeof *redo.session_lock);
    enum gw_status st = GW_E_NOMEM;
    if (redo.worker && redo.session_lock) {
        for (uint32_t i = 0; i < redo.workers; i++) {
            pthread_mutex_init(&redo.session_lock[i], NULL);
            redo.worker[i].redo = &redo;
            redo.worker[i].index = i;
        }
        for (st = GW_OK; st == GW_OK && redo.pass < redo.passes; redo.pass++)
            st = one_pass(&redo);
    }
    snprintf(why, why_bytes, "no memory to recover commit logs");
    for (uint32_t i = 0; redo.worker && i < redo.workers; i++)
        if (redo.worker[i].status != GW_OK)
            snprintf(why, why_bytes, "%s", redo.worker[i].why);
    if (st == GW_OK) {
        count(&redo);
        if (why_bytes)
            why[0] = 0;
    }
    redo_free(&redo);
    return st;
}
