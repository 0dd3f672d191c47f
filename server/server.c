/* server.c - starts and stops a store process: data directory, store, dispatchers; publishes views.
 */
#define _GNU_SOURCE
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "server/bootstrap.h"

#define RESERVE_MAX (64ull << 20) /* of --memory, for connections, sessions and buffers */
#define VALUE_ROOM  (128u << 10)  /* what a frame has beyond the largest value */

/* One process a directory: the lock says which. Returns the descriptor, or -1 after a message. */
static int lock_data(const char *dir)
{
    char path[1100], pid[32] = "";
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        fprintf(stderr, "godwit-server: --data %s: cannot be made: %s\n", dir, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        fprintf(stderr, "godwit-server: --data %s: not writable: %s\n", dir, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = read(fd, pid, sizeof pid - 1);
        fprintf(stderr, "godwit-server: --data %s: in use by process %.*s\n", dir,
                n > 0 ? (int)strcspn(pid, "\n") : 1, n > 0 ? pid : "?");
        close(fd);
        return -1;
    }
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || write(fd, pid, (size_t)n) != n) {
        fprintf(stderr, "godwit-server: --data %s: cannot write the lock: %s\n", dir,
                strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

static enum gw_status open_store(struct gwi_server *s, uint64_t hash_seed)
{
    uint64_t reserve =
        s->options.memory_bytes / 8 < RESERVE_MAX ? s->options.memory_bytes / 8 : RESERVE_MAX;
    struct gw_store_options o = {.index_bytes = s->options.index_bytes,
                                 .threads_max = s->options.threads + 2,
                                 .hash_seed = hash_seed,
                                 .populate = true};
    uint64_t left = s->options.memory_bytes - reserve;
    o.log_bytes = left > o.index_bytes ? left - o.index_bytes : 0;
    if (o.log_bytes < 2ull << GW_STORE_PAGE_BITS) {
        fprintf(stderr,
                "godwit-server: --memory %llu leaves no two pages of %u MiB for the log behind "
                "--index-memory %llu\n",
                (unsigned long long)s->options.memory_bytes, (1u << GW_STORE_PAGE_BITS) >> 20,
                (unsigned long long)o.index_bytes);
        return GW_E_INVALID;
    }
    enum gw_status st = gw_store_open(&o, &s->store);
    if (st != GW_OK) {
        fprintf(stderr, "godwit-server: cannot open the store with --memory %llu: %s\n",
                (unsigned long long)s->options.memory_bytes, gw_status_text(st));
        return st;
    }
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    gw_info("store", "log_bytes=%llu log_pages=%s index_bytes=%llu index_pages=%s",
            (unsigned long long)stats.log_bytes_total, gw_memory_kind_name(stats.log_pages),
            (unsigned long long)stats.index_bytes, gw_memory_kind_name(stats.index_pages));
    uint64_t value_max = gw_store_record_bytes_max(s->store) - 16 - 8;
    s->value_bytes_max = (uint32_t)value_max;
    s->frame_bytes_max = (uint32_t)value_max + VALUE_ROOM;
    return GW_OK;
}

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
    if (gw_cut_open(epoch) >= GW_CUTS_MAX) { /* only we publish: it cannot fill up in between */
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
    gw_cut_set_waker(gw_store_epoch(s->store), wake_dispatcher, s);
    enum gw_status st = gw_net_listen(s->dispatcher[0]->net, s->options.listen, s->bound);
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
    /* Control, on dispatcher 0, holds jobs that the others may name: it goes last. */
    for (uint32_t i = s->dispatchers; i-- > 0;)
        gwi_dispatcher_destroy(s->dispatcher[i]);
    gwi_view_destroy(atomic_load(&s->view));
    gw_store_close(s->store);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s);
}

enum gw_status gwi_server_start(const struct gwi_options *options, const atomic_bool *stop,
                                struct gwi_server **out)
{
    struct gwi_server *s = calloc(1, sizeof *s);
    if (!s)
        return GW_E_NOMEM;
    s->options = *options;
    /* Rises with time, also over restarts: the newer process of an id is the higher one. */
    s->incarnation = gw_clock_wall_ms(gw_clock_system()) << 8 | ((uint64_t)getpid() & 255);
    s->lock_fd = lock_data(options->data);
    enum gw_status st = s->lock_fd < 0 ? GW_E_BUSY : GW_OK;
    struct gw_map *map = NULL;
    if (st == GW_OK)
        st = gwi_bootstrap_map(options->coordinator, stop, &map);
    if (st == GW_OK)
        st = open_store(s, map->hash_seed);
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
    st = atomic_load(&s->view) ? start_dispatchers(s) : GW_E_NOMEM;
    if (st != GW_OK) {
        server_free(s);
        return st;
    }
    *out = s;
    return GW_OK;
}

void gwi_server_stop(struct gwi_server *s)
{
    for (uint32_t i = 0; i < s->dispatchers; i++)
        (void)gwi_dispatcher_post(s->dispatcher[i], GWI_MAIL_STOP, 0, NULL);
    for (uint32_t i = 0; i < s->dispatchers; i++)
        gwi_dispatcher_join(s->dispatcher[i]);
    atomic_store(&s->stopping, true);
    server_free(s);
}
