/* commit_scan.c - are the files of one commit log what their writer left, and where do they end?
 *
 * Of each file: the row of blocks from its start, and whatever good blocks lie behind the row's
 * end. Then all of them in order of sequence. What is missing between two is judged:
 *
 *  1. Nobody needs it if the block behind it is of an interval that is not wanted: intervals rise.
 *     So may a file that was given back be missing, and only such (commit_files.c, rule 2).
 *  2. It is corruption if it was durable: some good block says so, or the name of a file behind it,
 *     for a file gets its name when all before it is on the disk. So is a last file that is sealed:
 *     the one that follows it is lost.
 *  3. Else it is the torn tail, and so is what follows it (ENGINE rule 22).
 *
 * A good block below its file's first sequence is an old one of a file that was used again; its
 * interval is not wanted, else the file has another's name. */
#include "tiering/commit_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/bytes.h"

#define UNIT          GW_COMMIT_BLOCK_UNIT
#define POPULATE_READ 22 /* MADV_POPULATE_READ, Linux 5.14; older headers lack it */

/* Notes the first failure of a log; in salvage mode corruption is no failure. True: go on. */
__attribute__((format(printf, 4, 5))) static bool fail(const struct gwi_scan_wish *wish,
                                                       struct gwi_scan_log *log,
                                                       enum gw_status status, const char *format,
                                                       ...)
{
    if (log->error[0] == 0) {
        va_list args;
        va_start(args, format);
        vsnprintf(log->error, sizeof log->error, format, args);
        va_end(args);
    }
    if (wish->salvage && status == GW_E_CORRUPT)
        return true;
    log->status = status;
    return false;
}

/* Path of a file for people; valid until the next call with this buffer. */
static const char *path_of(const struct gwi_scan_wish *wish, const struct gwi_commit_name *name,
                           char *out, size_t room)
{
    char text[GWI_COMMIT_NAME_BYTES];
    gwi_commit_name_print(name, text);
    snprintf(out, room, "%.380s/%s", wish->dir, text);
    return out;
}
#define PATH(wish, name) path_of(wish, name, (char[GW_COMMIT_TEXT_BYTES]){0}, GW_COMMIT_TEXT_BYTES)

/* ---- one file ---- */

/* 0, or an errno. */
static int map_file(const char *path, struct gwi_scan_file *file)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno;
    struct stat st;
    int rc = fstat(fd, &st) < 0 ? errno : S_ISREG(st.st_mode) ? 0 : ENOTSUP;
    if (rc == 0 && st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            rc = errno;
        } else {
            file->map = map;
            file->bytes = (uint64_t)st.st_size;
            /* So that a sector that cannot be read is an error here and not a signal later. */
            if (madvise(map, file->bytes, POPULATE_READ) < 0 && errno != EINVAL)
                rc = errno == EFAULT || errno == EHWPOISON ? EIO : errno;
        }
    }
    close(fd);
    return rc;
}

/* Maps it and looks at its foot. False: the log cannot be read. */
static bool take_file(const struct gwi_scan_wish *wish, struct gwi_scan_log *log,
                      struct gwi_scan_file *file)
{
    const char *path = PATH(wish, &file->name);
    int rc = map_file(path, file);
    if (rc != 0)
        return fail(wish, log, GW_E_IO, "%s: %s", path, strerror(rc));
    uint16_t format;
    uint64_t store_id, bytes;
    file->content = file->bytes & ~(uint64_t)(UNIT - 1);
    if (file->content < GWI_COMMIT_END_BYTES ||
        !gwi_commit_foot_look(file->map + file->content - UNIT, &format, &store_id, &bytes))
        return fail(wish, log, GW_E_CORRUPT,
                    "%s: cut short, or damaged at its end: no foot at byte %" PRIu64, path,
                    file->content < UNIT ? 0 : file->content - UNIT);
    file->content -= GWI_COMMIT_END_BYTES;
    file->next = gwi_commit_seal_look(file->map + file->content, wish->store_id, file->name.number);
    if (format != GW_COMMIT_FORMAT)
        return fail(wish, log, GW_E_VERSION, "%s: has format %u, known is %u", path, format,
                    GW_COMMIT_FORMAT);
    if (store_id != wish->store_id)
        return fail(wish, log, GW_E_REFUSED,
                    "%s: belongs to store %016" PRIx64 ", not to %016" PRIx64, path, store_id,
                    wish->store_id);
    if (bytes != file->bytes)
        return fail(wish, log, GW_E_CORRUPT, "%s: has %" PRIu64 " bytes, was made with %" PRIu64,
                    path, file->bytes, bytes);
    return true;
}

