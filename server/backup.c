/* backup.c - see backup.h.
 *
 * Rules: 1. The checkpoint that is copied is pinned: nothing that it needs is trimmed or removed
 * until it is unpinned (checkpoint.h). 2. Everything is copied into DIRECTORY/ID.part, synced, and
 * that is renamed last: a directory without the suffix is a whole backup. 3. Slots, hash seed and
 * map version are those of the view that the checkpoint belongs to: if the view has changed since,
 * another checkpoint is taken. */
#include "server/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "server/backup_cold.h"
#include "server/checkpoint.h"
#include "server/manifest.h"
#include "server/server.h"
#include "tiering/ssd_format.h"

#define PATH_BYTES  1600
#define CHUNK_BYTES ((size_t)1 << 20)
#define WAIT_US     20000u
#define WAIT_MAX    30000u /* times WAIT_US: ten minutes for a checkpoint */
#define VIEW_TRIES  8u

enum backup_state { BACKUP_NONE, BACKUP_WAITING, BACKUP_COPYING, BACKUP_DONE, BACKUP_FAILED };

struct gwi_backup {
    struct gwi_server *server;
    pthread_t thread;
    bool started;
    atomic_bool stop;
    _Atomic int state; /* enum backup_state */
    _Atomic uint64_t bytes, bytes_all, checkpoint;
    char to[1024], error[512]; /* error: before state says FAILED */
    bool gone;                 /* the file that should be copied was not there any more */
    /* The cluster, as of `map_version`: written by dispatcher 0 before the thread begins. */
    uint64_t cluster, hash_seed, map_version;
    struct gw_slots slots;
    struct gwi_manifest manifest;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct gwi_backup *b, const char *format,
                                                       ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->error, sizeof b->error, format, args);
    va_end(args);
    return false;
}

static const char *data_dir(const struct gwi_backup *b)
{
    return b->server->options.data;
}

/* ---- copying -------------------------------------------------------------------------------- */

static bool note_file(struct gwi_backup *b, const char *name, uint64_t bytes, uint32_t crc)
{
    struct gwi_manifest *m = &b->manifest;
    struct gwi_manifest_file *more = realloc(m->file, (m->files + 1) * sizeof *more);
    if (!more)
        return fail(b, "out of memory");
    m->file = more;
    snprintf(more[m->files].name, sizeof more[m->files].name, "%s", name);
    more[m->files].bytes = bytes;
    more[m->files].crc = crc;
    m->files++;
    return true;
}

static bool copy_bytes(struct gwi_backup *b, const char *name, int in, int out, uint8_t *room)
{
    uint64_t bytes = 0;
    uint32_t crc = 0;
    for (;;) {
        ssize_t n = read(in, room, CHUNK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(b, "%s cannot be read: %s", name, strerror(errno));
        if (n == 0)
            break;
        if (atomic_load_explicit(&b->stop, memory_order_relaxed))
            return fail(b, "the server ends");
        for (ssize_t at = 0; at < n;) {
            ssize_t w = write(out, room + at, (size_t)(n - at));
            if (w < 0 && errno == EINTR)
                continue;
            if (w <= 0)
                return fail(b, "%s cannot be written: %s", name, strerror(w < 0 ? errno : ENOSPC));
            at += w;
        }
        crc = gw_crc32c(crc, room, (size_t)n);
        bytes += (uint64_t)n;
        atomic_fetch_add_explicit(&b->bytes, (uint64_t)n, memory_order_relaxed);
    }
    if (fsync(out) != 0)
        return fail(b, "%s cannot be synced: %s", name, strerror(errno));
    return note_file(b, name, bytes, crc);
}

static bool copy_file(struct gwi_backup *b, const char *name, uint8_t *room)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    snprintf(from, sizeof from, "%s/%s", data_dir(b), name);
    snprintf(to, sizeof to, "%s/%s", b->to, name);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
    b->gone = in < 0 && errno == ENOENT;
    bool good = in >= 0 || fail(b, "%s cannot be opened: %s", from, strerror(errno));
    if (good) {
        out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        good = out >= 0 || fail(b, "%s cannot be made: %s", to, strerror(errno));
    }
    good = good && copy_bytes(b, name, in, out, room);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return good;
}

/* Ours names the newest checkpoint, which may be a later one by now: a directory without it would
 * be found damaged. */
