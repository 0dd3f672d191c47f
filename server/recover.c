/* recover.c - from the files of a data directory to a store that serves; see recover.h.
 *
 * Rules: 1. The newest state is the one that store.json knows of, or a later one: if it is missing,
 * we do not silently go back to an older one. 2. A state is tried whole: identity, segments, index,
 * log, sessions; what fails names its file. 3. What an older state needs beside is kept as long as
 * it is there. 4. Logs are replayed once: the checkpoint behind the replay comes before they go and
 * before anything is served, so a kill at any moment finds the same files, or that checkpoint.
 * 5. Without a finished checkpoint and without logs nothing was promised: the server begins empty,
 * and says so. */
#define _GNU_SOURCE
#include "server/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/checksum.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/indirection.h"
#include "index/store_recover.h"
#include "server/checkpoint.h"
#include "server/recover_files.h"
#include "server/recover_progress.h"
#include "server/server.h"
#include "server/session_image.h"
#include "tiering/tier.h"

#define EXIT_DATA     3
#define WHY_BYTES     640u
#define AWAY_SAY      30u /* tries between two words about it */
#define AWAY_PAUSES   10u
#define AWAY_PAUSE_US 100000u

struct recovery {
    struct gwi_server *server;
    const struct gw_map *map;
    const atomic_bool *stop;
    uint32_t self; /* in the map; GW_NO_SERVER */
    struct gwi_states states;
    struct gwi_sessions *sessions;
    struct gw_commit_logs *logs;
    uint64_t logs_interval; /* highest seen */
    bool logs_wanted;       /* there are blocks to replay */
    uint64_t left_out;      /* salvage: things that were left out */
    uint64_t bytes_all;
    struct gw_slots drop;
    bool drops;
    char why[WHY_BYTES];
};

static const char *data_of(const struct recovery *r)
{
    return r->server->options.data;
}

/* ---- sessions ----------------------------------------------------------------------------------
 */

static void sessions_free(struct recovery *r)
{
    for (uint32_t i = 0; r->sessions && i < r->server->options.threads; i++)
        gwi_sessions_fini(&r->sessions[i]);
    free(r->sessions);
    r->sessions = NULL;
}

static enum gw_status sessions_make(struct recovery *r)
{
    uint32_t threads = r->server->options.threads;
    r->sessions = calloc(threads, sizeof *r->sessions);
    for (uint32_t i = 0; r->sessions && i < threads; i++) {
        r->sessions[i].forgotten = &r->server->durable.forgotten;
        if (!gwi_sessions_init(&r->sessions[i]))
            sessions_free(r);
    }
    if (r->sessions)
        return GW_OK;
    snprintf(r->why, sizeof r->why, "no memory for the sessions");
    return GW_E_NOMEM;
}

static enum gw_status sessions_read(struct recovery *r, const struct gwi_state *state)
{
    enum gw_status st = sessions_make(r);
    uint64_t count = 0;
    for (uint32_t i = 0; st == GW_OK && i < state->parts_count; i++) {
        st = gwi_session_image_read(state->parts[i].bytes, state->parts[i].n, r->sessions,
                                    r->server->options.threads, &count);
        char name[64];
        if (st != GW_OK)
            snprintf(r->why, sizeof r->why, "checkpoints/%s: its sessions: %s",
                     gwi_state_name(state->image.number, name), gw_status_text(st));
    }
    r->server->report.sessions = count;
    return st;
}

/* ---- device and store from a state -------------------------------------------------------------
 */

