/* commit_read.c - the commit logs of a directory: found, verified in parallel, walked, removed.
 * What is right and wrong in one log is commit_scan.c's. */
#include "tiering/commit_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "tiering/commit_scan.h"

#define THREADS_MAX 16

struct gw_commit_logs {
    struct gwi_scan_log *logs; /* owned */
    uint32_t count;
    struct gwi_scan_wish wish;
    _Atomic uint32_t next; /* log that the next free thread takes; relaxed: nothing is published */
};

/* ---- what is there ---- */

struct names {
    struct gwi_commit_name *all; /* owned */
    size_t count, room;
};

/* By incarnation, dispatcher, number; spares last. */
static int compare_names(const void *a, const void *b)
{
    const struct gwi_commit_name *x = a, *y = b;
    if (x->spare != y->spare)
        return x->spare ? 1 : -1;
    if (x->incarnation != y->incarnation)
        return x->incarnation < y->incarnation ? -1 : 1;
    if (x->dispatcher != y->dispatcher)
        return x->dispatcher < y->dispatcher ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static enum gw_status add_name(struct names *names, const struct gwi_commit_name *name)
{
    if (names->count == names->room) {
        size_t room = names->room ? 2 * names->room : 64;
        struct gwi_commit_name *more = realloc(names->all, room * sizeof *more);
        if (!more)
            return GW_E_NOMEM;
        names->all = more;
        names->room = room;
    }
    names->all[names->count++] = *name;
    return GW_OK;
}

/* All names, sorted; *names is the caller's to free in any case. */
static enum gw_status list(const char *dir, struct names *names, char *error)
{
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT)
        return GW_OK;
    enum gw_status status = GW_E_IO;
    if (!d) {
        snprintf(error, GW_COMMIT_TEXT_BYTES, "%.400s: %s", dir, strerror(errno));
        return status;
    }
    const struct dirent *entry;
    for (errno = 0; (entry = readdir(d)); errno = 0) {
        struct gwi_commit_name name;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!gwi_commit_name_parse(entry->d_name, &name)) {
            snprintf(error, GW_COMMIT_TEXT_BYTES, "%.200s/%.200s: not a file of a commit log", dir,
                     entry->d_name);
            status = GW_E_REFUSED;
            goto done;
        }
        status = add_name(names, &name);
        if (gw_failed(status)) {
            snprintf(error, GW_COMMIT_TEXT_BYTES, "%.400s: out of memory", dir);
            goto done;
        }
    }
    status = errno == 0 ? GW_OK : GW_E_IO;
    if (status != GW_OK)
        snprintf(error, GW_COMMIT_TEXT_BYTES, "%.400s: %s", dir, strerror(errno));
done:
    closedir(d);
    if (names->count)
        qsort(names->all, names->count, sizeof *names->all, compare_names);
    return status;
}

static bool same_log(const struct gwi_commit_name *a, const struct gwi_commit_name *b)
{
    return a->incarnation == b->incarnation && a->dispatcher == b->dispatcher;
}

/* Logs of the names; spares hold nothing. */
static enum gw_status group(struct gw_commit_logs *logs, const struct names *names)
{
    logs->logs = calloc(names->count ? names->count : 1, sizeof *logs->logs);
    if (!logs->logs)
        return GW_E_NOMEM;
    for (size_t i = 0; i < names->count && !names->all[i].spare;) {
        size_t end = i;
        while (end < names->count && !names->all[end].spare &&
               same_log(&names->all[i], &names->all[end]))
            end++;
        struct gwi_scan_log *log = &logs->logs[logs->count++];
        log->files = calloc(end - i, sizeof *log->files);
        if (!log->files)
            return GW_E_NOMEM;
        log->info.incarnation = names->all[i].incarnation;
        log->info.dispatcher = names->all[i].dispatcher;
        log->info.files = (uint32_t)(end - i);
        for (; i < end; i++)
            log->files[log->files_count++].name = names->all[i];
    }
    return GW_OK;
}

/* ---- verifying ---- */

static void *scan_some(void *arg)
{
    struct gw_commit_logs *logs = arg;
    for (;;) {
        uint32_t i = atomic_fetch_add_explicit(&logs->next, 1, memory_order_relaxed);
        if (i >= logs->count)
            return NULL;
        gwi_scan_log(&logs->wish, &logs->logs[i]);
    }
}

static void scan_all(struct gw_commit_logs *logs)
{
    pthread_t threads[THREADS_MAX];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t count = 0;
    while (count < THREADS_MAX && count + 1 < logs->count && (long)count + 1 < processors) {
        if (pthread_create(&threads[count], NULL, scan_some, logs) != 0)
            break; /* fewer will do */
        count++;
    }
    scan_some(logs);
    while (count > 0)
        pthread_join(threads[--count], NULL);
}

enum gw_status gw_commit_logs_open(const char *dir, uint64_t store_id, uint64_t interval,
                                   bool salvage, struct gw_commit_logs **out, char *error)
{
    error[0] = 0;
    struct names names = {0};
    struct gw_commit_logs *logs = calloc(1, sizeof *logs);
    enum gw_status status = GW_E_NOMEM;
    if (logs) {
        logs->wish = (struct gwi_scan_wish){dir, store_id, interval, salvage};
        status = list(dir, &names, error);
        if (status == GW_OK)
            status = group(logs, &names);
    }
    free(names.all);
    if (gw_failed(status)) {
        if (error[0] == 0)
            snprintf(error, GW_COMMIT_TEXT_BYTES, "%.400s: out of memory", dir);
        gw_commit_logs_close(logs);
        return status;
    }
    scan_all(logs);
    logs->wish.dir = NULL; /* was borrowed */
    for (uint32_t i = 0; i < logs->count; i++) {
        const struct gwi_scan_log *log = &logs->logs[i];
        if (error[0] == 0)
            memcpy(error, log->error, GW_COMMIT_TEXT_BYTES);
        if (gw_failed(log->status)) {
            memcpy(error, log->error, GW_COMMIT_TEXT_BYTES);
            status = log->status;
            gw_commit_logs_close(logs);
            return status;
        }
    }
    *out = logs;
    return GW_OK;
}

