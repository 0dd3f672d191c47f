/* scan.c - every live key of the cluster: server by server, the slots that it owns by our map. A
 * slot is done when its server has said "done" for a request that held it; a server that has
 * another view has its slots given to whoever owns them by the newer map, from the start. So no key
 * that lives throughout is missed, and only keys of slots that moved can come twice. */
#include "client/wire/scan.h"
#include "client/ask.h"
#include "client/cluster.h"

#include <stdlib.h>
#include <time.h>

#include "index/base/clock.h"

#define SCAN_BYTES        (1u << 20) /* of one answer, about */
#define PENDING_PAUSE_MS  5u
#define MAP_PAUSE_MS      20u
#define STANDSTILL_NS     UINT64_C(30000000000) /* nothing new for so long: GW_E_TIMEOUT */
#define REQUEST_BYTES_MAX (GW_FRAME_HEADER + 64 + GW_SLOTS_WIRE_MAX)

struct scan {
    struct gw_cluster *cluster;
    gw_scan_callback fn;
    void *ctx;
    struct gwi_asker *asker;
    struct gw_map *map;      /* ours */
    struct gw_slots missing; /* not yet scanned to their end */
    uint64_t request, progress_ns;
    uint8_t *frame; /* REQUEST_BYTES_MAX */
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static void pause_ms(uint32_t ms)
{
    struct timespec t = {.tv_nsec = (long)ms * 1000000};
    nanosleep(&t, NULL);
}

static void copy_map(void *ctx, const struct gw_map *map)
{
    *(struct gw_map **)ctx = gw_map_copy(map);
}

static enum gw_status take_map(struct scan *scan)
{
    struct gw_map *map = NULL;
    gwi_cluster_read(scan->cluster, copy_map, &map);
    if (!map)
        return GW_E_NOMEM; /* an open cluster has a map */
    if (scan->map && map->version > scan->map->version)
        scan->progress_ns = now_ns();
    gw_map_destroy(scan->map);
    scan->map = map;
    return GW_OK;
}

/* A newer map, if the one at `address` has one. Whether it had is seen in the next take_map. */
static void ask_map(struct scan *scan, const char *address)
{
    uint8_t request[GW_FRAME_HEADER];
    struct gwi_answer answer;
    size_t bytes = gw_frame_empty(request, sizeof request, GW_KIND_MAP_GET, ++scan->request);
    enum gw_status st = gwi_asker_ask(scan->asker, address, request, (uint32_t)bytes,
                                      gwi_cluster_timeout_ms(scan->cluster), &answer);
    if (st == GW_OK && answer.head.kind == GW_KIND_MAP)
        st = gwi_cluster_offer_wire(scan->cluster, &answer.body);
    if (st != GW_OK)
        pause_ms(MAP_PAUSE_MS); /* the old map stays, and the next round shows whether it does */
}

/* Gives the keys of one answer to the caller. GW_END: the caller has had enough. */
static enum gw_status give(struct scan *scan, struct gwi_answer *answer)
{
    if (!gw_frame_count_plausible(&answer->head, GW_SCAN_RECORD_BYTES_LEAST))
        return GW_E_PROTOCOL;
    for (uint32_t i = 0; i < answer->head.count; i++) {
        struct gw_scan_record record;
        if (!gw_scan_record_decode(&answer->body, &record))
            return GW_E_PROTOCOL;
        bool counter = record.kind == GW_SCAN_COUNTER;
        struct gw_scan_item item = {
            .key = record.key,
            .key_bytes = record.key_bytes,
            .kind = counter ? GW_VALUE_COUNTER : GW_VALUE_BYTES,
            .number = record.number,
            .value = counter ? NULL : record.value,
            .value_bytes = counter ? 0 : record.value_bytes,
            .version = record.version,
            .expiry_ms = record.expiry_ms,
        };
        if (!scan->fn(scan->ctx, &item))
            return GW_END;
    }
    return gw_reader_left(&answer->body) == 0 ? GW_OK : GW_E_PROTOCOL;
}

static enum gw_status ask_scan(struct scan *scan, const struct gw_map_server *server,
                               const struct gw_scan *m, struct gwi_answer *answer,
                               struct gw_scan_reply *reply)
{
    struct gw_writer w =
        gw_writer_of(scan->frame + GW_FRAME_HEADER, REQUEST_BYTES_MAX - GW_FRAME_HEADER);
    gw_scan_encode(m, &w);
    if (w.bad)
        return GW_E_INTERNAL;
    struct gw_frame head = {
        .bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(&w)),
        .kind = GW_KIND_SCAN,
        .session = ++scan->request,
        .view = server->view,
    };
    gw_frame_encode(&head, scan->frame);
    enum gw_status st = gwi_asker_ask(scan->asker, server->address, scan->frame, head.bytes,
                                      gwi_cluster_timeout_ms(scan->cluster), answer);
    if (st != GW_OK)
        return st;
    if (answer->head.kind != GW_KIND_SCAN_REPLY || answer->head.session != head.session)
        return GW_E_PROTOCOL;
    return gw_scan_reply_decode(&answer->body, reply);
}

