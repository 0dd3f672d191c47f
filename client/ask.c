/* ask.c - a question to a coordinator or server, waited for; and the operator's, which is one.
 * A connection carries one question at a time, so whatever frame comes is its answer. */
#include "client/ask.h"

#include <stdlib.h>
#include <string.h>

#include "client/include/godwit.h"
#include "client/net/net.h"
#include "index/base/clock.h"

#define ADMIN_REQUEST_ID 1u
#define ADMIN_TIMEOUT_MS 5000u

struct gwi_asker {
    struct gw_net *net;
    struct gw_conn *conn; /* NULL: none */
    char address[GW_ADDRESS_BYTES_MAX + 1];
    bool waiting;
    enum gw_status status; /* of the question, once it is no longer waiting */
    uint8_t *answer;
    uint32_t answer_bytes;
    size_t answer_room;
};

static void settle(struct gwi_asker *asker, enum gw_status st)
{
    if (asker->waiting) {
        asker->waiting = false;
        asker->status = st;
    }
}

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_asker *asker = ctx;
    if (conn != asker->conn || st == GW_OK)
        return;
    asker->conn = NULL;
    settle(asker, st);
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct gwi_asker *asker = ctx;
    if (conn != asker->conn || !asker->waiting)
        return GW_OK;
    if (bytes > asker->answer_room) {
        uint8_t *room = realloc(asker->answer, bytes);
        if (!room) {
            settle(asker, GW_E_NOMEM);
            return GW_E_NOMEM;
        }
        asker->answer = room;
        asker->answer_room = bytes;
    }
    memcpy(asker->answer, frame, bytes);
    asker->answer_bytes = bytes;
    settle(asker, GW_OK);
    return GW_OK;
}

static void on_garbage(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_asker *asker = ctx;
    if (conn == asker->conn)
        settle(asker, st);
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_asker *asker = ctx;
    (void)st; /* whoever asks needs to know no more than that there will be no answer */
    if (conn != asker->conn)
        return;
    asker->conn = NULL;
    settle(asker, GW_E_UNREACHABLE);
}

static const struct gw_net_events asker_events = {
    .connected = on_connected,
    .frame = on_frame,
    .garbage = on_garbage,
    .closed = on_closed,
};

enum gw_status gwi_asker_create(struct gwi_asker **out)
{
    struct gwi_asker *asker = calloc(1, sizeof *asker);
    if (!asker)
        return GW_E_NOMEM;
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.connections_max = 16; /* one, and what is still closing */
    options.spin_ns_max = 0;
    /* One answer at a time: the 4 MiB of a usual net are mapped and cleared in a millisecond, which
     * is what somebody who asks every 10 ms would take from those that he asks about. */
    options.receive_buffers = 8;
    enum gw_status st = gw_net_uring_create(&options, &asker_events, asker, &asker->net);
    if (st != GW_OK) {
        free(asker);
        return st;
    }
    *out = asker;
    return GW_OK;
}

void gwi_asker_destroy(struct gwi_asker *asker)
{
    if (!asker)
        return;
    gw_net_destroy(asker->net);
    free(asker->answer);
    free(asker);
}

static void hang_up(struct gwi_asker *asker)
{
    if (asker->conn)
        gw_conn_close(asker->conn);
    asker->conn = NULL;
}

static enum gw_status ask(struct gwi_asker *asker, const char *address, const uint8_t *frame,
                          uint32_t bytes, uint32_t timeout_ms)
{
    struct gw_net_options limits;
    gw_net_options_default(&limits);
    if (bytes > limits.frame_bytes_max)
        return GW_E_TOO_LARGE;
    size_t address_bytes = strlen(address);
    if (address_bytes == 0 || address_bytes >= sizeof asker->address)
        return GW_E_INVALID;
    if (asker->conn && strcmp(asker->address, address) != 0)
        hang_up(asker);
    if (!asker->conn) {
        enum gw_status st = gw_net_connect(asker->net, address, NULL, &asker->conn);
        if (st != GW_OK) {
            asker->conn = NULL;
            return st;
        }
        memcpy(asker->address, address, address_bytes + 1);
    }
    uint8_t *room = gw_conn_reserve(asker->conn, bytes);
    if (!room)
        return GW_E_UNREACHABLE; /* it is ending: an empty backlog takes any frame */
    memcpy(room, frame, bytes);
    gw_conn_commit(asker->conn, bytes);

    asker->waiting = true;
    const struct gw_clock *clock = gw_clock_system();
    uint64_t end_ns = gw_clock_now_ns(clock) + (uint64_t)timeout_ms * 1000000u;
    while (asker->waiting) {
        uint64_t now_ns = gw_clock_now_ns(clock);
        if (now_ns >= end_ns)
            settle(asker, GW_E_TIMEOUT);
        else
            gw_net_poll(asker->net, end_ns - now_ns);
    }
    return asker->status;
}

enum gw_status gwi_asker_ask(struct gwi_asker *asker, const char *address, const uint8_t *frame,
                             uint32_t bytes, uint32_t timeout_ms, struct gwi_answer *answer)
{
    enum gw_status st = ask(asker, address, frame, bytes, timeout_ms);
    if (st == GW_OK)
        st = gw_frame_decode(asker->answer, asker->answer_bytes, &answer->head);
    if (st == GW_OK) {
        answer->body = gw_frame_body(asker->answer, &answer->head);
        if (answer->head.kind == GW_KIND_ERROR) {
            char text[GW_ERROR_TEXT_BYTES_MAX + 1];
            st = gw_frame_error_decode(&answer->body, text, sizeof text);
        }
    }
    if (st != GW_OK)
        hang_up(asker);
    return st;
}

static enum gw_status admin_ask(struct gwi_asker *asker, const char *coordinator,
                                const char *request, uint32_t timeout_ms, char **answer)
{
    size_t text_bytes = strlen(request);
    size_t bytes = GW_FRAME_HEADER + text_bytes;
    if (bytes > UINT32_MAX)
        return GW_E_TOO_LARGE;
    uint8_t *frame = malloc(bytes);
    if (!frame)
        return GW_E_NOMEM;
    struct gw_frame head = {.bytes = (uint32_t)bytes,
                            .kind = GW_KIND_ADMIN,
                            .session = ADMIN_REQUEST_ID};
    gw_frame_encode(&head, frame);
    memcpy(frame + GW_FRAME_HEADER, request, text_bytes);

    struct gwi_answer reply;
    enum gw_status st =
        gwi_asker_ask(asker, coordinator, frame, (uint32_t)bytes, timeout_ms, &reply);
    free(frame);
    if (st == GW_OK && reply.head.kind != GW_KIND_ADMIN_REPLY)
        st = GW_E_PROTOCOL;
    if (st != GW_OK)
        return st;
    size_t reply_bytes = gw_reader_left(&reply.body);
    char *text = malloc(reply_bytes + 1);
    if (!text)
        return GW_E_NOMEM;
    memcpy(text, reply.body.at, reply_bytes);
    text[reply_bytes] = '\0';
    *answer = text;
    return GW_OK;
}

enum gw_status gw_admin(const char *coordinator, const char *request, uint32_t timeout_ms,
                        char **answer)
{
    struct gwi_asker *asker;
    enum gw_status st = gwi_asker_create(&asker);
    if (st != GW_OK)
        return st;
    st = admin_ask(asker, coordinator, request, timeout_ms ? timeout_ms : ADMIN_TIMEOUT_MS, answer);
    gwi_asker_destroy(asker);
    return st;
}
