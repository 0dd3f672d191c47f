/* owner.c - see owner.h.
 *
 * Each batch carries the view that the server itself has told, with its map; so an answer says: at
 * some moment between asking and being told, this server executed for the slot as its owner of the
 * tenure that began at map version `since`. That is wrong, whatever the network did,
 *  1. if by that very map the slot is not the server's;
 *  2. if another answer, of a later tenure, had arrived before this one was asked for: the slot had
 *     been handed over already. */
#define _GNU_SOURCE
#include "tests/godwit_torture/owner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/wire/map.h"
#include "client/wire/ops.h"
#include "index/base/rand.h"

#define SLOTS       48u
#define WAIT_NS     UINT64_C(1500000000)
#define FRAME_BYTES (1u << 20)
#define TENURES     16u

struct asked {
    int fd; /* -1: not connected */
    uint64_t session, sequence, serial, view, sent_ns, again_ns;
    struct gw_map *map;
    int self; /* its place in the map */
    bool resume, waiting;
    uint32_t answers; /* of the batch under way */
    uint8_t *room;    /* what has come of a frame */
    size_t have;
};

struct tenure {
    uint64_t since, first_told_ns;
    uint32_t server;
};

struct watch {
    struct torture_owner *owner;
    struct gw_rand rand;
    char key[SLOTS][24];
    uint16_t slot[SLOTS];
    struct tenure tenure[SLOTS][TENURES]; /* the newest ones, rising */
    uint32_t tenures[SLOTS];
    struct asked server[TORTURE_SERVERS_MAX];
};

static void hang_up(struct watch *w, struct asked *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->have = 0;
    s->waiting = false;
    gw_map_destroy(s->map);
    s->map = NULL;
    s->again_ns = torture_now_ns(w->owner->run) + 50000000;
}

static bool send_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool say_hello(struct watch *w, struct asked *s, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {.tv_usec = 200000};
    uint8_t frame[512];
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return false;
    setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0)
        return false;
    s->session = gw_rand_next(&w->rand) | 1;
    s->sequence = 0;
    s->serial = 1;
    s->view = 0; /* surely refused, with the map */
    s->resume = false;
    struct gw_hello hello = {.window = 4096, .role = GW_ROLE_CLIENT};
    struct gw_writer body = gw_writer_of(frame + GW_FRAME_HEADER, sizeof frame - GW_FRAME_HEADER);
    gw_hello_encode(&hello, &body);
    struct gw_frame head = {.bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(&body)),
                            .kind = GW_KIND_HELLO,
                            .session = s->session};
    gw_frame_encode(&head, frame);
    return send_all(s->fd, frame, head.bytes);
}

static bool ask(struct watch *w, struct asked *s)
{
    uint8_t frame[GW_FRAME_HEADER + SLOTS * 64];
    struct gw_writer body = gw_writer_of(frame + GW_FRAME_HEADER, sizeof frame - GW_FRAME_HEADER);
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct gw_wire_op op = {.key = (const uint8_t *)w->key[i],
                                .key_bytes = (uint16_t)strlen(w->key[i]),
                                .serial_delta = i,
                                .verb = GW_WIRE_READ};
        gw_wire_op_encode(&op, &body);
    }
    struct gw_frame head = {.bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(&body)),
                            .kind = GW_KIND_BATCH,
                            .flags = s->resume ? GW_BATCH_RESUME : 0,
                            .count = SLOTS,
                            .session = s->session,
                            .sequence = ++s->sequence,
                            .view = s->view,
                            .serial = s->serial,
                            .confirmed = s->serial};
    s->serial += SLOTS;
    s->resume = false;
    s->waiting = true;
    s->answers = 0;
    s->sent_ns = torture_now_ns(w->owner->run);
    gw_frame_encode(&head, frame);
    return send_all(s->fd, frame, head.bytes);
}

static void executed(struct watch *w, uint32_t server, uint32_t i)
{
    struct torture_run *run = w->owner->run;
    struct asked *s = &w->server[server];
    uint64_t now = torture_now_ns(run);
    uint16_t slot = w->slot[i];
    if (!s->map)
        return;
    if (s->map->owner[slot] != s->self) {
        torture_violation(run, TORTURE_NO_KEY, now,
                          "server %c executed for slot %u in view %" PRIu64
                          ", in which the slot is not its own",
                          'A' + (char)server, slot, s->view);
        return;
    }
    uint64_t since = s->map->since[slot];
    struct tenure *t = w->tenure[i];
    uint32_t n = w->tenures[i];
    for (uint32_t k = 0; k < n; k++)
        if (t[k].since > since && t[k].first_told_ns < s->sent_ns)
            torture_violation(run, TORTURE_NO_KEY, now,
                              "two owners of slot %u: server %c, its owner since map %" PRIu64
                              ", had answered at %.6f s; server %c, its owner since map %" PRIu64
                              ", asked at %.6f s, still executed",
                              slot, 'A' + (char)t[k].server, t[k].since,
                              (double)t[k].first_told_ns / 1e9, 'A' + (char)server, since,
                              (double)s->sent_ns / 1e9);
    for (uint32_t k = 0; k < n; k++)
        if (t[k].since == since)
            return;
    if (n > 0 && t[n - 1].since > since)
        return; /* late news of an old tenure */
    if (n == TENURES) {
        memmove(t, t + 1, (TENURES - 1) * sizeof *t);
        n--;
    }
    t[n] = (struct tenure){since, now, server};
    w->tenures[i] = n + 1;
}

