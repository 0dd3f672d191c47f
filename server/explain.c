/* explain.c - adding up the memory of the process; see explain.h.
 *
 * What the kernel says (resident pages) is the measure. Of what was taken at the start and is
 * touched little by little only resident pages count (mincore); what is allocated piece by piece is
 * counted by its owner. The rest is malloc's: its books, what it keeps, and what nobody counts. */
#define _GNU_SOURCE
#include "server/explain.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "index/device.h"
#include "index/indirection.h"
#include "server/backup.h"
#include "server/blob.h"
#include "server/checkpoint.h"
#include "server/server.h"

#define REQUEST_BYTES_MAX 4096u
#define PAGES_A_LOOK      512u

static uint64_t load(const _Atomic uint64_t *number) /* for people */
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void store(_Atomic uint64_t *number, uint64_t value) /* single writer */
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}

void gwi_explain_publish(struct gwi_dispatcher *d)
{
    struct gw_net_stats net;
    gw_net_stats(d->net, &net);
    store(&d->memory_in, net.transit_in + net.transit_spare);
    store(&d->memory_out, net.transit_out);
    store(&d->memory_net, net.fixed_bytes);
    store(&d->memory_sessions, gwi_sessions_bytes(&d->sessions));
    store(&d->memory_parked, d->park.bytes + d->park.buckets * sizeof *d->park.bucket);
    store(&d->parked_operations, d->park.ops);
}

/* Resident bytes of the whole pages of a block. */
static uint64_t resident(const void *base, size_t bytes)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t at = ((uintptr_t)base + page - 1) / page * page, count = 0;
    uint64_t end = ((uintptr_t)base + bytes) / page * page;
    unsigned char seen[PAGES_A_LOOK];
    while (at < end) {
        uint64_t pages = (end - at) / page;
        pages = pages < PAGES_A_LOOK ? pages : PAGES_A_LOOK;
        if (mincore((void *)(uintptr_t)at, pages * page, seen) != 0) /* NOLINT: the kernel's view */
            return count;
        for (uint64_t i = 0; i < pages; i++)
            count += seen[i] & 1 ? page : 0;
        at += pages * page;
    }
    return count;
}

/* A line "NAME:   N kB" of /proc/self/status. */
static uint64_t status_bytes(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

struct parts {
    json_t *array;
    uint64_t sum;
};

static void part(struct parts *p, const char *name, uint64_t bytes, uint64_t bound,
                 const char *what)
{
    p->sum += bytes;
    json_array_append_new(p->array,
                          json_pack("{s:s, s:I, s:I, s:s}", "name", name, "bytes",
                                    (json_int_t)bytes, "bound", (json_int_t)bound, "what", what));
}

/* Of the frames that the log holds, those from its head to the page behind its tail have memory
 * under them; the others get it when the tail comes there. */
static uint64_t log_bytes(const struct gw_store_stats *stats, uint32_t page_bits)
{
    uint64_t pages = (stats->log_tail >> page_bits) - (stats->log_head >> page_bits) + 2;
    return pages << page_bits < stats->memory_log ? pages << page_bits : stats->memory_log;
}

static json_t *explain_memory(const struct gwi_server *s)
{
    const struct gwi_memory *m = &s->memory;
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    uint64_t in = 0, out = 0, net = 0, sessions = 0, parked = 0, rooms = 0;
    for (uint32_t i = 0; i < s->dispatchers; i++) {
        const struct gwi_dispatcher *d = s->dispatcher[i];
        in += load(&d->memory_in);
        out += load(&d->memory_out);
        net += load(&d->memory_net);
        sessions += load(&d->memory_sessions);
        parked += load(&d->memory_parked);
        rooms += sizeof *d + resident(d->room, d->room_bytes) + resident(d->reply, d->reply_room);
    }
    struct parts p = {.array = json_array()};
    part(&p, "log", log_bytes(&stats, m->page_bits), m->log,
         "records in memory: frames of the log");
    part(&p, "index", stats.memory_index, m->index_max, "buckets and overflow lines");
    part(&p, "reads", stats.memory_cold, m->reads, "records read from the device, and their rooms");
    part(&p, "chains", stats.memory_chains, m->chains, "which chains hold more than one key");
    part(&p, "threads", stats.memory_threads, m->threads,
         "what the store holds for each dispatcher");
    part(&p, "tier", stats.memory_device, m->tables + m->blob,
         m->blob ? "checksums and rings of the SSD tier, cache and uploads of the shared one"
                 : "checksums and rings of the SSD tier");
    part(&p, "network", net, 0, "receive buffers, rings, connections");
    part(&p, "rooms", rooms, m->dispatchers, "replies and values in the making (with network)");
    part(&p, "received", in, m->connections / 4, "partial frames, and frames that wait");
    part(&p, "unsent", out, m->connections / 4, "answers that clients have not read");
    part(&p, "sessions", sessions, m->connections / 4, "sessions and their applied serials");
    if (m->checkpoints)
        part(&p, "checkpoints", 0, m->checkpoints, "sessions on their way to a file (with rest)");
    if (m->commit)
        part(&p, "commit", 0, m->commit, "what gathers for commit logs (with rest)");
    part(&p, "parked", parked, m->parked, "operations that wait for a record, a lock or a move");

    char text[4096];
    FILE *file = fopen("/proc/self/status", "re");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = 0;
    uint64_t rss = status_bytes(text, "VmRSS:");
    uint64_t mapped = status_bytes(text, "RssFile:") + status_bytes(text, "RssShmem:");
    part(&p, "program", mapped, 0, "the program and its libraries");
    uint64_t rest = rss > p.sum ? rss - p.sum : 0;
    part(&p, "rest", rest, m->process, "malloc's own, stacks, what nobody counts (with program)");
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "server", s->options.id, "limit",
                     (json_int_t)m->limit, "resident", (json_int_t)rss, "sum", (json_int_t)p.sum,
                     "connections",
                     (json_int_t)atomic_load_explicit(&s->connections, memory_order_relaxed),
                     "connections_max", (json_int_t)m->connections_max, "parts", p.array);
}