static bool write_identity(struct gwi_backup *b, uint64_t number, uint8_t *room)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/store.json", b->to);
    if (gwi_data_identity_of_copy(&b->server->options, &b->server->data, number, path) != GW_OK)
        return fail(b, "%s cannot be written", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, room, CHUNK_BYTES) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return fail(b, "%s cannot be read", path);
    atomic_fetch_add_explicit(&b->bytes, (uint64_t)n, memory_order_relaxed);
    return note_file(b, "store.json", (uint64_t)n, gw_crc32c(0, room, (size_t)n));
}

static bool make_dir(struct gwi_backup *b, const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s%s", b->to, name[0] ? "/" : "", name);
    return mkdir(path, 0700) == 0 || fail(b, "%s cannot be made: %s", path, strerror(errno));
}

/* Does the image have anything in the segment from `first` on? */
static bool segment_wanted(const struct gwi_state *s, uint64_t first)
{
    for (uint64_t at = first; at < first + s->segment_bytes; at += UINT64_C(1) << s->page_bits)
        if (gwi_backup_page_wanted(s, at))
            return true;
    return false;
}

/* Of the files with one first address the highest incarnation counts, as when they are adopted.
 * False: there is none. */
static bool find_segment(const struct gwi_backup *b, uint64_t first, char best[GW_SSD_NAME_BYTES])
{
    uint32_t highest = 0;
    DIR *dir = opendir(b->server->data.log_dir);
    best[0] = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        uint32_t incarnation;
        uint64_t address;
        if (gw_ssd_name_read(e->d_name, &incarnation, &address) && address == first &&
            incarnation >= highest) {
            highest = incarnation;
            gw_ssd_name(incarnation, address, best);
        }
    }
    if (dir)
        closedir(dir);
    return best[0] != 0;
}

