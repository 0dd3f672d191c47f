/* relay.c - see relay.h. A pair of sockets for each connection, a buffer for each direction. Cuts
 * are resets, so that what lies in the kernel's buffers is lost as on a real cut. */
#define _GNU_SOURCE
#include "tests/godwit_torture/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "index/base/text.h"

#define BUFFER_BYTES (64u << 10)
#define PAIRS_MAX    2048u
#define TURN_MS      20

struct way {
    uint8_t *buffer;
    uint32_t from, to; /* what lies in it */
};

struct pair {
    uint32_t relay;
    int fd[2]; /* who came; whom we asked. -1: no pair */
    bool connecting;
    struct way way[2]; /* [i]: read from fd[i] */
    bool ended[2];     /* fd[i] says no more */
};

struct relay {
    int listen_fd;
    uint16_t port;
    _Atomic uint16_t to_port; /* 0: nobody */
    _Atomic uint32_t cuts;
    _Atomic uint64_t hold_until_ns, refuse_until_ns;
    uint32_t cuts_done;
};

struct torture_relays {
    uint32_t count;
    struct relay *relay;
    struct pair *pair;
    uint32_t pairs; /* how many places have been in use */
    struct pollfd *fds;
    atomic_bool stop;
    pthread_t thread;
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static void drop_pair(struct pair *p, bool reset)
{
    struct linger at_once = {.l_onoff = 1};
    for (int i = 0; i < 2; i++) {
        if (p->fd[i] < 0)
            continue;
        if (reset)
            setsockopt(p->fd[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(p->fd[i]);
        p->fd[i] = -1;
        free(p->way[i].buffer);
        p->way[i] = (struct way){0};
    }
}

static void take_in(struct torture_relays *relays, uint32_t r)
{
    struct relay *relay = &relays->relay[r];
    int fd = accept4(relay->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    uint32_t i = 0;
    while (i < relays->pairs && relays->pair[i].fd[0] >= 0)
        i++;
    uint16_t port = atomic_load(&relay->to_port);
    struct pair *p = &relays->pair[i < PAIRS_MAX ? i : 0];
    if (i == PAIRS_MAX || port == 0 || now_ns() < atomic_load(&relay->refuse_until_ns)) {
        struct linger at_once = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(fd);
        return;
    }
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    *p = (struct pair){.relay = r, .fd = {fd, -1}, .connecting = true};
    p->fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    for (int s = 0; s < 2; s++) {
        p->way[s].buffer = malloc(BUFFER_BYTES);
        setsockopt(p->fd[s], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    if (i == relays->pairs)
        relays->pairs++;
    bool begun =
        p->fd[1] >= 0 && p->way[0].buffer && p->way[1].buffer &&
        (connect(p->fd[1], (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS);
    if (!begun)
        drop_pair(p, true);
}

/* False: the pair is over. */
static bool move(struct pair *p, int from)
{
    struct way *way = &p->way[from];
    if (way->from == way->to && !p->ended[from]) {
        ssize_t n = recv(p->fd[from], way->buffer, BUFFER_BYTES, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            p->ended[from] = true;
        way->from = 0;
        way->to = n > 0 ? (uint32_t)n : 0;
    }
    if (way->from < way->to) {
        ssize_t n =
            send(p->fd[1 - from], way->buffer + way->from, way->to - way->from, MSG_NOSIGNAL);
        if (n > 0)
            way->from += (uint32_t)n;
        else if (errno != EAGAIN && errno != EINTR)
            return false;
    }
    return !(p->ended[from] && way->from == way->to);
}

static void serve_pair(struct torture_relays *relays, struct pair *p, const struct pollfd *fds)
{
    if (p->fd[0] < 0)
        return;
    if (p->connecting) {
        int error = 0;
        socklen_t room = sizeof error;
        if (fds[1].revents == 0)
            return;
        if (getsockopt(p->fd[1], SOL_SOCKET, SO_ERROR, &error, &room) != 0 || error != 0) {
            drop_pair(p, true);
            return;
        }
        p->connecting = false;
    }
    if (now_ns() < atomic_load(&relays->relay[p->relay].hold_until_ns))
        return;
    if ((fds[0].revents | fds[1].revents) == 0)
        return;
    if (!move(p, 0) || !move(p, 1))
        drop_pair(p, false);
}

static void *serve(void *ctx)
{
    struct torture_relays *relays = ctx;
    while (!atomic_load(&relays->stop)) {
        uint32_t n = relays->count, pairs = relays->pairs;
        uint64_t now = now_ns();
        int wait = TURN_MS;
        for (uint32_t r = 0; r < n; r++) {
            struct relay *relay = &relays->relay[r];
            uint32_t cuts = atomic_load(&relay->cuts);
            relays->fds[r] = (struct pollfd){.fd = relay->listen_fd, .events = POLLIN};
            for (uint32_t i = 0; cuts != relay->cuts_done && i < pairs; i++)
                if (relays->pair[i].relay == r)
                    drop_pair(&relays->pair[i], true);
            relay->cuts_done = cuts;
        }
        for (uint32_t i = 0; i < pairs; i++) {
            struct pair *p = &relays->pair[i];
            bool held = now < atomic_load(&relays->relay[p->relay].hold_until_ns);
            for (int s = 0; s < 2; s++) {
                bool idle = p->way[s].from == p->way[s].to;
                bool full = p->way[1 - s].from < p->way[1 - s].to;
                short events = (short)((idle && !p->connecting ? POLLIN : 0) |
                                       (full || (p->connecting && s == 1) ? POLLOUT : 0));
                int fd = held || p->fd[0] < 0 ? -1 : p->fd[s];
                relays->fds[n + 2 * i + (uint32_t)s] = (struct pollfd){fd, events, 0};
            }
        }
        if (poll(relays->fds, n + 2 * pairs, wait) < 0)
            continue;
        for (uint32_t i = 0; i < pairs; i++)
            serve_pair(relays, &relays->pair[i], &relays->fds[n + 2 * i]);
        for (uint32_t r = 0; r < n; r++)
            if (relays->fds[r].revents)
                take_in(relays, r);
    }
    return NULL;
}

static bool listen_somewhere(struct relay *relay)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t room = sizeof at;
    relay->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (relay->listen_fd < 0 || bind(relay->listen_fd, (struct sockaddr *)&at, room) != 0 ||
        listen(relay->listen_fd, 512) != 0 ||
        getsockname(relay->listen_fd, (struct sockaddr *)&at, &room) != 0)
        return false;
    relay->port = ntohs(at.sin_port);
    return true;
}

static void free_all(struct torture_relays *relays)
{
    for (uint32_t i = 0; relays->pair && i < relays->pairs; i++)
        drop_pair(&relays->pair[i], true);
    for (uint32_t r = 0; relays->relay && r < relays->count; r++)
        if (relays->relay[r].listen_fd > 0)
            close(relays->relay[r].listen_fd);
    free(relays->relay);
    free(relays->pair);
    free(relays->fds);
    free(relays);
}

struct torture_relays *torture_relays_start(uint32_t count)
{
    struct torture_relays *relays = calloc(1, sizeof *relays);
    if (!relays)
        return NULL;
    relays->count = count;
    relays->relay = calloc(count, sizeof *relays->relay);
    relays->pair = calloc(PAIRS_MAX, sizeof *relays->pair);
    relays->fds = calloc(count + 2 * PAIRS_MAX, sizeof *relays->fds);
    bool good = relays->relay && relays->pair && relays->fds;
    for (uint32_t i = 0; good && i < PAIRS_MAX; i++)
        relays->pair[i].fd[0] = relays->pair[i].fd[1] = -1;
    for (uint32_t r = 0; good && r < count; r++)
        good = listen_somewhere(&relays->relay[r]);
    if (good && pthread_create(&relays->thread, NULL, serve, relays) == 0)
        return relays;
    free_all(relays);
    return NULL;
}

void torture_relays_stop(struct torture_relays *relays)
{
    if (!relays)
        return;
    atomic_store(&relays->stop, true);
    pthread_join(relays->thread, NULL);
    free_all(relays);
}

void torture_relay_address(struct torture_relays *relays, uint32_t i, char *room, size_t room_bytes)
{
    snprintf(room, room_bytes, "127.0.0.1:%u", relays->relay[i].port);
}

bool torture_relay_lead(struct torture_relays *relays, uint32_t i, const char *address)
{
    char host[64];
    uint16_t port;
    if (gw_parse_address(address, host, sizeof host, &port) != GW_OK)
        return false;
    atomic_store(&relays->relay[i].to_port, port);
    return true;
}

uint16_t torture_relay_target(struct torture_relays *relays, uint32_t i)
{
    return atomic_load(&relays->relay[i].to_port);
}

void torture_relay_cut(struct torture_relays *relays, uint32_t i)
{
    atomic_fetch_add(&relays->relay[i].cuts, 1);
}

void torture_relay_hold(struct torture_relays *relays, uint32_t i, uint32_t ms)
{
    atomic_store(&relays->relay[i].hold_until_ns, now_ns() + (uint64_t)ms * 1000000);
}

void torture_relay_refuse(struct torture_relays *relays, uint32_t i, uint32_t ms)
{
    atomic_store(&relays->relay[i].refuse_until_ns, now_ns() + (uint64_t)ms * 1000000);
}

void torture_relay_heal(struct torture_relays *relays, uint32_t i)
{
    atomic_store(&relays->relay[i].hold_until_ns, 0);
    atomic_store(&relays->relay[i].refuse_until_ns, 0);
}