static void number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *explain_recovery(const struct gwi_recover_report *r)
{
    json_t *o = json_object();
    number(o, "checkpoint", r->number);
    number(o, "ms", r->duration_ns / 1000000);
    number(o, "image_bytes", r->image_bytes);
    number(o, "keys", r->keys);
    number(o, "sessions", r->sessions);
    number(o, "dropped_slots", r->dropped_slots);
    number(o, "logs", r->logs);
    number(o, "log_bytes", r->bytes);
    number(o, "entries", r->entries);
    number(o, "applied", r->applied);
    number(o, "dropped", r->dropped);
    number(o, "torn_bytes", r->torn);
    return o;
}

static json_t *explain_durability(const struct gwi_server *s)
{
    static const char *const modes[] = {"none", "memory", "commit"};
    struct gwi_checkpoint_figures f;
    gwi_checkpoint_figures(s, &f);
    uint64_t now_ms = gw_clock_wall_ms(gw_clock_system());
    json_t *o = json_pack("{s:s, s:s, s:b, s:s}", "mode", modes[s->durable.mode], "doing", f.doing,
                          "failed", atomic_load(&s->durable.failed) != GW_OK, "failure", f.failure);
    number(o, "checkpoint", f.number);
    json_object_set_new(o, "index", json_boolean(f.index));
    /* -1: none by this process */
    json_object_set_new(o, "age_ms",
                        json_integer(f.finished_ms == 0       ? -1
                                     : now_ms > f.finished_ms ? (json_int_t)(now_ms - f.finished_ms)
                                                              : 0));
    number(o, "duration_us", f.duration_ns / 1000);
    number(o, "flushed_bytes", f.flushed_bytes);
    number(o, "state_bytes", f.state_bytes);
    number(o, "index_bytes", f.index_bytes);
    number(o, "sessions", f.sessions);
    number(o, "taken", f.taken);
    number(o, "given_up", f.given_up);
    number(o, "position", s->durable.mode ? gwi_durable_position(s) : 0);
    number(o, "interval", atomic_load(&s->durable.interval));
    number(o, "sessions_forgotten", (uint32_t)atomic_load(&s->durable.forgotten));
    number(o, "commit_log_bytes",
           s->durable.mode == GWI_DURABILITY_COMMIT ? gwi_commit_log_bytes(s) : 0);
    if (s->report.recovered)
        json_object_set_new(o, "recovered", explain_recovery(&s->report));
    return o;
}

