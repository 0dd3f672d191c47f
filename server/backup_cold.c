/* backup_cold.c - see backup_cold.h. */
#define _GNU_SOURCE
#include "server/backup_cold.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/indirection.h"
#include "server/blob.h"
#include "server/checkpoint.h"
#include "server/server.h"
#include "tiering/ssd_format.h"

#define POLL_US         1000u
#define RESOLVE_US      20000u
#define RESOLVE_MAX     30000u /* times RESOLVE_US */
#define CHECKPOINT_EACH 100u   /* while only older checkpoints need other logs */
#define READ_TRIES      3u
#define READ_PAUSE_US   1000000u /* the tier gives up soon while the object store is away */

bool gwi_backup_page_wanted(const struct gwi_state *s, uint64_t at)
{
    const uint64_t page = UINT64_C(1) << s->page_bits;
    if (at + page <= s->image.begin.v || at >= s->image.end.v)
        return false;
    for (uint32_t i = 0; i < s->image.gaps_count; i++)
        if (at >= s->image.gaps[i].from.v && at < s->image.gaps[i].to.v)
            return false;
    return true;
}

static void read_done(void *arg, enum gw_status st)
{
    *(int *)arg = (int)st;
}

/* One page, whole. The queue below the one that checkpoints sync on is nobody's. */
static enum gw_status read_page(const struct gwi_backup_cold *c, uint64_t at, uint8_t *room)
{
    struct gw_device *device = c->server->device;
    const uint32_t queue = c->server->options.threads + GWI_STORE_THREADS_MORE - 2;
    const uint32_t bytes = 1u << c->state->page_bits;
    enum gw_status st = GW_E_UNREACHABLE;
    for (uint32_t tries = 0; st == GW_E_UNREACHABLE && tries < READ_TRIES; tries++) {
        if (tries > 0)
            usleep(READ_PAUSE_US);
        int result = GW_PENDING;
        while ((st = device->read(device, queue, gw_addr_of(at), room, bytes, read_done,
                                  &result)) == GW_WOULD_BLOCK) {
            (void)device->poll(device, queue);
            usleep(POLL_US);
        }
        if (st != GW_PENDING)
            continue;
        while (result ==
               GW_PENDING) /* the tier has a deadline; what is read into stays till then */
            if (device->poll(device, queue) == 0)
                usleep(POLL_US);
        st = (enum gw_status)result;
        if (atomic_load_explicit(c->stop, memory_order_relaxed))
            return GW_E_CANCELLED;
    }
    return st;
}

static bool write_at(int fd, const void *from, size_t n, uint64_t offset)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = pwrite(fd, (const uint8_t *)from + at, n - at, (off_t)(offset + at));
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return false;
        at += (size_t)w;
    }
    return true;
}

static bool unreadable(const struct gwi_backup_cold *c, uint64_t at, enum gw_status st, char *why,
                       size_t why_bytes)
{
    char trouble[GW_BLOB_TEXT_BYTES + 32];
    bool known = st == GW_E_UNREACHABLE && gwi_blob_trouble(c->server, trouble, sizeof trouble);
    snprintf(why, why_bytes, "the page at %#" PRIx64 ", of the shared tier, cannot be read: %s", at,
             known ? trouble : gw_status_text(st));
    return false;
}

static bool write_pages(const struct gwi_backup_cold *c, const struct gw_ssd_geometry *g,
                        uint8_t *page, uint8_t *table, uint32_t *checks, char *why,
                        size_t why_bytes)
{
    const struct gwi_state *s = c->state;
    for (uint32_t i = 0; i < g->segment_pages; i++) {
        uint64_t at = c->first + (uint64_t)i * g->page_bytes;
        if (!gwi_backup_page_wanted(s, at))
            continue;
        enum gw_status st = read_page(c, at, page);
        if (st != GW_OK)
            return unreadable(c, at, st, why, why_bytes);
        memset(table, 0, g->table_bytes);
        gw_ssd_table_write(g, s->store_id, s->incarnation, at, page, table, checks);
        if (!write_at(c->fd, table, g->table_bytes, gw_ssd_table_offset(g, i)) ||
            !write_at(c->fd, page, g->page_bytes, gw_ssd_page_offset(g, i))) {
            snprintf(why, why_bytes, "cannot be written: %s", strerror(errno));
            return false;
        }
        atomic_fetch_add_explicit(c->done, g->page_bytes, memory_order_relaxed);
    }
    return true;
}

