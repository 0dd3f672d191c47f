/* commit_files.c - the files of one commit log: made ahead, filled ahead, given back.
 *
 *   made as spare --turn: renamed, directory synced--> current --> full
 *     ^                                                             |
 *     '------- renamed, and used again <------ given back <---------' beyond a share: removed
 *
 * Rules:
 *  1. A block is written only into a file whose size, foot and name are on the disk, and when the
 *     seal of the file in front of it is: so none of the two can be lost unseen.
 *  2. A file goes only when the one behind it begins at or below the finished interval: so what is
 *     left always begins with block 1 or with a block that nobody needs, and a reader can tell a
 *     file that was given back from one that was lost.
 *  3. A file that is used again (its blocks were written before, which is faster by half) gets a
 *     spare's name first: no reader looks into it. It keeps its old blocks behind the new ones.
 * They are of the same log, with lower sequences than the file's name says, and of finished
 * intervals: a reader takes them for nothing (commit_scan.c). Files of other incarnations are never
 * used again.
 *  4. Whatever fails before a block is in a file leaves the log as it was; only an error that says
 *     more than "no room" breaks it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "tiering/commit_internal.h"

#define SPARES_SHARE 4u /* of the bound */

/* What may be gone the next time. */
static bool no_room(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM;
}

static int open_new(struct gw_commit *log, const char *name)
{
    const int flags = O_CREAT | O_EXCL | O_RDWR | O_DSYNC;
    int fd = log->calls.open(log->calls.ctx, log->dir_fd, name, flags | O_DIRECT);
    if (fd != -EINVAL)
        return fd;
    /* A filesystem without O_DIRECT: it may have made the file before it said so. */
    (void)log->calls.unlink(log->calls.ctx, log->dir_fd, name);
    return log->calls.open(log->calls.ctx, log->dir_fd, name, flags);
}

static int prepare(struct gw_commit *log, int fd, uint64_t bytes)
{
    const struct gw_ssd_calls *calls = &log->calls;
    int rc = calls->allocate(calls->ctx, fd, bytes);
    if (rc < 0)
        return rc;
    gwi_commit_foot_make(log->end_unit, log->options.store_id, bytes);
    ssize_t n = calls->pwrite(calls->ctx, fd, log->end_unit, GW_COMMIT_BLOCK_UNIT,
                              bytes - GW_COMMIT_BLOCK_UNIT);
    if (n != (ssize_t)GW_COMMIT_BLOCK_UNIT)
        return n < 0 ? (int)n : -EIO;
    return calls->sync(calls->ctx, fd);
}

static uint64_t bytes_of_spares(const struct gw_commit *log)
{
    uint64_t bytes = 0;
    for (const struct gwi_commit_file *f = log->spare; f; f = f->next)
        bytes += f->bytes;
    return bytes;
}

static uint64_t bytes_of_all(const struct gw_commit *log)
{
    uint64_t bytes = bytes_of_spares(log);
    for (const struct gwi_commit_file *f = log->files; f; f = f->next)
        bytes += f->bytes;
    return bytes;
}