/* Tier and store go on with the page and segment sizes that the files have. */
static enum gw_status take_sizes(struct recovery *r, const struct gwi_state *state)
{
    struct gwi_server *s = r->server;
    char why[512];
    if (s->options.segment_bytes && s->options.segment_bytes != state->segment_bytes)
        gw_warn("segment_size", "given=%" PRIu64 " found=%" PRIu64 " next=keep_what_is_there",
                s->options.segment_bytes, state->segment_bytes);
    if (s->memory.page_bits != state->page_bits)
        gw_info("page_size", "given=%u found=%u next=keep_what_is_there", 1u << s->memory.page_bits,
                1u << state->page_bits);
    s->options.segment_bytes = state->segment_bytes;
    s->options.page_bits = state->page_bits;
    enum gw_status st = gwi_memory_plan(&s->options, &s->memory, why, sizeof why);
    if (st != GW_OK)
        snprintf(r->why, sizeof r->why, "the data were written with pages of %u MiB, and %s",
                 1u << (state->page_bits - 20), why);
    return st;
}

/* What the image has of slots of which we have got another tenure since is no more. */
static void find_dropped(struct recovery *r, const struct gwi_state *state)
{
    gw_slots_clear(&r->drop);
    r->drops = false;
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (r->self != GW_NO_SERVER && r->map->owner[slot] == r->self &&
            r->map->since[slot] > state->view) {
            gw_slots_add(&r->drop, (uint16_t)slot);
            count++;
        }
    r->drops = count > 0;
    r->server->report.dropped_slots = count;
}

struct index_reader {
    struct recovery *r;
    const struct gwi_state *state;
    int fd;
    uint64_t blocks;
    uint32_t crc;
    char name[64];
};

static enum gw_status next_block(void *ctx, uint8_t *block)
{
    struct index_reader *x = ctx;
    if (x->blocks == x->state->index.blocks) {
        if (x->crc == x->state->index.crc)
            return GW_END;
        snprintf(x->r->why, sizeof x->r->why,
                 "checkpoints/%s: its checksum is not the one that the state names", x->name);
        return GW_E_CORRUPT;
    }
    for (size_t at = 0; at < GW_SNAPSHOT_BLOCK;) {
        ssize_t n = read(x->fd, block + at, GW_SNAPSHOT_BLOCK - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snprintf(x->r->why, sizeof x->r->why, "checkpoints/%s: %s", x->name,
                     n < 0 ? strerror(errno) : "it is cut short");
            return n < 0 ? GW_E_IO : GW_E_CORRUPT;
        }
        at += (size_t)n;
    }
    x->blocks++;
    x->crc = gw_crc32c(x->crc, block, GW_SNAPSHOT_BLOCK);
    return GW_OK;
}