/* Scans `slots` of one server to their end. GW_OK: done; GW_WRONG_VIEW: it has another view, some
 * keys may have been given; GW_END: the caller has had enough. */
static enum gw_status scan_server(struct scan *scan, const struct gw_map_server *server,
                                  const struct gw_slots *slots)
{
    struct gw_scan m = {.bytes_max = SCAN_BYTES, .slots = *slots};
    for (;;) {
        struct gwi_answer answer;
        struct gw_scan_reply reply;
        enum gw_status st = ask_scan(scan, server, &m, &answer, &reply);
        if (st != GW_OK)
            return st;
        switch (reply.status) {
        case GW_OK:
        case GW_END:
            st = give(scan, &answer);
            if (st != GW_OK || reply.status == GW_END)
                return st;
            m.cursor = reply.cursor;
            scan->progress_ns = now_ns();
            break;
        case GW_PENDING:
            if (now_ns() - scan->progress_ns > STANDSTILL_NS)
                return GW_E_TIMEOUT;
            pause_ms(PENDING_PAUSE_MS);
            break;
        case GW_WRONG_VIEW:
        case GW_NOT_YET:
        case GW_MOVED:
            return GW_WRONG_VIEW;
        default:
            return gw_failed((enum gw_status)reply.status) ? (enum gw_status)reply.status
                                                           : GW_E_PROTOCOL;
        }
    }
}

/* One round over all servers with the present map. *failure: the last server that did not answer.
 */
static enum gw_status scan_round(struct scan *scan, enum gw_status *failure)
{
    for (uint32_t i = 0; i < scan->map->servers; i++) {
        struct gw_slots slots;
        gw_map_slots_of(scan->map, i, &slots);
        bool any = false;
        for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
            any |= (slots.word[w] &= scan->missing.word[w]) != 0;
        if (!any)
            continue;
        const struct gw_map_server *server = &scan->map->server[i];
        enum gw_status st = scan_server(scan, server, &slots);
        if (st == GW_OK) {
            for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
                scan->missing.word[w] &= ~slots.word[w];
            scan->progress_ns = now_ns();
        } else if (st == GW_WRONG_VIEW) {
            ask_map(scan, server->address); /* it knows best, and the coordinator may be down */
        } else if (st == GW_E_UNREACHABLE || st == GW_E_TIMEOUT || st == GW_E_IO) {
            *failure = st; /* its slots may be elsewhere by now */
        } else {
            return st;
        }
    }
    return GW_OK;
}

static enum gw_status scan_all(struct scan *scan)
{
    gw_slots_add_range(&scan->missing, 0, GW_SLOTS - 1);
    scan->progress_ns = now_ns();
    for (;;) {
        enum gw_status st = take_map(scan);
        if (st != GW_OK)
            return st;
        enum gw_status failure = GW_E_TIMEOUT;
        uint64_t before_ns = scan->progress_ns;
        st = scan_round(scan, &failure);
        if (st != GW_OK)
            return st;
        if (gw_slots_count(&scan->missing) == 0)
            return GW_OK;
        if (now_ns() - scan->progress_ns > STANDSTILL_NS)
            return failure;
        if (scan->progress_ns == before_ns) {
            ask_map(scan, gwi_cluster_coordinator(scan->cluster));
            pause_ms(MAP_PAUSE_MS);
        }
    }
}

enum gw_status gw_scan_all(struct gw_cluster *cluster, gw_scan_callback fn, void *ctx)
{
    struct scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        return GW_E_NOMEM;
    scan->cluster = cluster;
    scan->fn = fn;
    scan->ctx = ctx;
    scan->frame = malloc(REQUEST_BYTES_MAX);
    enum gw_status st = GW_E_NOMEM;
    if (!scan->frame)
        goto done;
    st = gwi_asker_create(&scan->asker);
    if (st == GW_OK)
        st = scan_all(scan);
done:
    gwi_asker_destroy(scan->asker);
    gw_map_destroy(scan->map);
    free(scan->frame);
    free(scan);
    return st;
}
