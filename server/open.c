/* open.c - opens the tiers and the store by the flags, and says at the start what the system
 * gave: which pages, which way to the disk, how memory is divided. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "index/base/log_line.h"
#include "index/base/text.h"
#include "index/store_recover.h"
#include "server/server.h"
#include "tiering/tier.h"

static const char *size_text(uint64_t bytes, char *room)
{
    gw_format_size(bytes, room, 32);
    return room;
}

enum gw_status gwi_server_check_room(const struct gwi_server *s, const struct gw_ssd_report *report)
{
    uint64_t free_bytes, least = GW_SSD_SEGMENTS_LEAST * report->file_bytes;
    char a[32], b[32];
    enum gw_status st = gwi_data_free_bytes(&s->options, &free_bytes);
    if (st != GW_OK)
        return st;
    if (free_bytes < least) {
        fprintf(stderr,
                "godwit-server: --data %s: the disk is full: %s free, %u segments need %s; make "
                "room, or give another directory\n",
                s->options.data, size_text(free_bytes, a), GW_SSD_SEGMENTS_LEAST,
                size_text(least, b));
        return GW_E_FULL;
    }
    if (free_bytes < s->options.disk_bytes)
        gw_warn("tier_room",
                "free=%" PRIu64 " disk=%" PRIu64
                " why=\"the file system has less room than --disk\" next=use_what_is_there",
                free_bytes, s->options.disk_bytes);
    return GW_OK;
}

static enum gw_status open_tier(struct gwi_server *s, const struct gw_map *map,
                                const struct gw_ssd_options *ssd, struct gw_ssd_report *report)
{
    const struct gwi_options *o = &s->options;
    struct gw_tier_options tier = {.ssd = *ssd,
                                   .blob_url = o->blob_url,
                                   .cluster = map->cluster,
                                   .blob_limit_bytes = o->blob_limit_bytes,
                                   .cache_bytes = s->memory.blob_cache,
                                   .extent_bytes = s->memory.blob_extent,
                                   .level = (int)o->blob_level};
    snprintf(tier.server_id, sizeof tier.server_id, "%s", o->id);
    enum gw_status st = gw_tier_open(&tier, &s->device, &s->tier, report);
    if (st != GW_OK) {
        s->tier = NULL;
        return st;
    }
    /* Nothing is dropped from the disk before the first segments are full. */
    st = gwi_data_note_blob(o, &s->data);
    if (st != GW_OK) {
        snprintf(report->error, sizeof report->error, "store.json cannot be written");
        gwi_server_close_device(s);
    }
    return st;
}

enum gw_status gwi_server_open_device(struct gwi_server *s, const struct gw_map *map,
                                      struct gw_ssd_report *report_out)
{
    const struct gwi_options *o = &s->options;
    const uint64_t seed = map->hash_seed;
    struct gw_ssd_report report = {0};
    struct gw_ssd_options ssd = {.dir = s->data.log_dir,
                                 .page_bits = s->memory.page_bits,
                                 .segment_bytes = o->segment_bytes,
                                 .limit_bytes = o->disk_bytes,
                                 .keep_earlier = true,
                                 .store_id = s->data.store_id,
                                 .incarnation = s->data.incarnation,
                                 .hash_seed_check = (uint32_t)(seed ^ seed >> 32),
                                 .queues = o->threads + GWI_STORE_THREADS_MORE,
                                 .buffered = o->io == GWI_IO_BUFFERED};
    size_t id_bytes = strlen(o->id);
    memcpy(ssd.server_id, o->id, id_bytes < sizeof ssd.server_id ? id_bytes : sizeof ssd.server_id);
    bool shared = o->blob_url[0] != 0;
    enum gw_status st =
        shared ? open_tier(s, map, &ssd, &report) : gw_ssd_open(&ssd, &s->device, &report);
    if (st != GW_OK) {
        s->device = NULL;
        fprintf(stderr, "godwit-server: --data %s --disk%s%s: %s: %s\n", o->data,
                shared ? " --blob " : "", o->blob_url, gw_status_text(st), report.error);
        return st;
    }
    if (shared)
        gw_info("blob", "url=\"%s\" limit=%" PRIu64 " cache=%" PRIu64 " level=%u", o->blob_url,
                o->blob_limit_bytes, s->memory.blob_cache, o->blob_level);
    gw_info("tier", "dir=%s limit=%" PRIu64 " segment_bytes=%" PRIu64 " io=%s ring=%s%s%s%s",
            s->data.log_dir, o->disk_bytes, report.segment_bytes,
            report.direct ? "direct" : "buffered", report.uring ? "io_uring" : "threads",
            report.why[0] ? " why=\"" : "", report.why, report.why[0] ? "\"" : "");
    if (o->io == GWI_IO_DIRECT && !report.direct) {
        fprintf(stderr,
                "godwit-server: --io direct: refused by the file system of --data %s (%s); use "
                "--io auto, or another directory\n",
                o->data, report.why);
        return GW_E_UNSUPPORTED;
    }
    if (report.unknown_files)
        gw_warn("tier_unknown_files", "count=%u first=\"%s\" next=leave_alone",
                report.unknown_files, report.unknown);
    s->segment_bytes = report.segment_bytes;
    *report_out = report;
    return GW_OK;
}