void gw_commit_logs_close(struct gw_commit_logs *logs)
{
    if (!logs)
        return;
    for (uint32_t i = 0; i < logs->count; i++)
        gwi_scan_fini(&logs->logs[i]);
    free(logs->logs);
    free(logs);
}

/* ---- walking ---- */

uint32_t gw_commit_logs_count(const struct gw_commit_logs *logs)
{
    return logs->count;
}

void gw_commit_logs_info(const struct gw_commit_logs *logs, uint32_t log,
                         struct gw_commit_log_info *out)
{
    GW_ASSERT(log < logs->count);
    *out = logs->logs[log].info;
}

enum gw_status gw_commit_logs_each(struct gw_commit_logs *logs, uint32_t log, gw_commit_block_cb fn,
                                   void *ctx)
{
    GW_ASSERT(log < logs->count);
    const struct gwi_scan_log *l = &logs->logs[log];
    for (uint64_t i = 0; i < l->blocks_count; i++) {
        if (l->blocks[i].interval <= logs->wish.interval)
            continue;
        struct gw_commit_block block;
        gwi_commit_block_read(l->blocks[i].at, &block);
        if (!fn(ctx, &block, l->blocks[i].at + GW_COMMIT_BLOCK_HEADER))
            return GW_END;
    }
    return GW_OK;
}

/* ---- removing ---- */

static enum gw_status sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return GW_E_IO;
    int rc = fsync(fd);
    close(fd);
    return rc < 0 ? GW_E_IO : GW_OK;
}

static enum gw_status remove_one(const struct gwi_scan_wish *wish,
                                 const struct gwi_commit_name *name, uint32_t *removed)
{
    char text[GWI_COMMIT_NAME_BYTES], path[GW_COMMIT_TEXT_BYTES + GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(name, text);
    snprintf(path, sizeof path, "%s/%s", wish->dir, text);
    if (unlink(path) < 0)
        return GW_E_IO;
    (*removed)++;
    return GW_OK;
}

/* So that the file behind it is not missed. */
static enum gw_status unseal(const struct gwi_scan_wish *wish, const struct gwi_commit_name *name)
{
    static const uint8_t zeros[GW_COMMIT_BLOCK_UNIT];
    char text[GWI_COMMIT_NAME_BYTES], path[GW_COMMIT_TEXT_BYTES + GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(name, text);
    snprintf(path, sizeof path, "%s/%s", wish->dir, text);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return GW_E_IO;
    off_t bytes = lseek(fd, 0, SEEK_END);
    bool done = bytes < (off_t)GWI_COMMIT_END_BYTES ||
                (pwrite(fd, zeros, sizeof zeros, bytes - (off_t)GWI_COMMIT_END_BYTES) ==
                     (ssize_t)sizeof zeros &&
                 fsync(fd) == 0);
    close(fd);
    return done ? GW_OK : GW_E_IO;
}

/* From the first file to the last, but of the last two the last one first: a last file may hold no
 * block at all, and then only the one in front of it says that nothing is missing. So what a crash
 * in between leaves is a log like any other. */
static enum gw_status remove_log(const struct gwi_scan_wish *wish,
                                 const struct gwi_commit_name *names, size_t count,
                                 uint32_t *removed)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t interval;
        enum gw_status status = gwi_scan_interval(wish, &names[i], &interval);
        if (status != GW_OK || interval > wish->interval)
            return status;
    }
    enum gw_status status = GW_OK;
    size_t i = 0;
    for (; status == GW_OK && i + 2 < count; i++)
        status = remove_one(wish, &names[i], removed);
    if (status == GW_OK && i + 1 < count) {
        status = i > 0 ? sync_dir(wish->dir) : GW_OK;
        if (status == GW_OK)
            status = unseal(wish, &names[i]);
        if (status == GW_OK)
            status = remove_one(wish, &names[i + 1], removed);
        if (status == GW_OK)
            status = sync_dir(wish->dir);
    }
    return status == GW_OK ? remove_one(wish, &names[i], removed) : status;
}

enum gw_status gw_commit_logs_remove(const char *dir, uint64_t store_id, uint64_t interval,
                                     uint32_t ours, uint32_t *removed)
{
    const struct gwi_scan_wish wish = {dir, store_id, interval, false};
    char error[GW_COMMIT_TEXT_BYTES];
    struct names names = {0};
    uint32_t count = 0;
    enum gw_status status = list(dir, &names, error);
    for (size_t i = 0, end; status == GW_OK && i < names.count; i = end) {
        const struct gwi_commit_name *name = &names.all[i];
        for (end = i + 1; end < names.count && !name->spare && !names.all[end].spare &&
                          same_log(name, &names.all[end]);)
            end++;
        if (name->incarnation == ours)
            continue;
        status = name->spare ? remove_one(&wish, name, &count)
                             : remove_log(&wish, name, end - i, &count);
    }
    free(names.all);
    if (status == GW_OK && count > 0)
        status = sync_dir(dir);
    if (removed)
        *removed = count;
    return status;
}