/* It was dropped from the disk, perhaps just now: the shared tier has it. */
static bool rebuild_segment(struct gwi_backup *b, const struct gwi_state *s, uint64_t first)
{
    char name[GW_SSD_NAME_BYTES + 8], file[GW_SSD_NAME_BYTES], path[PATH_BYTES], why[400] = "";
    gw_ssd_name(s->incarnation, first, file);
    snprintf(name, sizeof name, "log/%s", file);
    snprintf(path, sizeof path, "%s/%s", b->to, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(b, "%s cannot be made: %s", path, strerror(errno));
    struct gwi_backup_cold cold = {.server = b->server,
                                   .state = s,
                                   .first = first,
                                   .fd = fd,
                                   .stop = &b->stop,
                                   .done = &b->bytes};
    uint64_t bytes = 0;
    uint32_t crc = 0;
    bool good = gwi_backup_rebuild(&cold, &bytes, &crc, why, sizeof why) || fail(b, "%s", why);
    close(fd);
    return good && note_file(b, name, bytes, crc);
}

static bool copy_segments(struct gwi_backup *b, const struct gwi_state *s, uint8_t *room)
{
    char best[GW_SSD_NAME_BYTES], name[GW_SSD_NAME_BYTES + 8];
    uint64_t first = s->image.begin.v / s->segment_bytes * s->segment_bytes;
    for (; first < s->image.end.v; first += s->segment_bytes) {
        if (!segment_wanted(s, first))
            continue;
        bool there = find_segment(b, first, best);
        snprintf(name, sizeof name, "log/%s", best);
        if (there && copy_file(b, name, room))
            continue;
        if (there && !(b->server->tier && b->gone))
            return false;
        if (!b->server->tier)
            return fail(b, "the segment with addresses from %#" PRIx64 " is missing", first);
        if (!rebuild_segment(b, s, first))
            return false;
    }
    return true;
}

static bool copy_all(struct gwi_backup *b, const struct gwi_state *s, uint8_t *room)
{
    char name[64], file[100];
    if (!make_dir(b, "") || !make_dir(b, "log") || !make_dir(b, "checkpoints"))
        return false;
    if (!copy_segments(b, s, room))
        return false;
    if (s->index.number) {
        snprintf(file, sizeof file, "checkpoints/%s", gwi_index_name(s->index.number, name));
        if (!copy_file(b, file, room))
            return false;
    }
    snprintf(file, sizeof file, "checkpoints/%s", gwi_state_name(s->image.number, name));
    return copy_file(b, file, room) && write_identity(b, s->image.number, room);
}

static bool sync_dir(struct gwi_backup *b, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good || fail(b, "%s cannot be synced: %s", path, strerror(errno));
}

static bool finish(struct gwi_backup *b, const struct gwi_state *s)
{
    char path[PATH_BYTES], whole[PATH_BYTES], slots[GW_SLOTS * 4];
    snprintf(path, sizeof path, "%s/log", b->to);
    if (!sync_dir(b, path))
        return false;
    snprintf(path, sizeof path, "%s/checkpoints", b->to);
    if (!sync_dir(b, path))
        return false;
    struct gwi_manifest *m = &b->manifest;
    gw_slots_format(&b->slots, slots, sizeof slots);
    snprintf(m->server, sizeof m->server, "%s", s->server_id);
    m->store_id = s->store_id;
    m->checkpoint = s->image.number;
    m->created_ms = gw_clock_wall_ms(gw_clock_system());
    m->cluster = b->cluster;
    m->hash_seed = b->hash_seed;
    m->map_version = b->map_version;
    m->slots = strdup(slots);
    if (!m->slots || gwi_manifest_write(b->to, m) != GW_OK)
        return fail(b, "%s/manifest.json cannot be written: %s", b->to, strerror(errno));
    strcpy(whole, b->to);
    whole[strlen(whole) - strlen(".part")] = 0;
    if (rename(b->to, whole) != 0)
        return fail(b, "%s cannot be renamed: %s", b->to, strerror(errno));
    strcpy(b->to, whole);
    char *slash = strrchr(whole, '/');
    if (slash)
        *slash = 0;
    return sync_dir(b, whole[0] ? whole : "/");
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* A finished checkpoint of the view that the slots are of, pinned. */
static bool wait_for_checkpoint(struct gwi_backup *b, struct gwi_state *state)
{
    for (uint32_t tries = 0; tries < VIEW_TRIES; tries++) {
        uint64_t number = gwi_checkpoint_ask(b->server);
        for (uint32_t i = 0; i < WAIT_MAX; i++) {
            if (atomic_load(&b->server->durable.checkpointed) >= number)
                break;
            if (atomic_load(&b->stop))
                return fail(b, "the server ends");
            usleep(WAIT_US);
        }
        struct gwi_checkpoint_figures figures;
        gwi_checkpoint_figures(b->server, &figures);
        if (atomic_load(&b->server->durable.checkpointed) < number)
            return fail(b, "no checkpoint within ten minutes%s%s", figures.failure[0] ? ": " : "",
                        figures.failure);
        if (gwi_checkpoint_pin(b->server, state) != GW_OK)
            return fail(b, "out of memory");
        if (state->view == b->map_version)
            return true;
        gwi_state_fini(state);
        gwi_checkpoint_unpin(b->server);
    }
    return fail(b, "slots of this server move: wait until no job is open");
}

static void *run(void *arg)
{
    struct gwi_backup *b = arg;
    struct gwi_state state;
    char why[400] = "";
    bool good = gwi_backup_resolve(b->server, &b->stop, why, sizeof why) || fail(b, "%s", why);
    good = good && wait_for_checkpoint(b, &state);
    if (good) {
        atomic_store(&b->checkpoint, state.image.number);
        uint64_t gaps = 0;
        for (uint32_t i = 0; i < state.image.gaps_count; i++)
            gaps += state.image.gaps[i].to.v - state.image.gaps[i].from.v;
        atomic_store(&b->bytes_all, state.image.end.v - state.image.begin.v - gaps);
        atomic_store(&b->state, BACKUP_COPYING);
        uint8_t *room = malloc(CHUNK_BYTES);
        good = (room || fail(b, "out of memory")) && copy_all(b, &state, room) && finish(b, &state);
        free(room);
        gwi_state_fini(&state);
        gwi_checkpoint_unpin(b->server);
    }
    if (good)
        gw_info("backup", "to=%s checkpoint=%" PRIu64 " bytes=%" PRIu64, b->to,
                atomic_load(&b->checkpoint), atomic_load(&b->bytes));
    else
        gw_warn("backup", "to=%s why=\"%s\"", b->to, b->error);
    atomic_store(&b->state, good ? BACKUP_DONE : BACKUP_FAILED);
    return NULL;
}

static void forget(struct gwi_server *server)
{
    struct gwi_backup *b = server->backup;
    if (!b)
        return;
    atomic_store(&b->stop, true);
    if (b->started)
        pthread_join(b->thread, NULL);
    gwi_manifest_fini(&b->manifest);
    free(b);
    server->backup = NULL;
}

void gwi_backup_stop(struct gwi_server *server)
{
    forget(server);
}

/* ---- requests ------------------------------------------------------------------------------- */

static json_t *refusal(const char *status, const char *message)
{
    return json_pack("{s:{s:s, s:s}}", "error", "status", status, "message", message);
}

static json_t *begin(struct gwi_server *server, const char *to)
{
    struct stat about;
    int state = server->backup ? atomic_load(&server->backup->state) : BACKUP_NONE;
    if (server->durable.mode == GWI_DURABILITY_NONE)
        return refusal("e_unsupported", "this server makes nothing durable: start it with --disk");
    if (!to || to[0] != '/')
        return refusal("e_invalid", "\"to\" must be an absolute path on the server's machine");
    if (state == BACKUP_WAITING || state == BACKUP_COPYING)
        return refusal("e_busy", "a backup is under way");
    if (stat(to, &about) != 0 || !S_ISDIR(about.st_mode))
        return refusal("not_found", "\"to\" is no directory on the server's machine");
    forget(server);
    struct gwi_backup *b = calloc(1, sizeof *b);
    if (!b)
        return refusal("e_nomem", "out of memory");
    b->server = server;
    int n = snprintf(b->to, sizeof b->to, "%s/%s", to, server->options.id);
    if (n >= (int)sizeof b->to - 8 || stat(b->to, &about) == 0) {
        free(b);
        return refusal("exists",
                       "the directory has a backup of this server, or the path is too long");
    }
    strcat(b->to, ".part");
    if (stat(b->to, &about) == 0) {
        free(b);
        return refusal("exists", "an unfinished backup of this server is there: remove ID.part");
    }
    const struct gwi_view *view = atomic_load_explicit(&server->view, memory_order_acquire);
    b->cluster = view->map->cluster;
    b->hash_seed = view->map->hash_seed;
    b->map_version = view->number;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        if (view->state[slot] == GWI_SLOT_OWNED)
            gw_slots_add(&b->slots, (uint16_t)slot);
        if (view->state[slot] == GWI_SLOT_ARRIVING || view->state[slot] == GWI_SLOT_WAITING) {
            free(b);
            return refusal("e_busy", "slots are on their way to this server: wait for the job");
        }
    }
    atomic_store(&b->state, BACKUP_WAITING);
    server->backup = b;
    if (pthread_create(&b->thread, NULL, run, b) != 0) {
        forget(server);
        return refusal("e_nomem", "no thread can be started");
    }
    b->started = true;
    return json_pack("{s:s, s:s}", "state", "waiting", "to", b->to);
}

static json_t *status(const struct gwi_server *server)
{
    static const char *const names[] = {"none", "waiting", "copying", "done", "failed"};
    const struct gwi_backup *b = server->backup;
    int state = b ? atomic_load(&b->state) : BACKUP_NONE;
    if (state == BACKUP_NONE)
        return json_pack("{s:s}", "state", names[state]);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:s}", "state", names[state], "bytes",
                     (json_int_t)atomic_load(&b->bytes), "bytes_all",
                     (json_int_t)atomic_load(&b->bytes_all), "checkpoint",
                     (json_int_t)atomic_load(&b->checkpoint), "map_version",
                     (json_int_t)b->map_version, "error", state == BACKUP_FAILED ? b->error : "");
}

json_t *gwi_backup_answer(struct gwi_server *server, const json_t *request, const char *op)
{
    if (strcmp(op, "backup") == 0)
        return begin(server, json_string_value(json_object_get(request, "to")));
    if (strcmp(op, "backup_status") == 0)
        return status(server);
    if (strcmp(op, "checkpoint") == 0)
        return server->durable.mode == GWI_DURABILITY_NONE
                   ? refusal("e_unsupported",
                             "this server makes nothing durable: start it with --disk")
                   : json_pack("{s:I}", "number", (json_int_t)gwi_checkpoint_ask(server));
    return NULL;
}