void gwi_server_close_device(struct gwi_server *s)
{
    if (s->tier)
        gw_tier_close(s->tier);
    else
        gw_ssd_close(s->device);
    s->tier = NULL;
    s->device = NULL;
}

enum gw_status gwi_server_adopt(struct gwi_server *s, gw_addr begin, gw_addr end,
                                const struct gw_addr_range *gaps, uint32_t gaps_count, char *error,
                                size_t error_bytes)
{
    return s->tier ? gw_tier_adopt(s->tier, begin, end, gaps, gaps_count, error, error_bytes)
                   : gw_ssd_adopt(s->device, begin, end, gaps, gaps_count, error, error_bytes);
}

gw_addr gwi_server_resume(const struct gwi_server *s, gw_addr least)
{
    return s->tier ? gw_tier_resume(s->tier, least) : gw_ssd_resume(s->device, least);
}

enum gw_status gwi_server_open_store(struct gwi_server *s, uint64_t hash_seed,
                                     const struct gw_recovery *recovery, char *why,
                                     size_t why_bytes)
{
    const struct gwi_memory *m = &s->memory;
    char text[32];
    struct gw_store_options o = {.log_bytes = m->log,
                                 .index_bytes = m->index_start,
                                 .index_bytes_max = m->index_max,
                                 .page_bits = m->page_bits,
                                 .threads_max = s->options.threads + GWI_STORE_THREADS_MORE,
                                 .hash_seed = hash_seed,
                                 .populate = true,
                                 .device = s->device,
                                 .evict = s->options.evict,
                                 .cold_reads_max = m->cold_reads_max};
    if (s->tier && !recovery) /* what an earlier process told others of stays what it was */
        o.log_start = gwi_server_resume(s, gw_addr_of(0)).v;
    enum gw_status st = recovery ? gw_store_recover(&o, recovery, &s->store, why, why_bytes)
                                 : gw_store_open(&o, &s->store);
    if (st != GW_OK) {
        s->store = NULL;
        if (!recovery)
            fprintf(stderr, "godwit-server: cannot open the store with --memory %s: %s\n",
                    size_text(m->limit, text), gw_status_text(st));
        return st;
    }
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    gw_info("store",
            "log_bytes=%" PRIu64 " log_pages=%s index_bytes=%" PRIu64
            " index_pages=%s page_bytes=%u "
            "evict=%s",
            stats.log_bytes_total, gw_memory_kind_name(stats.log_pages), stats.index_bytes,
            gw_memory_kind_name(stats.index_pages), 1u << m->page_bits,
            s->options.evict ? "yes" : "no");
    gw_info("memory",
            "limit=%" PRIu64 " log=%" PRIu64 " index=%" PRIu64 " index_max=%" PRIu64
            " connections=%" PRIu64 " connections_max=%u dispatchers=%" PRIu64 " parked=%" PRIu64
            " reads=%" PRIu64 " tables=%" PRIu64 " blob=%" PRIu64 " process=%" PRIu64,
            m->limit, m->log, m->index_start, m->index_max, m->connections, m->connections_max,
            m->dispatchers, m->parked, m->reads, m->tables, m->blob, m->process);
    s->value_bytes_max = (uint32_t)(gw_store_record_bytes_max(s->store) - 16 - 8);
    s->frame_bytes_max = m->frame_bytes;
    return GW_OK;
}
