/* migrate_run.c - one run: a cluster, keys, load, the job, the figures: see migrate.h. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/migrate.h"
#include "client/cluster.h"
#include "index/base/clock.h"

#define SOURCE     "source"
#define TARGET     "target"
#define OTHER      "other"
#define END_MS     20000
#define NS_PER_S   1000000000ull
#define FLAG_BYTES 400

static bool fail(const char *what, const char *why)
{
    fprintf(stderr, "godwit-bench migrate: %s: %s\n", what, why);
    return false;
}

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* ---- the cluster ---------------------------------------------------------------------------- */

struct flags {
    const char *words[GW_MIGRATE_FLAGS_MAX + 4];
    char disk[64], blob[FLAG_BYTES];
};

static void server_flags(const struct gw_migrate_settings *s, struct gw_spawn *spawn,
                         struct flags *flags)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->server_flags_count; i++)
        flags->words[n++] = s->server_flags[i];
    if (s->disk) {
        snprintf(flags->disk, sizeof flags->disk, "--disk=%" PRIu64, s->disk);
        flags->words[n++] = flags->disk;
    }
    if (s->blob) {
        if (strcmp(s->blob, "dir") == 0) {
            snprintf(flags->blob, sizeof flags->blob, "--blob=dir:%s/blob", spawn->directory);
            mkdir(flags->blob + strlen("--blob=dir:"), 0755);
        } else {
            snprintf(flags->blob, sizeof flags->blob, "--blob=%s", s->blob);
        }
        flags->words[n++] = flags->blob;
    }
    flags->words[n] = NULL;
    spawn->server_flags = n ? flags->words : NULL;
}

/* What a server needs to hold all keys, and copies of what is overwritten. */
static void memory_by_need(const struct gw_migrate_settings *s, struct gw_spawn *spawn)
{
    spawn->threads = (uint32_t)s->server_threads;
    if (s->memory) {
        spawn->memory_bytes = s->memory;
        return;
    }
    uint64_t record =
        (16 + (s->key_bytes + 7) / 8 * 8 + (s->value_bytes + 7) / 8 * 8 + 15) / 16 * 16;
    spawn->index_bytes = s->keys * 24 < ((uint64_t)64 << 20) ? (uint64_t)64 << 20 : s->keys * 24;
    uint64_t need = record * s->keys * 2 + ((uint64_t)128 << 20) + spawn->index_bytes;
    spawn->memory_bytes = (need + (1 << 20) - 1) >> 20 << 20;
}

/* The source gets all slots, being first; a third server takes its even share of them, and so does
 * the target where it is to serve from the start. */
static bool start_cluster(const struct gw_migrate_settings *s, struct gw_spawn *spawn,
                          struct flags *flags)
{
    server_flags(s, spawn, flags);
    memory_by_need(s, spawn);
    if (!gw_spawn_coordinator(spawn) || !gw_spawn_server(spawn, SOURCE) ||
        (s->servers == 3 && (!gw_spawn_server(spawn, OTHER) || !gw_spawn_share(spawn, OTHER))) ||
        !gw_spawn_server(spawn, TARGET) || (s->target_serves && !gw_spawn_share(spawn, TARGET)))
        return fail("cluster", spawn->error);
    return true;
}

static struct gw_spawn_server *server_of(struct gw_spawn *spawn, const char *id)
{
    for (uint32_t i = 0; i < spawn->server_count; i++)
        if (strcmp(spawn->servers[i].id, id) == 0)
            return &spawn->servers[i];
    return NULL;
}

/* The first so many of the source's slots: which does not matter, keys are hashed onto them. */
static void choose_slots(void *ctx, const struct gw_map *map)
{
    struct gw_migrate_run *run = ctx;
    struct gw_slots all;
    gw_map_slots_of(map, (uint32_t)gw_map_find(map, SOURCE), &all);
    uint32_t wanted = (uint32_t)lround(gw_slots_count(&all) * run->settings->part);
    gw_slots_clear(&run->slots);
    for (uint32_t slot = 0; slot < GW_SLOTS && wanted > 0; slot++)
        if (gw_slots_has(&all, (uint16_t)slot)) {
            gw_slots_add(&run->slots, (uint16_t)slot);
            wanted--;
        }
}

/* ---- the run -------------------------------------------------------------------------------- */

static bool watch_until(struct gw_migrate_watch *w, const struct gw_migrate_load *load,
                        uint64_t until_ns, bool or_job_ended)
{
    while (now_ns() - w->start_ns < until_ns) {
        if (or_job_ended && gw_migrate_watch_ended(w))
            return true;
        if (gw_migrate_load_failed(load))
            return false;
        gw_migrate_watch_turn(w);
    }
    return !or_job_ended;
}

