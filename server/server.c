/* server.c - starts and stops a store process: data directory, store, dispatchers; publishes views.
 */
#define LISTEN_TRIES    100u /* ten seconds: a busy machine takes its time */
#define LISTEN_PAUSE_US 100000u
#define LISTEN_SAY      10u
#define SETTLE_S        30u /* for a last checkpoint */
#define SETTLE_PAUSE_US 2000u
#define SETTLE_TRIES    (SETTLE_S * 1000000u / SETTLE_PAUSE_US)
#define _GNU_SOURCE
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/store_cut.h"
#include "server/backup.h"
#include "server/blob.h"
#include "server/bootstrap.h"
#include "server/checkpoint.h"
#include "server/control.h"
#include "tiering/ssd.h"

static void wake_dispatcher(void *ctx, uint32_t epoch_slot)
{
    struct gwi_server *s = ctx;
    for (uint32_t i = 0; i < s->dispatchers; i++)
        if (s->dispatcher[i]->epoch_slot == epoch_slot)
            gw_net_wake(s->dispatcher[i]->net);
}

struct passing {
    struct gwi_server *server;
    uint64_t generation;
};

static void passed(void *arg)
{
    struct passing *p = arg;
    if (atomic_load(
            &p->server->stopping)) { /* the last acknowledgements come from threads that end */
        free(p);
        return;
    }
    (void)gwi_dispatcher_post(p->server->dispatcher[0], GWI_MAIL_CUT_PASSED, p->generation,
                              NULL); /* logged */
    free(p);
}

enum gw_status gwi_server_publish(struct gwi_server *s, struct gwi_view *view)
{
    struct gw_epoch *epoch = gw_store_epoch(s->store);
    struct passing *p = malloc(sizeof *p);
    if (!p)
        return GW_E_NOMEM;
    /* Only this thread publishes, checkpoints too: nothing changes in between. */
    if (gw_cut_open(epoch) >= GW_CUTS_MAX || gwi_checkpoint_is_crossing(s)) {
        free(p);
        return GW_E_BUSY;
    }
    *p = (struct passing){s, view->generation};
    /* Release: a dispatcher that loads the pointer sees the whole view. Before the cut: whoever
     * acknowledges that has loaded this view or a newer one. */
    atomic_store_explicit(&s->view, view, memory_order_release);
    enum gw_status st =
        gw_cut_publish(epoch,
                       &(struct gw_cut){.phase = view->generation, .done = passed, .arg = p});
    GW_ASSERT(st == GW_OK);
    return GW_OK;
}

static enum gw_status start_dispatchers(struct gwi_server *s)
{
    for (uint32_t i = 0; i < s->options.threads; i++) {
        enum gw_status st = gwi_dispatcher_create(s, i, &s->dispatcher[i]);
        if (st != GW_OK) {
            fprintf(stderr, "godwit-server: cannot start dispatcher %u of --threads %u: %s\n", i,
                    s->options.threads, gw_status_text(st));
            return st;
        }
        s->dispatchers = i + 1;
    }
    if (s->durable.mode ==
        GWI_DURABILITY_COMMIT) { /* the logs are there; nothing was answered yet */
        enum gw_status noted = gwi_data_note_logs(&s->options, &s->data, s->options.threads);
        if (noted != GW_OK)
            return noted;
    }
    free(s->recovered_sessions); /* they are the dispatchers' now */
    s->recovered_sessions = NULL;
    gw_cut_set_waker(gw_store_epoch(s->store), wake_dispatcher, s);
    /* A server that was killed may hold its port for a moment: the kernel takes its rings apart
     * after the process has gone. Main thread, bounded; no dispatcher runs yet. */
    enum gw_status st = GW_E_BUSY;
    for (uint32_t tries = 0; st == GW_E_BUSY && tries < LISTEN_TRIES; tries++) {
        if (tries != 0)
            usleep(LISTEN_PAUSE_US);
        if (tries == LISTEN_SAY)
            gw_warn("listen",
                    "address=%s why=\"in use, perhaps by a process that is being ended\" next=wait",
                    s->options.listen);
        st = gw_net_listen(s->dispatcher[0]->net, s->options.listen, s->bound);
    }
    if (st != GW_OK) {
        fprintf(stderr, "godwit-server: --listen %s: %s\n", s->options.listen, gw_status_text(st));
        return st;
    }
    strcpy(s->address, s->options.advertise[0] ? s->options.advertise : s->bound);
    for (uint32_t i = 0; i < s->dispatchers; i++) {
        st = gwi_dispatcher_start(s->dispatcher[i]);
        if (st != GW_OK) {
            fprintf(stderr, "godwit-server: cannot start thread %u: %s\n", i, gw_status_text(st));
            for (uint32_t k = 0; k < i; k++)
                (void)gwi_dispatcher_post(s->dispatcher[k], GWI_MAIL_STOP, 0, NULL);
            for (uint32_t k = 0; k < i; k++)
                gwi_dispatcher_join(s->dispatcher[k]);
            return st;
        }
    }
    return GW_OK;
}