static bool add_block(struct gwi_scan_log *log, const struct gw_commit_block *block,
                      const uint8_t *at, uint32_t file)
{
    if (log->blocks_count == log->blocks_room) {
        uint64_t room = log->blocks_room ? 2 * log->blocks_room : 256;
        struct gwi_scan_block *more = realloc(log->blocks, room * sizeof *more);
        if (!more)
            return false;
        log->blocks = more;
        log->blocks_room = room;
    }
    log->blocks[log->blocks_count++] = (struct gwi_scan_block){at, block->sequence, block->interval,
                                                               block->durable_sequence, file};
    return true;
}

/* A good block at `offset`: may it be there? `least`: the lowest sequence that would be new.
 * *old: it is one that a file used again still holds. False: the log cannot be read. */
static bool judge_place(const struct gwi_scan_wish *wish, struct gwi_scan_log *log, uint32_t index,
                        const struct gw_commit_block *block, uint64_t offset, uint64_t least,
                        bool *old)
{
    const struct gwi_scan_file *file = &log->files[index];
    uint64_t first = file->name.number;
    uint64_t end = index + 1 < log->files_count ? log->files[index + 1].name.number : UINT64_MAX;
    const char *path = PATH(wish, &file->name);
    *old = true; /* unless it belongs here: in salvage mode what does not is passed over */
    if (block->store_id != wish->store_id)
        return fail(wish, log, GW_E_REFUSED,
                    "%s: byte %" PRIu64 ": a block of store %016" PRIx64 ", not of %016" PRIx64,
                    path, offset, block->store_id, wish->store_id);
    if (block->dispatcher != file->name.dispatcher || block->incarnation != file->name.incarnation)
        return fail(wish, log, GW_E_CORRUPT,
                    "%s: byte %" PRIu64 ": a block of dispatcher %u, incarnation %u: the file has "
                    "another's name",
                    path, offset, block->dispatcher, block->incarnation);
    if (block->sequence < first ? block->interval > wish->interval
                                : block->sequence >= end || block->sequence < least)
        return fail(wish, log, GW_E_CORRUPT,
                    "%s: byte %" PRIu64 ": block %" PRIu64 " of interval %" PRIu64
                    " does not belong there: the file has another's name, or block %" PRIu64
                    " is damaged",
                    path, offset, block->sequence, block->interval, least);
    *old = block->sequence < first;
    return true;
}

static bool scan_file(const struct gwi_scan_wish *wish, struct gwi_scan_log *log, uint32_t index)
{
    struct gwi_scan_file *file = &log->files[index];
    uint64_t least = file->name.number;
    bool row = true;
    for (uint64_t at = 0; at < file->content;) {
        struct gw_commit_block block;
        enum gwi_commit_found found =
            gwi_commit_block_look(file->map + at, file->content - at, &block);
        if (found == GWI_COMMIT_FORMAT &&
            !fail(wish, log, GW_E_VERSION, "%s: byte %" PRIu64 ": a block of another format",
                  PATH(wish, &file->name), at))
            return false;
        bool old = true;
        if (found == GWI_COMMIT_BLOCK && !judge_place(wish, log, index, &block, at, least, &old))
            return false;
        if (!old) {
            if (!add_block(log, &block, file->map + at, index))
                return fail(wish, log, GW_E_NOMEM, "%s: out of memory", wish->dir);
            row = row && block.sequence == least;
            least = block.sequence + 1;
        } else {
            row = false;
        }
        at += found == GWI_COMMIT_BLOCK ? gwi_commit_block_bytes(block.payload_bytes) : UNIT;
        if (row)
            file->run_end = at;
    }
    return true;
}

/* ---- the log ---- */

/* Keeps `count` blocks; the rest is torn. */
static void cut(struct gwi_scan_log *log, uint64_t count)
{
    for (uint64_t i = count; i < log->blocks_count; i++)
        log->info.torn_bytes +=
            gwi_commit_block_bytes(gw_load32(log->blocks[i].at + GWI_BLOCK_PAYLOAD));
    log->blocks_count = count;
}

/* Block `sequence` was durable and is not there. */
static bool missing(const struct gwi_scan_wish *wish, struct gwi_scan_log *log, uint64_t sequence)
{
    struct gwi_commit_name lost = log->files[0].name;
    uint32_t i = log->files_count;
    while (i > 0 && log->files[i - 1].name.number > sequence)
        i--;
    lost.number = sequence;
    if (i == 0)
        return fail(wish, log, GW_E_CORRUPT, "%s: missing: it is needed in front of %s",
                    PATH(wish, &lost), PATH(wish, &log->files[0].name));
    const struct gwi_scan_file *file = &log->files[i - 1];
    if (sequence == file->name.number)
        return fail(wish, log, GW_E_CORRUPT,
                    "%s: byte 0: block %" PRIu64 " is damaged or missing, but was durable",
                    PATH(wish, &file->name), sequence);
    return fail(wish, log, GW_E_CORRUPT,
                "%s: byte %" PRIu64 ": block %" PRIu64
                " is damaged, or %s is missing: it was durable",
                PATH(wish, &file->name), file->run_end, sequence, PATH(wish, &lost));
}