/* The load's time: warm-up, before, the job, after. False: said. */
static bool drive(struct gw_migrate_run *run, struct gw_migrate_load *load)
{
    const struct gw_migrate_settings *s = run->settings;
    struct gw_migrate_watch *w = &run->watch;
    struct gw_migrate_marks *m = &run->marks;
    w->start_ns = gw_migrate_load_start(load);
    m->measured = s->warm_up_s * NS_PER_S;
    bool well = watch_until(w, load, (s->warm_up_s + s->before_s) * NS_PER_S, false);
    if (well) {
        gw_migrate_load_asked(load);
        m->asked = now_ns() - w->start_ns;
        well = gw_migrate_watch_ask(w, s, &run->slots, SOURCE, TARGET);
        if (well && !watch_until(w, load, m->asked + s->timeout_s * NS_PER_S, true)) {
            if (!gw_migrate_load_failed(load))
                fprintf(stderr, "godwit-bench migrate: the job is still %s after %" PRIu64 " s\n",
                        w->state, s->timeout_s);
            well = false;
        }
    }
    if (well)
        (void)watch_until(w, load, now_ns() - w->start_ns + s->after_s * NS_PER_S, false);
    m->ended = now_ns() - w->start_ns;
    gw_migrate_load_stop(load, &run->totals);
    if (run->totals.errors || run->totals.wrong || run->totals.error != GW_OK)
        fprintf(stderr,
                "godwit-bench migrate: %" PRIu64 " errors, the first: %s; %" PRIu64
                " wrong answers\n",
                run->totals.errors, gw_status_text(run->totals.error), run->totals.wrong);
    if (well && strcmp(w->state, "done") != 0)
        return fail("the job ended", w->error[0] ? w->error : w->state);
    return well;
}

static void verify(struct gw_migrate_run *run, struct gw_spawn *spawn, struct gw_cluster *cluster,
                   struct gw_migrate_load *load)
{
    (void)gw_process_stop(&server_of(spawn, SOURCE)->process, SIGTERM, END_MS);
    gw_migrate_verify(run->settings, gw_migrate_load_generations(load), cluster, &run->slots,
                      &run->verified);
    run->has_verified = true;
    const struct gw_migrate_verified *v = &run->verified;
    if (v->missing || v->wrong || v->failed)
        fprintf(stderr,
                "godwit-bench migrate: of %" PRIu64 " keys %" PRIu64 " are missing, %" PRIu64
                " are wrong, %" PRIu64 " could not be read\n",
                v->keys, v->missing, v->wrong, v->failed);
}

static void ask_stats(const struct gw_migrate_run *run, json_t **out)
{
    out[0] = gw_migrate_ask_stats(run->watch.source);
    out[1] = gw_migrate_ask_stats(run->watch.target);
}

static bool run_on(struct gw_migrate_run *run, struct gw_spawn *spawn, struct gw_cluster *cluster)
{
    const struct gw_migrate_settings *s = run->settings;
    gwi_cluster_read(cluster, choose_slots, run);
    uint64_t began = now_ns();
    struct gw_migrate_load *load = gw_migrate_load_open(s, cluster, &run->slots, SOURCE, TARGET);
    if (!load)
        return false;
    run->load_s = (double)(now_ns() - began) / 1e9;
    run->watch.idle = s->idle;
    run->watch.coordinator = spawn->coordinator_address;
    run->watch.source = server_of(spawn, SOURCE)->address;
    run->watch.target = server_of(spawn, TARGET)->address;
    began = now_ns();
    (void)gw_migrate_settle(run->watch.source, s->settle_s); /* said; the figures show it */
    run->settle_s = (double)(now_ns() - began) / 1e9;
    ask_stats(run, run->stats_before);
    bool well = gw_migrate_watch_open(&run->watch,
                                      s->warm_up_s + s->before_s + s->after_s + s->timeout_s + 5) ||
                fail("recording", "out of memory");
    well = well && drive(run, load);
    if (well) {
        ask_stats(run, run->stats_after);
        gw_migrate_sum_up(run, load);
        if (s->verify)
            verify(run, spawn, cluster, load);
        run->sound = run->totals.errors == 0 && run->totals.wrong == 0 &&
                     run->totals.late_rows == 0 &&
                     run->verified.missing + run->verified.wrong + run->verified.failed == 0;
    }
    gw_migrate_load_free(load);
    return well;
}

bool gw_migrate_run(struct gw_migrate_run *run)
{
    struct gw_spawn *spawn = calloc(1, sizeof *spawn);
    struct flags *flags = calloc(1, sizeof *flags);
    struct gw_cluster *cluster = NULL;
    bool well = spawn && flags;
    if (well && run->settings->loopback)
        run->loopback_mb = gw_loopback_measure(GW_MIGRATE_BULK_FRAME, GW_MIGRATE_LOOPBACK_S);
    if (well && !gw_spawn_open(spawn, NULL))
        well = fail("cluster", spawn->error);
    well = well && start_cluster(run->settings, spawn, flags);
    if (well) {
        enum gw_status st = gw_cluster_open(spawn->coordinator_address, NULL, &cluster);
        well = st == GW_OK ? run_on(run, spawn, cluster) : fail("coordinator", gw_status_text(st));
    }
    if (cluster)
        gw_cluster_close(cluster);
    /* The addresses go with the cluster. */
    run->watch.coordinator = run->watch.source = run->watch.target = NULL;
    if (spawn)
        gw_spawn_close(spawn);
    free(spawn);
    free(flags);
    return well;
}

void gw_migrate_run_free(struct gw_migrate_run *run)
{
    gw_migrate_watch_close(&run->watch);
    for (int i = 0; i < 2; i++) {
        json_decref(run->stats_before[i]);
        json_decref(run->stats_after[i]);
        run->stats_before[i] = run->stats_after[i] = NULL;
    }
    free(run->points);
    run->points = NULL;
}