static json_t *explain_stats(const struct gwi_server *s)
{
    struct gw_store_stats x;
    gw_store_stats(s->store, &x);
    json_t *o = json_pack("{s:s, s:b, s:b}", "server", s->options.id, "evict", s->options.evict,
                          "full", x.full);
    uint64_t parked = 0, operations = 0;
    for (uint32_t i = 0; i < s->dispatchers; i++) {
        parked += load(&s->dispatcher[i]->parked_operations);
        operations += load(&s->dispatcher[i]->operations);
    }
    number(o, "operations", operations);
    number(o, "parked", parked);
#define NUMBER(field) number(o, #field, x.field)
    NUMBER(keys);
    NUMBER(log_bytes_used);
    NUMBER(log_bytes_total);
    NUMBER(log_begin);
    NUMBER(log_head);
    NUMBER(log_flushed);
    NUMBER(log_read_only);
    NUMBER(log_tail);
    NUMBER(live_bytes);
    NUMBER(index_bytes);
    NUMBER(index_buckets);
    NUMBER(index_overflow_used);
    NUMBER(index_overflow_total);
    NUMBER(index_splits);
    NUMBER(refused_full);
    NUMBER(retries);
    NUMBER(copies);
    NUMBER(walk_longest);
    NUMBER(cold);
    NUMBER(promoted);
    NUMBER(evicted);
    NUMBER(expired);
    NUMBER(corrupt);
    NUMBER(compacted_bytes);
    NUMBER(compacted_live_bytes);
    NUMBER(compact_reads);
#undef NUMBER
    json_object_set_new(o, "durability", explain_durability(s));
    if (s->device) {
        struct gw_device_usage u;
        s->device->usage(s->device, &u);
        json_t *tier = json_object();
        number(tier, "used_bytes", u.used_bytes);
        number(tier, "limit_bytes", u.limit_bytes);
        number(tier, "segment_bytes", u.segment_bytes);
        number(tier, "memory_bytes", u.memory_bytes);
        number(tier, "reads", u.reads);
        number(tier, "read_bytes", u.read_bytes);
        number(tier, "writes", u.writes);
        number(tier, "write_bytes", u.write_bytes);
        number(tier, "corrupt_blocks", u.corrupt_blocks);
        number(tier, "failed_reads", u.failed_reads);
        number(tier, "failed_writes", u.failed_writes);
        json_object_set_new(o, "tier", tier);
    }
    struct gw_indirection_stats in;
    gw_store_indirection_stats(s->store, &in);
    json_t *indirections = json_object();
    number(indirections, "linked", in.linked);
    number(indirections, "followed", in.followed);
    number(indirections, "found", in.found);
    number(indirections, "absent", in.absent);
    number(indirections, "resolved", in.resolved);
    number(indirections, "retired", in.retired);
    number(indirections, "live", in.live);
    json_object_set_new(o, "indirections", indirections);
    json_t *blob = gwi_blob_explain(s);
    if (blob)
        json_object_set_new(o, "blob", blob);
    return o;
}

static json_t *refusal(const char *message)
{
    return json_pack("{s:{s:s, s:s}}", "error", "status", "e_invalid", "message", message);
}

static json_t *answer(struct gwi_server *s, const char *text, size_t bytes)
{
    json_t *request = json_loadb(text, bytes, 0, NULL);
    const char *op = json_string_value(json_object_get(request, "op"));
    json_t *a;
    if (!op)
        a = refusal("a request is a JSON object with an \"op\"");
    else if (strcmp(op, "memory") == 0)
        a = explain_memory(s);
    else if (strcmp(op, "stats") == 0)
        a = explain_stats(s);
    else if (!(a = gwi_backup_answer(s, request, op)) && !(a = gwi_blob_answer(s, request, op)))
        a = refusal("a server knows \"memory\", \"stats\", \"checkpoint\", \"backup\", "
                    "\"backup_status\", \"collect\" and \"collect_status\"; the rest is the "
                    "coordinator's");
    json_decref(request);
    return a;
}

enum gw_status gwi_explain_frame(struct gwi_link *link, const struct gw_frame *f,
                                 const uint8_t *body)
{
    size_t bytes = f->bytes - GW_FRAME_HEADER;
    json_t *a = bytes <= REQUEST_BYTES_MAX
                    ? answer(link->dispatcher->server, (const char *)body, bytes)
                    : refusal("a request has at most 4,096 bytes");
    char *text = a ? json_dumps(a, JSON_COMPACT) : NULL;
    json_decref(a);
    if (!text)
        return GW_E_NOMEM;
    size_t n = strlen(text);
    uint8_t *room = gw_conn_reserve(link->conn, GW_FRAME_HEADER + n);
    if (room) {
        struct gw_frame head = {.bytes = (uint32_t)(GW_FRAME_HEADER + n),
                                .kind = GW_KIND_ADMIN_REPLY,
                                .session = f->session};
        gw_frame_encode(&head, room);
        memcpy(room + GW_FRAME_HEADER, text, n);
        gw_conn_commit(link->conn, head.bytes);
    }
    free(text);
    return room ? GW_OK : GW_E_LIMIT;
}