static bool write_header(const struct gwi_backup_cold *c, const struct gw_ssd_geometry *g)
{
    const struct gwi_state *s = c->state;
    uint8_t block[GW_SSD_HEADER_BYTES] = {0};
    struct gw_ssd_header header = {.format = GW_SSD_FORMAT,
                                   .page_bits = (uint8_t)s->page_bits,
                                   .block_bits = GW_SSD_BLOCK_BITS,
                                   .store_id = s->store_id,
                                   .first_address = c->first,
                                   .segment_bytes = g->segment_bytes,
                                   .incarnation = s->incarnation,
                                   .hash_seed_check = s->hash_seed_check};
    size_t id = strlen(s->server_id);
    memcpy(header.server_id, s->server_id,
           id < sizeof header.server_id ? id : sizeof header.server_id);
    gw_ssd_header_write(&header, block);
    return ftruncate(c->fd, (off_t)g->file_bytes) == 0 && write_at(c->fd, block, sizeof block, 0);
}

/* What the manifest says is what the disk gives back. */
static bool sum(int fd, uint64_t bytes, uint8_t *room, size_t room_bytes, uint32_t *crc)
{
    *crc = 0;
    for (uint64_t at = 0; at < bytes;) {
        ssize_t n = pread(fd, room, room_bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        *crc = gw_crc32c(*crc, room, (size_t)n);
        at += (uint64_t)n;
    }
    return true;
}

bool gwi_backup_rebuild(const struct gwi_backup_cold *c, uint64_t *bytes, uint32_t *crc, char *why,
                        size_t why_bytes)
{
    const struct gwi_state *s = c->state;
    struct gw_ssd_geometry g =
        gw_ssd_geometry_of(s->page_bits, (uint32_t)(s->segment_bytes >> s->page_bits));
    uint8_t *page = aligned_alloc(GW_DEVICE_BLOCK, g.page_bytes);
    uint8_t *table = calloc(1, g.table_bytes);
    uint32_t *checks = calloc(g.page_blocks, sizeof *checks);
    bool good = page && table && checks;
    if (!good)
        snprintf(why, why_bytes, "out of memory");
    if (good && !write_header(c, &g)) {
        snprintf(why, why_bytes, "cannot be written: %s", strerror(errno));
        good = false;
    }
    good = good && write_pages(c, &g, page, table, checks, why, why_bytes);
    if (good && (fsync(c->fd) != 0 || !sum(c->fd, g.file_bytes, page, g.page_bytes, crc))) {
        snprintf(why, why_bytes, "cannot be synced or read back: %s", strerror(errno));
        good = false;
    }
    *bytes = g.file_bytes;
    free(page);
    free(table);
    free(checks);
    return good;
}

bool gwi_backup_resolve(struct gwi_server *server, const atomic_bool *stop, char *why,
                        size_t why_bytes)
{
    struct gw_indirection_stats stats = {0};
    char trouble[GW_BLOB_TEXT_BYTES + 32] = "";
    if (!server->tier)
        return true;
    uint32_t logs = 0;
    for (uint32_t i = 0; i < RESOLVE_MAX && !atomic_load(stop); i++) {
        logs = gw_store_foreign(server->store, NULL, 0);
        if (logs == 0)
            break;
        gw_store_indirection_stats(server->store, &stats);
        if (stats.live == 0 && i % CHECKPOINT_EACH == 0)
            (void)gwi_checkpoint_ask(server);
        usleep(RESOLVE_US);
    }
    if (logs == 0)
        return true;
    (void)gwi_blob_trouble(server, trouble, sizeof trouble);
    snprintf(why, why_bytes,
             "%" PRIu64 " references into the logs of %u other servers are not resolved yet%s%s; "
             "try again later",
             stats.live, logs, trouble[0] ? ": " : "", trouble);
    return false;
}