static bool refused(struct asked *s, const uint8_t *bytes, const struct gw_frame *head,
                    const char *id)
{
    struct gw_reader r = gw_frame_body(bytes, head);
    struct gw_map *map;
    (void)gw_read_bytes(&r, 8);
    if (gw_map_decode(&r, &map) != GW_OK)
        return false;
    gw_map_destroy(s->map);
    s->map = map;
    s->self = gw_map_find(map, id);
    s->view = head->view;
    s->resume = true;
    s->waiting = false;
    /* Between two views of its own the server may have told an older map: ask again then. */
    if (s->self < 0 || map->server[s->self].view != s->view) {
        gw_map_destroy(s->map);
        s->map = NULL;
        s->view = 0;
    }
    return true;
}

/* False: the connection is of no more use. */
static bool take_frame(struct watch *w, uint32_t server, const uint8_t *bytes, uint32_t n)
{
    struct asked *s = &w->server[server];
    char id[24];
    torture_server_name(w->owner->run, server + 1, id, sizeof id);
    struct gw_frame head;
    if (gw_frame_decode(bytes, n, &head) != GW_OK)
        return false;
    if (head.kind == GW_KIND_WELCOME)
        return ask(w, s);
    if (head.kind == GW_KIND_REFUSAL)
        return refused(s, bytes, &head, id);
    if (head.kind == GW_KIND_ERROR)
        return false;
    if (head.kind != GW_KIND_REPLY || head.sequence != s->sequence)
        return true; /* what had waited, positions */
    struct gw_reader r = gw_frame_body(bytes, &head);
    for (uint32_t i = 0; i < head.count && s->answers < SLOTS; i++) {
        struct gw_wire_reply reply;
        if (!gw_wire_reply_decode(&r, &reply))
            return false;
        if (reply.status == GW_OK || reply.status == GW_NOT_FOUND) {
            executed(w, server, s->answers);
            atomic_fetch_add_explicit(&w->owner->run->probes, 1, memory_order_relaxed);
        }
        s->answers++;
    }
    if (s->answers == SLOTS)
        s->waiting = false;
    return true;
}

static bool receive(struct watch *w, uint32_t server)
{
    struct asked *s = &w->server[server];
    ssize_t n = recv(s->fd, s->room + s->have, FRAME_BYTES - s->have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    s->have += n > 0 ? (size_t)n : 0;
    for (;;) {
        uint32_t bytes;
        if (gw_frame_length(s->room, s->have, FRAME_BYTES, &bytes) != GW_OK)
            return false;
        if (bytes == 0 || bytes > s->have)
            return true;
        if (!take_frame(w, server, s->room, bytes))
            return false;
        s->have -= bytes;
        memmove(s->room, s->room + bytes, s->have);
    }
}

static void turn(struct watch *w)
{
    struct pollfd fds[TORTURE_SERVERS_MAX];
    uint64_t now = torture_now_ns(w->owner->run);
    for (uint32_t i = 0; i < w->owner->servers; i++) {
        struct asked *s = &w->server[i];
        uint16_t port = torture_relay_target(w->owner->relays, i + 1);
        if (s->fd < 0 && port && now >= s->again_ns && !say_hello(w, s, port))
            hang_up(w, s);
        else if (s->fd >= 0 && !s->waiting && s->sequence > 0 && now >= s->again_ns && !ask(w, s))
            hang_up(w, s);
        else if (s->fd >= 0 && s->waiting && now > s->sent_ns + WAIT_NS)
            hang_up(w, s);
        if (s->fd >= 0)
            s->again_ns = now + 4000000; /* the next batch */
        fds[i] = (struct pollfd){.fd = s->fd, .events = POLLIN};
    }
    if (poll(fds, w->owner->servers, 4) <= 0)
        return;
    for (uint32_t i = 0; i < w->owner->servers; i++)
        if (fds[i].revents && !receive(w, i))
            hang_up(w, &w->server[i]);
}

void *torture_owner_run(void *ctx)
{
    struct torture_owner *owner = ctx;
    struct watch *w = calloc(1, sizeof *w);
    bool good = w != NULL;
    if (good) {
        w->owner = owner;
        gw_rand_init(&w->rand, torture_seed(owner->run, "owner", 0));
        for (uint32_t i = 0; i < SLOTS; i++) {
            snprintf(w->key[i], sizeof w->key[i], "owner%u", i);
            w->slot[i] = gw_key_slot(w->key[i], strlen(w->key[i]));
        }
        for (uint32_t i = 0; i < owner->servers; i++) {
            w->server[i].fd = -1;
            w->server[i].room = malloc(FRAME_BYTES);
            good = good && w->server[i].room;
        }
    }
    while (good && !atomic_load(&owner->run->stop))
        turn(w);
    for (uint32_t i = 0; w && i < owner->servers; i++) {
        hang_up(w, &w->server[i]);
        free(w->server[i].room);
    }
    free(w);
    return NULL;
}