/* Closes and removes what holds nothing that is needed. */
static void discard(struct gw_commit *log, struct gwi_commit_file *file)
{
    char name[GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(&file->name, name);
    (void)log->calls.close(log->calls.ctx, file->fd);
    (void)log->calls.unlink(log->calls.ctx, log->dir_fd, name);
    free(file);
}

/* Makes a file under a spare's name; *rc is the cause of a failure. */
static enum gw_status make(struct gw_commit *log, uint64_t bytes, struct gwi_commit_file **out,
                           int *rc)
{
    uint64_t limit = log->options.limit_bytes;
    enum gw_status status = GW_E_FULL;
    struct gwi_commit_file *file = NULL;
    *rc = -ENOSPC;
    while (limit && log->spare && bytes_of_all(log) + bytes > limit) { /* of another size */
        struct gwi_commit_file *spare = log->spare;
        log->spare = spare->next;
        discard(log, spare);
    }
    if (limit && log->files && bytes_of_all(log) + bytes > limit)
        goto fail;
    *rc = -ENOMEM;
    file = calloc(1, sizeof *file);
    if (!file)
        goto fail;
    *file = (struct gwi_commit_file){
        .name = {log->spares++, log->options.incarnation, log->options.dispatcher, true},
        .bytes = bytes,
        .interval_first = UINT64_MAX,
        .fd = -1,
    };
    char name[GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(&file->name, name);
    file->fd = *rc = open_new(log, name);
    if (*rc >= 0)
        *rc = prepare(log, file->fd, bytes);
    if (*rc >= 0) {
        atomic_store_explicit(&log->full, false, memory_order_relaxed);
        *out = file;
        return GW_OK;
    }
    if (file->fd >= 0) {
        (void)log->calls.close(log->calls.ctx, file->fd); /* it holds nothing */
        (void)log->calls.unlink(log->calls.ctx, log->dir_fd, name);
    }
    status = no_room(*rc) ? GW_E_FULL : GW_E_IO;
fail:
    free(file);
    if (status == GW_E_FULL)
        atomic_store_explicit(&log->full, true, memory_order_relaxed);
    return status;
}

/* Gives the file the name of the next block and puts it behind the others. */
static enum gw_status use(struct gw_commit *log, struct gwi_commit_file *file, int *rc)
{
    const struct gwi_commit_name name = {log->sequence, log->options.incarnation,
                                         log->options.dispatcher, false};
    char from[GWI_COMMIT_NAME_BYTES], to[GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(&file->name, from);
    gwi_commit_name_print(&name, to);
    *rc = log->calls.rename(log->calls.ctx, log->dir_fd, from, to);
    if (*rc < 0)
        return no_room(*rc) ? GW_E_FULL : GW_E_IO;
    *rc = log->calls.sync(log->calls.ctx, log->dir_fd);
    if (*rc < 0)
        return GW_E_IO;
    file->name = name;
    file->at = 0;
    file->interval_first = UINT64_MAX;
    file->interval_last = 0;
    return GW_OK;
}

/* What was the current file ends here. */
static enum gw_status seal(struct gw_commit *log, const struct gwi_commit_file *file,
                           uint64_t next_number)
{
    uint8_t *unit = log->end_unit;
    gwi_commit_seal_make(unit, log->options.store_id, file->name.number, next_number);
    for (;;) {
        ssize_t n = log->calls.pwrite(log->calls.ctx, file->fd, unit, GW_COMMIT_BLOCK_UNIT,
                                      file->bytes - GWI_COMMIT_END_BYTES);
        if (n != -EINTR)
            return n == (ssize_t)GW_COMMIT_BLOCK_UNIT ? GW_OK : GW_E_IO;
    }
}

static void append(struct gw_commit *log, struct gwi_commit_file *file)
{
    struct gwi_commit_file **at = &log->files;
    while (*at && (*at)->name.number != file->name.number)
        at = &(*at)->next;
    if (*at) { /* an empty one, too small for the next block: the new one has taken its name */
        GW_ASSERT(*at == log->current && log->current->at == 0);
        (void)log->calls.close(log->calls.ctx, log->current->fd);
        free(log->current);
    }
    *at = file;
    file->next = NULL;
    log->current = file;
}

enum gw_status gwi_commit_files_turn(struct gw_commit *log, uint64_t block_bytes)
{
    uint64_t bytes = block_bytes + GWI_COMMIT_END_BYTES;
    bool large = bytes > log->options.file_bytes;
    struct gwi_commit_file *file = large ? NULL : log->spare;
    int rc;
    if (!file) {
        enum gw_status status = make(log, large ? bytes : log->options.file_bytes, &file, &rc);
        if (gw_failed(status))
            return status;
        if (!large)
            log->spare = file;
    }
    enum gw_status status = use(log, file, &rc);
    if (status != GW_OK) {
        if (large)
            discard(log, file);
        if (status == GW_E_FULL)
            atomic_store_explicit(&log->full, true, memory_order_relaxed);
        return status;
    }
    if (!large)
        log->spare = file->next;
    const struct gwi_commit_file *before = log->current;
    status = before->at > 0 ? seal(log, before, file->name.number) : GW_OK;
    append(log, file);
    return status;
}

bool gwi_commit_files_urgent(const struct gw_commit *log)
{
    return !log->spare && log->current->at > log->current->bytes / 2;
}

enum gw_status gwi_commit_files_ahead(struct gw_commit *log)
{
    struct gwi_commit_file *file = log->current;
    uint64_t end = file->bytes - GWI_COMMIT_END_BYTES;
    int rc;
    if (file->filled >= end && !log->spare)
        return make(log, log->options.file_bytes, &log->spare, &rc);
    if (file->filled >= end) {
        file = log->spare;
        end = file->bytes - GWI_COMMIT_END_BYTES;
    } else if (gwi_commit_files_urgent(log)) {
        return make(log, log->options.file_bytes, &log->spare, &rc); /* more urgent */
    }
    if (file->filled >= end)
        return GW_END;
    uint64_t bytes =
        end - file->filled < GWI_COMMIT_FILL_BYTES ? end - file->filled : GWI_COMMIT_FILL_BYTES;
    ssize_t n = log->calls.pwrite(log->calls.ctx, file->fd, log->zeros, bytes, file->filled);
    if (n == -EINTR)
        return GW_OK;
    if (n < 0 && no_room((int)n)) /* not needed: a flush writes there as well */
        n = (ssize_t)bytes;
    if (n <= 0)
        return GW_E_IO;
    file->filled += (uint64_t)n & ~(uint64_t)(GW_COMMIT_BLOCK_UNIT - 1);
    return n < (ssize_t)GW_COMMIT_BLOCK_UNIT ? GW_E_IO : GW_OK;
}

/* Keeps a file that nobody needs, to be used again, as far as the share of spares goes. */
static void keep_or_discard(struct gw_commit *log, struct gwi_commit_file *file)
{
    uint64_t share = log->options.limit_bytes / SPARES_SHARE;
    if (share < log->options.file_bytes)
        share = log->options.file_bytes;
    char from[GWI_COMMIT_NAME_BYTES], to[GWI_COMMIT_NAME_BYTES];
    const struct gwi_commit_name name = {log->spares++, log->options.incarnation,
                                         log->options.dispatcher, true};
    gwi_commit_name_print(&file->name, from);
    gwi_commit_name_print(&name, to);
    if (file->bytes != log->options.file_bytes || bytes_of_spares(log) + file->bytes > share ||
        log->calls.rename(log->calls.ctx, log->dir_fd, from, to) < 0) {
        discard(log, file); /* its blocks are not needed, nor harmful if they stay */
        return;
    }
    file->name = name;
    file->filled = file->bytes;
    struct gwi_commit_file **at = &log->spare;
    while (*at && (*at)->filled >= (*at)->bytes - GWI_COMMIT_END_BYTES)
        at = &(*at)->next;
    file->next = *at; /* before one that was only made */
    *at = file;
}

void gwi_commit_files_give_back(struct gw_commit *log, uint64_t finished)
{
    while (log->files != log->current && log->files->interval_last <= finished &&
           log->files->next->interval_first <= finished) {
        struct gwi_commit_file *file = log->files;
        log->files = file->next;
        keep_or_discard(log, file);
        atomic_store_explicit(&log->full, false, memory_order_relaxed);
    }
}

void gwi_commit_files_count(struct gw_commit *log)
{
    uint32_t files = 0;
    for (const struct gwi_commit_file *f = log->files; f; f = f->next)
        files++;
    uint64_t left = log->current->bytes - GWI_COMMIT_END_BYTES - log->current->at;
    for (const struct gwi_commit_file *f = log->spare; f; f = f->next, files++)
        left += f->bytes - GWI_COMMIT_END_BYTES;
    uint64_t limit = log->options.limit_bytes;
    if (!log->spare && limit && bytes_of_all(log) + log->options.file_bytes > limit)
        atomic_store_explicit(&log->full, true,
                              memory_order_relaxed); /* known before it is tried */
    atomic_store_explicit(&log->left, left, memory_order_relaxed);
    atomic_store_explicit(&log->files_count, files, memory_order_relaxed);
    atomic_store_explicit(&log->file_bytes, bytes_of_all(log), memory_order_relaxed);
    atomic_store_explicit(&log->spare_bytes, bytes_of_spares(log), memory_order_relaxed);
}

/* ---- open, close ---- */

/* The directory, made and known to its parent. */
static int open_dir(struct gw_commit *log)
{
    const struct gw_ssd_calls *calls = &log->calls;
    int made = calls->make_dir(calls->ctx, log->options.dir);
    if (made < 0 && made != -EEXIST)
        return made;
    int fd = calls->open(calls->ctx, AT_FDCWD, log->options.dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0 || made < 0)
        return fd;
    int parent = calls->open(calls->ctx, fd, "..", O_RDONLY | O_DIRECTORY);
    int rc = parent < 0 ? parent : calls->sync(calls->ctx, parent);
    if (parent >= 0)
        (void)calls->close(calls->ctx, parent); /* opened for reading */
    if (rc < 0)
        (void)calls->close(calls->ctx, fd);
    return rc < 0 ? rc : fd;
}

/* An incarnation is used once: no file of it may be there. */
static bool used_before(struct gw_commit *log, const char *name)
{
    int fd = log->calls.open(log->calls.ctx, log->dir_fd, name, O_RDONLY);
    if (fd >= 0)
        (void)log->calls.close(log->calls.ctx, fd);
    return fd != -ENOENT;
}

enum gw_status gwi_commit_files_open(struct gw_commit *log, char *error)
{
    const char *dir = log->options.dir;
    int rc = log->dir_fd = open_dir(log);
    if (rc < 0) {
        snprintf(error, GW_COMMIT_TEXT_BYTES, "%s: %s", dir, strerror(-rc));
        return no_room(rc) ? GW_E_FULL : GW_E_IO;
    }
    struct gwi_commit_file *file;
    const struct gwi_commit_name first = {1, log->options.incarnation, log->options.dispatcher,
                                          false};
    char name[GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(&first, name);
    enum gw_status status = GW_E_IO;
    if (used_before(log, name)) {
        snprintf(error, GW_COMMIT_TEXT_BYTES, "%s/%s: is there already, or cannot be looked for",
                 dir, name);
        goto fail;
    }
    log->zeros = log->calls.memory(log->calls.ctx, GWI_COMMIT_FILL_BYTES);
    log->end_unit = log->calls.memory(log->calls.ctx, GW_COMMIT_BLOCK_UNIT);
    rc = -ENOMEM;
    status = GW_E_NOMEM;
    if (log->zeros && log->end_unit)
        status = make(log, log->options.file_bytes, &log->spare, &rc);
    if (status == GW_OK)
        status = use(log, log->spare, &rc);
    if (gw_failed(status)) {
        snprintf(error, GW_COMMIT_TEXT_BYTES, "%s/%s: cannot be made: %s", dir, name,
                 strerror(-rc));
        goto fail;
    }
    file = log->spare;
    log->spare = NULL;
    append(log, file);
    gwi_commit_files_count(log);
    return GW_OK;
fail:
    gwi_commit_files_close(log);
    return status;
}

void gwi_commit_files_close(struct gw_commit *log)
{
    const struct gw_ssd_calls *calls = &log->calls;
    while (log->spare) {
        struct gwi_commit_file *file = log->spare;
        log->spare = file->next;
        discard(log, file);
    }
    while (log->files) {
        struct gwi_commit_file *file = log->files;
        log->files = file->next;
        (void)calls->close(calls->ctx, file->fd); /* every write of it had O_DSYNC */
        free(file);
    }
    (void)calls->close(calls->ctx, log->dir_fd);
    free(log->zeros);
    free(log->end_unit);
    log->spare = log->current = NULL;
    log->zeros = log->end_unit = NULL;
}
