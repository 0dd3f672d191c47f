/* checkpoint_files.c - the files of checkpoints, written by a thread of their own at low priority.
 *
 * Rules: 1. A file appears under its name when it is whole and synced: written beside, fsync,
 * rename, fsync of the folder. 2. A state is published after the device has been synced, and names
 * only files that are in place. 3. A write that fails costs this checkpoint; a sync that fails ends
 * the server, for after it nobody knows what is on the disk (and asking again says nothing).
 * 4. Only names of our own pattern are removed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/base/log_line.h"
#include "index/device.h"
#include "index/store_recover.h"
#include "server/checkpoint_internal.h"

#define NICE         10
#define WRITE_BYTES  (256u << 10) /* gathered before a write */
#define PACE_BYTES   (4u << 20)   /* then the disk may begin, and others may go first */
#define PACE_NS      1000000
#define SYNC_POLL_NS 200000
#define PATH_BYTES   1200u

static enum gw_status status_of(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG ? GW_E_FULL : GW_E_IO;
}

static enum gw_status failed(struct gwi_checkpoints *c, int error, const char *path,
                             const char *what)
{
    snprintf(c->job_why, sizeof c->job_why, "checkpoints/%s: %s: %s", path, what, strerror(error));
    return status_of(error);
}

/* The disk is in an unknown state. */
static enum gw_status fatal(struct gwi_checkpoints *c, int error, const char *path,
                            const char *what)
{
    c->job_fatal = true;
    (void)failed(c, error, path, what);
    return GW_E_IO;
}

static void pause_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* ---- one file ---------------------------------------------------------------------------------
 */

struct file {
    struct gwi_checkpoints *c;
    int fd;
    char path[PATH_BYTES], name[64]; /* path: of the unfinished one */
    uint8_t *room;                   /* WRITE_BYTES */
    size_t gathered;
    uint64_t bytes;
};

static void path_of(const struct gwi_checkpoints *c, const char *name, const char *more, char *path)
{
    snprintf(path, PATH_BYTES, "%s/checkpoints/%s%s", c->server->options.data, name, more);
}

static enum gw_status file_begin(struct file *f, struct gwi_checkpoints *c, const char *name)
{
    *f = (struct file){.c = c, .fd = -1};
    snprintf(f->name, sizeof f->name, "%s", name);
    path_of(c, name, ".tmp", f->path);
    f->room = malloc(WRITE_BYTES);
    if (!f->room) {
        snprintf(c->job_why, sizeof c->job_why, "no memory");
        return GW_E_NOMEM;
    }
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (f->fd < 0) {
        enum gw_status st = failed(c, errno, name, "cannot be made");
        free(f->room);
        return st;
    }
    return GW_OK;
}