static enum gw_status index_open(struct index_reader *x, struct recovery *r,
                                 const struct gwi_state *state)
{
    char path[1200];
    struct stat about;
    *x = (struct index_reader){.r = r, .state = state, .fd = -1};
    if (state->index.number == 0)
        return GW_OK;
    snprintf(path, sizeof path, "%s/checkpoints/%s", data_of(r),
             gwi_index_name(state->index.number, x->name));
    x->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (x->fd < 0 || fstat(x->fd, &about) != 0) {
        snprintf(r->why, sizeof r->why, "checkpoints/%s: %s", x->name,
                 errno == ENOENT ? "it is missing" : strerror(errno));
        return errno == ENOENT ? GW_NOT_FOUND : GW_E_IO;
    }
    if ((uint64_t)about.st_size != state->index.blocks * GW_SNAPSHOT_BLOCK) {
        snprintf(r->why, sizeof r->why,
                 "checkpoints/%s: it has %lld bytes, the state says %" PRIu64, x->name,
                 (long long)about.st_size, state->index.blocks * GW_SNAPSHOT_BLOCK);
        return GW_E_CORRUPT;
    }
    (void)posix_fadvise(x->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return GW_OK;
}

/* The engine speaks of addresses: which file is that? The one of the highest incarnation. */
static void name_segment(struct recovery *r, uint64_t address)
{
    uint64_t first = address / r->server->segment_bytes * r->server->segment_bytes;
    char pattern[1200], why[WHY_BYTES];
    glob_t found = {.gl_pathc = 0};
    snprintf(pattern, sizeof pattern, "%s/log-*-%016" PRIx64 ".gws", r->server->data.log_dir,
             first);
    if (glob(pattern, 0, NULL, &found) == 0) { /* sorted */
        const char *name = strrchr(found.gl_pathv[found.gl_pathc - 1], '/') + 1;
        snprintf(why, sizeof why, "%s", r->why);
        snprintf(r->why, sizeof r->why, "log/%s: %.500s", name, why);
    }
    globfree(&found);
}

/* What the store said of an image that it could not begin with. */
static enum gw_status name_file(struct recovery *r, const struct gwi_state *state,
                                enum gw_status st, const char *why)
{
    char name[64];
    unsigned long long address;
    if (state->index.number && strstr(why, "index snapshot")) {
        snprintf(r->why, sizeof r->why, "checkpoints/%s: %s",
                 gwi_index_name(state->index.number, name), why);
        return st == GW_E_NOMEM ? st : GW_E_CORRUPT; /* not the one that the state names */
    }
    snprintf(r->why, sizeof r->why, "%s", why[0] ? why : gw_status_text(st));
    if (st == GW_E_UNREACHABLE) {
        struct gw_tier_stats tier = {0};
        if (r->server->tier)
            gw_tier_stats(r->server->tier, &tier);
        if (tier.blob.trouble[0])
            snprintf(r->why, sizeof r->why, "%s", tier.blob.trouble);
    } else if (sscanf(why, "address %llu", &address) == 1)
        name_segment(r, address);
    return st;
}

static enum gw_status device_open(struct recovery *r)
{
    struct gw_ssd_report report;
    enum gw_status st = gwi_server_open_device(r->server, r->map, &report);
    if (st != GW_OK)
        snprintf(r->why, sizeof r->why, "the tier cannot be opened: see above");
    return st;
}

/* Opens the tier with the segments of the image, and those that only the older one needs, if they
 * are all there. */
static enum gw_status device_adopt(struct recovery *r, const struct gwi_state *state,
                                   const struct gwi_state *older, gw_addr *resume)
{
    struct gwi_server *s = r->server;
    const struct gw_store_image *image = &state->image;
    char error[GW_SSD_TEXT_BYTES] = "";
    enum gw_status st = device_open(r);
    if (st != GW_OK)
        return st;
    *resume = gwi_server_resume(s, image->end); /* before files go */
    if (older && older->image.begin.v < image->begin.v) {
        uint32_t count = 0;
        struct gw_addr_range *gaps =
            malloc((older->image.gaps_count + image->gaps_count + 1) * sizeof *gaps);
        for (uint32_t i = 0; gaps && i < older->image.gaps_count; i++)
            if (older->image.gaps[i].to.v <= image->begin.v)
                gaps[count++] = older->image.gaps[i];
        for (uint32_t i = 0; gaps && i < image->gaps_count; i++)
            gaps[count++] = image->gaps[i];
        st = gaps ? gwi_server_adopt(s, older->image.begin, image->end, gaps, count, error,
                                     sizeof error)
                  : GW_E_NOMEM;
        free(gaps);
        if (st == GW_OK)
            return GW_OK;
        gw_warn("older_checkpoint", "number=%" PRIu64 " why=\"%s\" next=go_on_without_it",
                older->image.number, error);
        gwi_server_close_device(s);
        st = device_open(r);
    }
    if (st == GW_OK) {
        st = gwi_server_adopt(s, image->begin, image->end, image->gaps, image->gaps_count, error,
                              sizeof error);
        if (st != GW_OK)
            snprintf(r->why, sizeof r->why, "log: %s", error[0] ? error : gw_status_text(st));
    }
    return st;
}

static enum gw_status open_image(struct recovery *r, const struct gwi_state *state,
                                 const struct gwi_state *older)
{
    struct gwi_server *s = r->server;
    struct index_reader index = {.fd = -1};
    gw_addr resume;
    char why[512] = "";
    enum gw_status st = device_adopt(r, state, older, &resume);
    if (st == GW_OK)
        st = index_open(&index, r, state);
    if (st == GW_OK) {
        find_dropped(r, state);
        struct gw_recovery recovery = {.image = state->image,
                                       .snapshot_start = state->index.number ? state->index.start
                                                                             : state->image.begin,
                                       .resume = resume,
                                       .threads = s->options.threads,
                                       .next_block = state->index.number ? next_block : NULL,
                                       .next_ctx = &index,
                                       .drop = r->drops ? &r->drop : NULL,
                                       .mixed = state->mixed,
                                       .mixed_count = state->mixed_count,
                                       .progress_bytes = &s->report.progress_bytes};
        uint64_t from = recovery.snapshot_start.v > state->image.begin.v ? recovery.snapshot_start.v
                                                                         : state->image.begin.v;
        s->report.image_bytes = state->image.end.v - state->image.begin.v;
        r->bytes_all = state->index.blocks * GW_SNAPSHOT_BLOCK + (state->image.end.v - from);
        r->why[0] = 0;
        st = gwi_server_open_store(s, r->map->hash_seed, &recovery, why, sizeof why);
        if (st != GW_OK && r->why[0] == 0)
            st = name_file(r, state, st, why);
    }
    if (index.fd >= 0)
        close(index.fd);
    return st;
}

/* Back to where another state can be tried. */
static void undo(struct recovery *r)
{
    struct gwi_server *s = r->server;
    gwi_checkpoint_destroy(s);
    gw_commit_logs_close(r->logs);
    r->logs = NULL;
    r->logs_wanted = false;
    r->logs_interval = 0;
    sessions_free(r);
    gw_store_close(s->store);
    s->store = NULL;
    gwi_server_close_device(s);
}

/* ---- commit logs -------------------------------------------------------------------------------
 */

/* Is a log of that dispatcher and incarnation there? */
static bool log_is_there(const struct recovery *r, uint32_t incarnation, uint32_t dispatcher)
{
    for (uint32_t i = 0; i < gw_commit_logs_count(r->logs); i++) {
        struct gw_commit_log_info info;
        gw_commit_logs_info(r->logs, i, &info);
        if (info.incarnation == incarnation && info.dispatcher == dispatcher)
            return true;
    }
    return false;
}

/* A log that has gone as a whole leaves no hole behind by which it would be missed: store.json says
 * which ones there were. A checkpoint of a later incarnation has replayed them. */
static enum gw_status logs_are_there(struct recovery *r, const struct gwi_state *state)
{
    const struct gwi_data *data = &r->server->data;
    if (state && state->incarnation > data->logs_incarnation)
        return GW_OK;
    for (uint32_t i = 0; i < data->logs_count; i++) {
        if (log_is_there(r, data->logs_incarnation, i))
            continue;
        snprintf(r->why, sizeof r->why,
                 "commit/c%u-%u-*.gwl is missing: dispatcher %u has written a commit log", i,
                 data->logs_incarnation, i);
        if (!r->server->options.salvage)
            return GW_E_CORRUPT;
        fprintf(stderr,
                "godwit-server: --data %s: --recover=salvage: %s; what it held is left out\n",
                data_of(r), r->why);
    }
    return GW_OK;
}

static enum gw_status logs_open(struct recovery *r, uint64_t number, const struct gwi_state *state)
{
    struct gwi_server *s = r->server;
    char error[GW_COMMIT_TEXT_BYTES] = "";
    enum gw_status st = gw_commit_logs_open(s->data.commit_dir, s->data.store_id, number,
                                            s->options.salvage, &r->logs, error);
    if (st != GW_OK) {
        r->logs = NULL;
        snprintf(r->why, sizeof r->why, "%s", error[0] ? error : gw_status_text(st));
        return st;
    }
    for (uint32_t i = 0; i < gw_commit_logs_count(r->logs); i++) {
        struct gw_commit_log_info info;
        gw_commit_logs_info(r->logs, i, &info);
        s->report.logs++;
        r->bytes_all += info.bytes;
        r->logs_wanted |= info.blocks > 0;
        if (info.interval_last > r->logs_interval)
            r->logs_interval = info.interval_last;
    }
    return logs_are_there(r, state);
}

static enum gw_status logs_replay(struct recovery *r, uint64_t number)
{
    struct gwi_server *s = r->server;
    char why[512] = "";
    if (r->self == GW_NO_SERVER) {
        snprintf(
            r->why, sizeof r->why,
            "the cluster does not know --id %s, whose commit logs these are; start it with the "
            "coordinator of its cluster",
            s->options.id);
        return GW_E_REFUSED;
    }
    enum gw_status st =
        gwi_recover_commit(s, r->logs, number, r->map, r->sessions, &s->report, why, sizeof why);
    if (st != GW_OK)
        snprintf(r->why, sizeof r->why, "commit: %s", why[0] ? why : gw_status_text(st));
    return st;
}

/* ---- the end of recovery -----------------------------------------------------------------------
 */

/* The machine, and a checkpoint if what we have is more than the state. */
static enum gw_status settle(struct recovery *r, const struct gwi_state *state,
                             const struct gwi_state *older)
{
    struct gwi_server *s = r->server;
    gw_store_version_floor(s->store, gw_store_version_highest(s->store)); /* the logs' too */
    uint64_t number = state ? state->image.number : 0, above = number;
    bool aside = r->left_out > 0 || r->states.bad > 0;
    if (r->logs_interval > above)
        above = r->logs_interval;
    if (r->states.highest > above)
        above = r->states.highest;
    if (s->data.checkpoint > above)
        above = s->data.checkpoint;
    struct gwi_checkpoint_start start = {.number = number,
                                         .interval = above + 1,
                                         .newest = state,
                                         .older = older,
                                         .index_wanted = r->drops || aside};
    if (!r->logs_wanted && !aside)
        start.interval = number + 1; /* that the recovered store is in */
    enum gw_status st = gwi_checkpoint_create(s, &start);
    if (st != GW_OK) {
        snprintf(r->why, sizeof r->why, "no memory for checkpoints");
        return st;
    }
    if (!r->logs_wanted && !aside)
        return GW_OK;
    if (r->self == GW_NO_SERVER) {
        snprintf(r->why, sizeof r->why, "the cluster does not know --id %s", s->options.id);
        return GW_E_INVALID;
    }
    struct gw_thread *thread;
    st = gw_store_thread_open(s->store, &thread);
    if (st != GW_OK) {
        snprintf(r->why, sizeof r->why, "no memory for a thread of the store");
        return st;
    }
    for (uint32_t i = 0; i < r->states.bad; i++)
        gwi_states_set_aside(data_of(r), r->states.bad_number[i]);
    st = gwi_checkpoint_alone(s, thread, r->sessions, s->options.threads, r->map);
    gw_store_thread_close(thread);
    if (st != GW_OK)
        snprintf(r->why, sizeof r->why, "the checkpoint of what was recovered failed");
    return st;
}

/* Logs of earlier incarnations, all of whose intervals a checkpoint holds now. */
static void logs_remove(struct recovery *r)
{
    struct gwi_server *s = r->server;
    uint32_t removed = 0;
    gw_commit_logs_close(r->logs);
    r->logs = NULL;
    if (s->report.logs == 0)
        return;
    if (gwi_data_note_logs(&s->options, &s->data, 0) != GW_OK)
        return; /* they stay, and are removed by the next start */
    if (gw_commit_logs_remove(s->data.commit_dir, s->data.store_id, s->durable.checkpointed,
                              s->data.incarnation, &removed) != GW_OK)
        gw_warn("commit_logs", "removed=%u next=leave why=\"some could not be removed\"", removed);
}

static void say_what_was_done(struct recovery *r, const struct gwi_state *state)
{
    struct gwi_server *s = r->server;
    struct gwi_recover_report *report = &s->report;
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    report->recovered = true;
    report->keys = stats.keys;
    report->number = state ? state->image.number : 0;
    report->duration_ns = gw_clock_now_ns(gw_clock_system()) - report->started_ns;
    gw_info("recovered",
            "checkpoint=%" PRIu64 " ms=%" PRIu64 " keys=%" PRIu64 " bytes=%" PRIu64
            " sessions=%" PRIu64 " dropped_slots=%" PRIu64 " logs=%" PRIu64 " entries=%" PRIu64
            " applied=%" PRIu64 " dropped=%" PRIu64 " torn_bytes=%" PRIu64,
            report->number, report->duration_ns / 1000000, report->keys, report->image_bytes,
            report->sessions, report->dropped_slots, report->logs, report->entries, report->applied,
            report->dropped, report->torn);
    if (s->options.salvage)
        fprintf(stderr,
                "godwit-server: --data %s: --recover=salvage: began with checkpoint %" PRIu64
                ", %" PRIu64 " newer one%s left out; of the commit logs %" PRIu64 " of %" PRIu64
                " entries applied, %" PRIu64 " dropped, %" PRIu64 " bytes unreadable\n",
                data_of(r), report->number, r->left_out, r->left_out == 1 ? "" : "s",
                report->applied, report->entries, report->dropped, report->torn);
}

static void keep_all_tombstones(struct gw_store *store)
{
    struct gw_slots all;
    gw_slots_clear(&all);
    gw_slots_add_range(&all, 0, GW_SLOTS - 1);
    gw_store_keep_tombstones(store, &all);
}

/* Everything from one state (NULL: an empty store, with commit logs perhaps). */
static enum gw_status recover_from(struct recovery *r, const struct gwi_state *state,
                                   const struct gwi_state *older)
{
    struct gwi_server *s = r->server;
    uint64_t number = state ? state->image.number : 0;
    s->report = (struct gwi_recover_report){.started_ns = gw_clock_now_ns(gw_clock_system())};
    struct gwi_progress progress;
    enum gw_status st = state ? take_sizes(r, state) : GW_OK;
    if (st != GW_OK)
        return st;
    gwi_progress_begin(&progress, &s->report.progress_bytes, &r->bytes_all);
    if (state) {
        st = open_image(r, state, older);
        /* First: with fewer threads there may be too many for each, and whom it forgets counts. */
        atomic_store(&s->durable.forgotten, state->forgotten);
        if (st == GW_OK)
            st = sessions_read(r, state);
    } else
        st = sessions_make(r);
    if (st == GW_OK)
        st = logs_open(r, number, state);
    if (st == GW_OK) {
        /* Until control knows what may still arrive. Before the logs are replayed: from then on the
         * store compacts, and a tombstone that it leaves behind would not hide what its slot's
         * source sends again. */
        if (state || r->logs_wanted)
            keep_all_tombstones(s->store);
        gw_store_retain_all(s->store);
        if (state) {
            gw_store_retain(s->store, older ? older->image.begin : state->image.begin,
                            state->image.end);
            gw_store_foreign_retained(s->store, (older ? older : state)->image.end.v);
        }
    }
    if (st == GW_OK && r->logs_wanted)
        st = logs_replay(r, number);
    if (st == GW_OK)
        st = settle(r, state, older);
    if (st == GW_OK)
        logs_remove(r);
    gwi_progress_end(&progress);
    if (st != GW_OK)
        return st;
    s->recovered_sessions = r->sessions;
    r->sessions = NULL;
    if (!state && !r->logs_wanted)
        return GW_OK;
    s->recovered = true;
    say_what_was_done(r, state);
    return GW_OK;
}

/* ---- which state -------------------------------------------------------------------------------
 */

static enum gw_status refuse(struct recovery *r, enum gw_status st, int *exit_code)
{
    bool data = st == GW_E_CORRUPT || st == GW_NOT_FOUND || st == GW_E_VERSION ||
                st == GW_E_REFUSED || st == GW_E_IO;
    fprintf(stderr, "godwit-server: --data %s: cannot recover: %s", data_of(r), r->why);
    if (data && !r->server->options.salvage)
        fprintf(stderr, "; restore that file from a copy, or start with --recover=salvage, which "
                        "begins with an older checkpoint and says what that leaves out");
    fputs(". Nothing is served\n", stderr);
    *exit_code = data ? EXIT_DATA : 1;
    return st == GW_NOT_FOUND ? GW_E_CORRUPT : st;
}

static enum gw_status identity(struct recovery *r, const struct gwi_state *state)
{
    const struct gwi_server *s = r->server;
    uint64_t seed = r->map->hash_seed;
    if (state->cluster == r->map->cluster &&
        state->hash_seed_check == (uint32_t)(seed ^ seed >> 32))
        return GW_OK;
    snprintf(r->why, sizeof r->why,
             "its records belong to cluster %016" PRIx64
             ", and the coordinator %s speaks for cluster %016" PRIx64
             "; give --coordinator the one of that cluster, or another --data",
             state->cluster, s->options.coordinator, r->map->cluster);
    return GW_E_INVALID;
}

/* The older one of two, when it can be read: its segments are kept. */
static const struct gwi_state *load_older(struct recovery *r, uint32_t at, struct gwi_loaded *out)
{
    char why[WHY_BYTES];
    *out = (struct gwi_loaded){0};
    if (at + 1 >= r->states.count)
        return NULL;
    enum gw_status st = gwi_state_load(data_of(r), &r->server->data, r->server->options.id,
                                       r->states.number[at + 1], out, why, sizeof why);
    return st == GW_OK ? &out->state : NULL;
}

static enum gw_status try_state(struct recovery *r, uint32_t at)
{
    struct gwi_loaded loaded, older;
    enum gw_status st = gwi_state_load(data_of(r), &r->server->data, r->server->options.id,
                                       r->states.number[at], &loaded, r->why, sizeof r->why);
    if (st != GW_OK)
        return st;
    st = identity(r, &loaded.state);
    if (st == GW_OK) {
        st = recover_from(r, &loaded.state, load_older(r, at, &older));
        gwi_state_unload(&older);
    }
    gwi_state_unload(&loaded);
    return st;
}

/* Nobody may begin with less because the shared tier is away for a moment: it is waited for. */
static enum gw_status try_until_it_answers(struct recovery *r, uint32_t at)
{
    const uint32_t bad = r->states.bad;
    for (uint64_t tries = 0;; tries++) {
        enum gw_status st = try_state(r, at);
        if (st != GW_E_UNREACHABLE || !r->server->options.blob_url[0])
            return st;
        undo(r);
        r->states.bad = bad;
        if (tries % AWAY_SAY == 0)
            fprintf(stderr,
                    "godwit-server: --data %s: what must be read lies in the shared tier, which "
                    "does not answer (%s); waiting for it. Nothing is served\n",
                    data_of(r), r->why);
        for (uint32_t i = 0; i < AWAY_PAUSES && !atomic_load(r->stop); i++)
            usleep(AWAY_PAUSE_US);
        if (atomic_load(r->stop))
            return GW_E_CANCELLED;
    }
}

static enum gw_status recover_states(struct recovery *r, int *exit_code)
{
    struct gwi_server *s = r->server;
    char name[64];
    if (r->states.count && r->states.number[0] < s->data.checkpoint) {
        snprintf(r->why, sizeof r->why, "checkpoints/%s: it is missing",
                 gwi_state_name(s->data.checkpoint, name));
        if (!s->options.salvage)
            return refuse(r, GW_NOT_FOUND, exit_code);
        fprintf(stderr, "godwit-server: --data %s: --recover=salvage: left out: %s\n", data_of(r),
                r->why);
        r->left_out++;
    }
    for (uint32_t i = 0;; i++) {
        enum gw_status st = try_until_it_answers(r, i);
        if (st == GW_OK)
            break;
        undo(r);
        if (st == GW_E_CANCELLED)
            return st;
        if (!s->options.salvage || st == GW_E_NOMEM || st == GW_E_INVALID ||
            i + 1 == r->states.count)
            return refuse(r, st, exit_code);
        fprintf(stderr,
                "godwit-server: --data %s: --recover=salvage: checkpoint %" PRIu64
                " left out: %s\n",
                data_of(r), r->states.number[i], r->why);
        r->states.bad_number[r->states.bad++] = r->states.number[i];
        r->left_out++;
    }
    return GW_OK;
}

/* No state: a store that never finished a checkpoint. */
static enum gw_status begin_empty(struct recovery *r, int *exit_code)
{
    struct gwi_server *s = r->server;
    struct gw_ssd_report ssd;
    uint32_t removed = 0;
    enum gw_status st = gwi_server_open_device(s, r->map, &ssd);
    if (st != GW_OK)
        return st;
    (void)gwi_server_resume(s, gw_addr_of(0)); /* noted before files go */
    if (ssd.earlier_files) {
        st = gw_ssd_forget_earlier(s->tier ? gw_tier_ssd(s->tier) : s->device, &removed);
        gw_warn("tier_earlier_removed",
                "files=%u removed=%u bytes=%" PRIu64
                " why=\"no checkpoint of theirs was ever finished, so they promise nothing\"",
                ssd.earlier_files, removed, ssd.earlier_bytes);
        if (st != GW_OK) {
            fprintf(stderr,
                    "godwit-server: --data %s: %u of %u segment files of an earlier run could not "
                    "be removed; see that this user may write in log/\n",
                    data_of(r), ssd.earlier_files - removed, ssd.earlier_files);
            return st;
        }
    }
    st = gwi_server_check_room(s, &ssd);
    if (st == GW_OK)
        st = gwi_server_open_store(s, r->map->hash_seed, NULL, NULL, 0);
    if (st != GW_OK)
        return st; /* said */
    st = recover_from(r, NULL, NULL);
    return st == GW_OK ? GW_OK : refuse(r, st, exit_code);
}

static enum gw_status without_disk(struct gwi_server *s, const struct gw_map *map)
{
    if (s->data.checkpoint != 0) {
        fprintf(
            stderr,
            "godwit-server: --data %s: holds what earlier runs made durable, and without --disk "
            "it would not be served; give --disk, or another directory\n",
            s->options.data);
        return GW_E_REFUSED;
    }
    return gwi_server_open_store(s, map->hash_seed, NULL, NULL, 0);
}

enum gw_status gwi_recover(struct gwi_server *s, const struct gw_map *map, const atomic_bool *stop,
                           int *exit_code)
{
    struct recovery r = {.server = s, .map = map, .stop = stop, .self = GW_NO_SERVER};
    int self = gw_map_find(map, s->options.id);
    if (self >= 0)
        r.self = (uint32_t)self;
    s->durable.mode = s->options.durability;
    atomic_store(&s->durable.interval, 1);
    if (!s->options.disk_bytes)
        return without_disk(s, map);
    enum gw_status st = gwi_states_find(s->options.data, &r.states);
    if (st != GW_OK)
        return st; /* said */
    if (r.states.count == 0 && s->data.checkpoint != 0) {
        char name[64];
        snprintf(r.why, sizeof r.why, "checkpoints/%s: it is missing, and there is no other",
                 gwi_state_name(s->data.checkpoint, name));
        return refuse(&r, GW_NOT_FOUND, exit_code);
    }
    st = r.states.count ? recover_states(&r, exit_code) : begin_empty(&r, exit_code);
    if (st != GW_OK)
        undo(&r);
    return st;
}