static void server_free(struct gwi_server *s)
{
    gwi_backup_stop(s);
    /* Its worker wakes dispatchers and reads the store. */
    gwi_checkpoint_stop(s);
    for (uint32_t i = 0; s->recovered_sessions && i < s->options.threads; i++)
        gwi_sessions_fini(&s->recovered_sessions[i]);
    free(s->recovered_sessions);
    /* Control, on dispatcher 0, holds jobs that the others may name: it goes last. */
    for (uint32_t i = s->dispatchers; i-- > 0;)
        gwi_dispatcher_destroy(s->dispatcher[i]);
    gwi_checkpoint_destroy(s);
    gwi_view_destroy(atomic_load(&s->view));
    gw_store_close(s->store);
    gwi_blob_stop(s);
    gwi_server_close_device(s);
    gwi_data_close(&s->data);
    free(s);
}

static enum gw_status failed(enum gw_status st, const char *what)
{
    fprintf(stderr, "godwit-server: %s: %s\n", what, gw_status_text(st));
    return st;
}

enum gw_status gwi_server_start(const struct gwi_options *options, const atomic_bool *stop,
                                struct gwi_server **out, int *exit_code)
{
    char why[512];
    struct gwi_server *s = aligned_alloc(GW_CACHE_LINE, (sizeof *s + GW_CACHE_LINE - 1) /
                                                            GW_CACHE_LINE * GW_CACHE_LINE);
    *exit_code = 1;
    if (!s)
        return failed(GW_E_NOMEM, "cannot start");
    memset(s, 0, sizeof *s);
    for (uint32_t i = 0; i < GWI_THREADS_MAX; i++)
        atomic_init(&s->durable.dispatcher[i].open, GWI_NOTHING_OPEN);
    s->options = *options;
    s->data.lock_fd = -1;
    /* Rises with time, also over restarts: the newer process of an id is the higher one. */
    s->incarnation = gw_clock_wall_ms(gw_clock_system()) << 8 | ((uint64_t)getpid() & 255);
    enum gw_status st = gwi_memory_plan(options, &s->memory, why, sizeof why);
    GW_ASSERT(st == GW_OK); /* the flags have been checked by it */
    st = gwi_data_open(options, &s->data);
    struct gw_map *map = NULL;
    if (st == GW_OK) {
        st = gwi_bootstrap_map(options->coordinator, stop, &map);
        if (st != GW_OK && st != GW_E_CANCELLED)
            (void)failed(st, "cannot ask the coordinator for the map");
    }
    if (st == GW_OK) {
        gwi_control_note_recovery(s, map);
        st = gwi_recover(s, map, stop, exit_code);
    }
    if (st != GW_OK) {
        gw_map_destroy(map);
        server_free(s);
        return st;
    }
    /* Until the coordinator has let us join we own nothing, whatever the map says (MIGRATION R23).
     */
    struct gw_map *nothing = gw_map_create();
    if (nothing) {
        nothing->cluster = map->cluster;
        nothing->hash_seed = map->hash_seed;
    }
    gw_map_destroy(map);
    atomic_init(&s->view, gwi_view_create(nothing, options->id));
    st =
        atomic_load(&s->view) ? gwi_blob_start(s, atomic_load(&s->view)->map->cluster) : GW_E_NOMEM;
    if (st == GW_OK)
        st = start_dispatchers(s);
    if (st != GW_OK) {
        if (!atomic_load(&s->view))
            (void)failed(st, "cannot start");
        server_free(s);
        return st;
    }
    *out = s;
    return GW_OK;
}

void gwi_server_settle(struct gwi_server *s, uint32_t wait_ms, const atomic_bool *hurry)
{
    if (!gwi_checkpoint_is_possible(s) || atomic_load(&s->fatal))
        return;
    uint64_t wanted = gwi_checkpoint_ask(s);
    for (uint32_t ms = 0; ms < wait_ms && !atomic_load(hurry) && !atomic_load(&s->fatal); ms++) {
        if (atomic_load(&s->durable.checkpointed) >= wanted)
            return;
        usleep(1000);
    }
    gw_warn("stop", "checkpoint=%llu why=\"not finished in time\" next=stop",
            (unsigned long long)wanted);
}

/* An orderly end loses nothing, in memory mode too: what was answered so far is in a checkpoint. */
static void settle(struct gwi_server *s)
{
    if (!s->checkpoints || atomic_load(&s->fatal) || atomic_load(&s->durable.failed))
        return;
    uint64_t number = gwi_checkpoint_ask(s);
    for (uint32_t i = 0; i < SETTLE_TRIES; i++) {
        if (atomic_load(&s->durable.checkpointed) >= number || atomic_load(&s->fatal))
            return;
        usleep(SETTLE_PAUSE_US);
    }
    gw_warn("stop", "why=\"no checkpoint within %u s\" next=end", SETTLE_S);
}

void gwi_server_stop(struct gwi_server *s)
{
    settle(s);
    for (uint32_t i = 0; i < s->dispatchers; i++)
        (void)gwi_dispatcher_post(s->dispatcher[i], GWI_MAIL_STOP, 0, NULL);
    for (uint32_t i = 0; i < s->dispatchers; i++)
        gwi_dispatcher_join(s->dispatcher[i]);
    atomic_store(&s->stopping, true);
    server_free(s);
}