/* What begins behind the last block, as if it had been written and torn. */
static void count_torn(struct gwi_scan_log *log)
{
    uint32_t index =
        log->blocks_count ? log->blocks[log->blocks_count - 1].file : log->files_count - 1;
    const struct gwi_scan_file *file = &log->files[index];
    uint64_t at = file->run_end, left = file->content - at;
    struct gw_commit_block block;
    if (left < UNIT || gw_load32(file->map + at) != GW_COMMIT_MAGIC ||
        gwi_commit_block_look(file->map + at, left, &block) == GWI_COMMIT_BLOCK)
        return;
    uint64_t bytes = gwi_commit_block_bytes(gw_load32(file->map + at + GWI_BLOCK_PAYLOAD));
    log->info.torn_bytes += bytes < left ? bytes : left;
}

static void judge(const struct gwi_scan_wish *wish, struct gwi_scan_log *log)
{
    const struct gwi_scan_file *newest = &log->files[log->files_count - 1];
    uint64_t durable = (newest->next ? newest->next : newest->name.number) - 1, before = 0;
    for (uint64_t i = 0; i < log->blocks_count; i++) {
        if (log->blocks[i].durable > durable)
            durable = log->blocks[i].durable;
        if (log->blocks[i].interval > log->info.interval_last)
            log->info.interval_last = log->blocks[i].interval;
    }
    uint64_t i = 0;
    for (; i < log->blocks_count; i++) {
        const struct gwi_scan_block *b = &log->blocks[i];
        if (b->sequence != before + 1 && b->interval > wish->interval) {
            if (durable > before && !missing(wish, log, before + 1))
                return;
            break;
        }
        if (i > 0 && b->interval < b[-1].interval) {
            if (!fail(wish, log, GW_E_CORRUPT,
                      "%s: block %" PRIu64 " goes back to interval %" PRIu64,
                      PATH(wish, &log->files[b->file].name), b->sequence, b->interval))
                return;
            break;
        }
        before = b->sequence;
    }
    bool all = i == log->blocks_count;
    cut(log, i);
    if (all && durable > before && !missing(wish, log, before + 1))
        return;
    if (all && newest->next && !missing(wish, log, newest->next))
        return;
    count_torn(log);
}

void gwi_scan_log(const struct gwi_scan_wish *wish, struct gwi_scan_log *log)
{
    for (uint32_t i = 0; i < log->files_count; i++)
        if (!take_file(wish, log, &log->files[i]) || !scan_file(wish, log, i))
            return;
    judge(wish, log);
    if (log->status != GW_OK)
        return;
    for (uint64_t i = 0; i < log->blocks_count; i++) {
        if (log->blocks[i].interval <= wish->interval)
            continue;
        log->info.blocks++;
        log->info.bytes += gwi_commit_block_bytes(gw_load32(log->blocks[i].at + GWI_BLOCK_PAYLOAD));
    }
}

enum gw_status gwi_scan_interval(const struct gwi_scan_wish *wish,
                                 const struct gwi_commit_name *name, uint64_t *out)
{
    struct gwi_scan_file file = {.name = *name};
    int rc = map_file(PATH(wish, name), &file);
    *out = 0;
    for (uint64_t at = 0; rc == 0 && at + UNIT <= file.bytes;) {
        struct gw_commit_block block;
        enum gwi_commit_found found = gwi_commit_block_look(file.map + at, file.bytes - at, &block);
        if (found == GWI_COMMIT_FORMAT ||
            (found == GWI_COMMIT_BLOCK && block.store_id != wish->store_id))
            rc = EINVAL; /* not ours to remove */
        else if (found == GWI_COMMIT_BLOCK && block.interval > *out)
            *out = block.interval;
        at += found == GWI_COMMIT_BLOCK ? gwi_commit_block_bytes(block.payload_bytes) : UNIT;
    }
    if (file.map)
        munmap((void *)(uintptr_t)file.map, file.bytes);
    return rc == 0 ? GW_OK : rc == EINVAL ? GW_E_REFUSED : GW_E_IO;
}

void gwi_scan_fini(struct gwi_scan_log *log)
{
    for (uint32_t i = 0; i < log->files_count; i++)
        if (log->files[i].map)
            munmap((void *)(uintptr_t)log->files[i].map, log->files[i].bytes);
    free(log->files);
    free(log->blocks);
}