static enum gw_status file_send(struct file *f)
{
    for (size_t at = 0; at < f->gathered;) {
        ssize_t n = write(f->fd, f->room + at, f->gathered - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(f->c, n < 0 ? errno : EIO, f->name, "cannot be written");
        at += (size_t)n;
    }
    uint64_t before = f->bytes / PACE_BYTES;
    f->bytes += f->gathered;
    f->gathered = 0;
    if (f->bytes / PACE_BYTES != before) { /* in portions, instead of all at the fsync */
        (void)sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        pause_ns(PACE_NS);
    }
    return GW_OK;
}

static enum gw_status file_put(void *ctx, const void *bytes, size_t n)
{
    struct file *f = ctx;
    const uint8_t *from = bytes;
    while (n > 0) {
        size_t part = WRITE_BYTES - f->gathered < n ? WRITE_BYTES - f->gathered : n;
        memcpy(f->room + f->gathered, from, part);
        f->gathered += part;
        from += part;
        n -= part;
        if (f->gathered == WRITE_BYTES) {
            enum gw_status st = file_send(f);
            if (st != GW_OK)
                return st;
        }
    }
    return GW_OK;
}

/* st: how it went so far. The file is in place, or gone. */
static enum gw_status file_end(struct file *f, enum gw_status st, bool sync_is_fatal)
{
    char path[PATH_BYTES];
    if (st == GW_OK)
        st = file_send(f);
    if (st == GW_OK && fsync(f->fd) != 0)
        st = sync_is_fatal ? fatal(f->c, errno, f->name, "cannot be synced")
                           : failed(f->c, errno, f->name, "cannot be synced");
    close(f->fd);
    free(f->room);
    path_of(f->c, f->name, "", path);
    if (st == GW_OK && rename(f->path, path) != 0)
        st = failed(f->c, errno, f->name, "cannot be renamed");
    if (st != GW_OK)
        (void)unlink(f->path); /* what is left of it is removed at the next start */
    return st;
}

static enum gw_status sync_folder(struct gwi_checkpoints *c)
{
    char path[PATH_BYTES];
    path_of(c, "", "", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fatal(c, errno, "", "cannot be opened");
    int error = fsync(fd) == 0 || errno == EINVAL ? 0 : errno; /* EINVAL: folders need no sync */
    close(fd);
    return error ? fatal(c, error, "", "cannot be synced") : GW_OK;
}

/* ---- the index ---------------------------------------------------------------------------------
 */

static enum gw_status write_index(struct gwi_checkpoints *c)
{
    struct gw_snapshot *snapshot;
    struct gwi_index_file *index = &c->job_index; /* number and view: of the machine */
    struct file f;
    char name[64];
    uint8_t *block = malloc(GW_SNAPSHOT_BLOCK);
    enum gw_status st = block ? GW_OK : GW_E_NOMEM;
    if (st == GW_OK)
        st = gw_snapshot_begin(c->server->store, &snapshot, &index->start);
    if (st != GW_OK) {
        snprintf(c->job_why, sizeof c->job_why, "index snapshot: %s", gw_status_text(st));
        free(block);
        return st;
    }
    index->blocks = 0;
    index->crc = 0;
    st = file_begin(&f, c, gwi_index_name(index->number, name));
    if (st == GW_OK) {
        while (st == GW_OK && !atomic_load_explicit(&c->stop, memory_order_relaxed)) {
            st = gw_snapshot_next(snapshot, block);
            if (st == GW_END)
                break;
            if (st != GW_OK) {
                snprintf(c->job_why, sizeof c->job_why, "index snapshot: %s", gw_status_text(st));
                break;
            }
            index->crc = gw_crc32c(index->crc, block, GW_SNAPSHOT_BLOCK);
            index->blocks++;
            st = file_put(&f, block, GW_SNAPSHOT_BLOCK);
        }
        st = st == GW_END ? GW_OK : st == GW_OK ? GW_E_CANCELLED : st;
        st = file_end(&f, st, false);
    }
    gw_snapshot_end(snapshot);
    free(block);
    c->job_bytes = index->blocks * GW_SNAPSHOT_BLOCK;
    return st;
}

/* ---- the state ---------------------------------------------------------------------------------
 */

static void synced(void *arg, enum gw_status st)
{
    *(int *)arg = (int)st;
}

/* On a queue of the tier that no thread of the store has. */
static enum gw_status sync_device(struct gwi_checkpoints *c)
{
    struct gw_device *device = c->server->device;
    uint32_t queue = c->server->options.threads + GWI_STORE_THREADS_MORE - 1;
    int result = GW_PENDING;
    enum gw_status st;
    while ((st = device->sync(device, queue, synced, &result)) == GW_WOULD_BLOCK) {
        (void)device->poll(device, queue);
        pause_ns(SYNC_POLL_NS);
    }
    if (st != GW_PENDING)
        result = (int)st;
    while (result == GW_PENDING)
        if (device->poll(device, queue) == 0)
            pause_ns(SYNC_POLL_NS);
    return (enum gw_status)result;
}

static enum gw_status publish(struct gwi_checkpoints *c)
{
    struct gwi_data *data = &c->server->data;
    struct file f;
    char name[64];
    enum gw_status st = sync_device(c);
    if (st != GW_OK) {
        c->job_fatal = true;
        snprintf(c->job_why, sizeof c->job_why, "log: segments cannot be synced: %s",
                 gw_status_text(st));
        return GW_E_IO;
    }
    st = file_begin(&f, c, gwi_state_name(c->state.image.number, name));
    if (st != GW_OK)
        return st;
    st = file_end(&f, gwi_state_encode(&c->state, file_put, &f), true);
    c->job_bytes = f.bytes;
    if (st == GW_OK)
        st = sync_folder(c);
    if (st != GW_OK)
        return st;
    /* Without this note a state file that goes missing later would not be missed: worth a warning,
     * not the checkpoint. */
    if (gwi_data_note_checkpoint(&c->server->options, data, c->state.image.number) != GW_OK)
        gw_warn("checkpoint_note", "number=%" PRIu64 " file=store.json next=go_on",
                c->state.image.number);
    uint64_t states[3] = {c->state.image.number, c->newest.image.number, c->pinned.image.number};
    uint64_t indexes[4] = {c->state.index.number, c->newest.index.number, c->index.number,
                           c->pinned.index.number};
    gwi_checkpoint_sweep(c->server->options.data, states, 3, indexes, 4);
    return GW_OK;
}

static bool is_among(uint64_t number, const uint64_t *numbers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

void gwi_checkpoint_sweep(const char *data, const uint64_t *states, uint32_t states_count,
                          const uint64_t *indexes, uint32_t indexes_count)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/checkpoints", data);
    DIR *dir = opendir(path);
    if (!dir)
        return; /* the next checkpoint tries again */
    const struct dirent *e;
    while ((e = readdir(dir))) {
        char name[64];
        size_t n = strlen(e->d_name);
        bool unfinished = n > 4 && n < sizeof name && strcmp(e->d_name + n - 4, ".tmp") == 0;
        snprintf(name, sizeof name, "%.*s", (int)(unfinished ? n - 4 : n < 63 ? n : 63), e->d_name);
        uint64_t state = gwi_state_number(name), index = gwi_index_number(name);
        bool wanted = !unfinished && ((state && is_among(state, states, states_count)) ||
                                      (index && is_among(index, indexes, indexes_count)));
        if ((state || index) && !wanted && unlinkat(dirfd(dir), e->d_name, 0) != 0)
            gw_warn("checkpoint_remove", "file=%s error=\"%s\" next=leave", e->d_name,
                    strerror(errno));
    }
    closedir(dir);
}

/* ---- the thread --------------------------------------------------------------------------------
 */

void *gwi_checkpoint_worker(void *arg)
{
    struct gwi_checkpoints *c = arg;
    /* Linux: of this thread only. Without the right to it checkpoints are as urgent as requests. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    for (;;) {
        pthread_mutex_lock(&c->lock);
        while (c->job == GWI_JOB_NONE)
            pthread_cond_wait(&c->posted, &c->lock);
        enum gwi_checkpoint_job job = c->job;
        if (job != GWI_JOB_STOP)
            c->job = GWI_JOB_NONE;
        pthread_mutex_unlock(&c->lock);
        if (job == GWI_JOB_STOP)
            return NULL;
        c->job_why[0] = 0;
        c->job_fatal = false;
        c->job_bytes = 0;
        c->job_status = job == GWI_JOB_INDEX ? write_index(c) : publish(c);
        atomic_store_explicit(&c->done, true, memory_order_release);
        if (c->server->dispatchers)
            gw_net_wake(c->server->dispatcher[0]->net);
    }
}
