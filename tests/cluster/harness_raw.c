/* harness_raw.c - connections that may send anything; see harness.h. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "index/base/text.h"
#include "tests/cluster/harness.h"

#define FRAME_BYTES_MAX (8u << 20)

int harness_connect(const char *address)
{
    char host[64];
    uint16_t port;
    cr_assert_eq(gw_parse_address(address, host, sizeof host, &port), GW_OK);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    cr_assert_eq(inet_pton(AF_INET, host, &to.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0, "socket: %s", strerror(errno));
    struct timeval patience = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    int rc = connect(fd, (struct sockaddr *)&to, sizeof to);
    if (rc != 0 && errno == EINTR) { /* a signal of a child that ended: it goes on by itself */
        struct pollfd made = {.fd = fd, .events = POLLOUT};
        socklen_t room = sizeof errno;
        while (poll(&made, 1, 2000) < 0 && errno == EINTR)
            continue;
        rc = getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &room) == 0 && errno == 0 ? 0 : -1;
    }
    cr_assert_eq(rc, 0, "connect %s: %s", address, strerror(errno));
    return fd;
}

bool harness_send(int fd, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* 1: all of it; 0: closed before; -1: nothing for the rest of the time. */
static int read_bytes(int fd, uint8_t *room, size_t n, uint64_t end_ms)
{
    while (n > 0) {
        uint64_t now = harness_now_ms();
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        if (now >= end_ms || poll(&wanted, 1, (int)(end_ms - now)) <= 0)
            return -1;
        ssize_t got = recv(fd, room, n, 0);
        if (got <= 0)
            return 0;
        room += got;
        n -= (size_t)got;
    }
    return 1;
}

long harness_read_frame(int fd, uint8_t *room, size_t room_bytes, int timeout_ms)
{
    uint64_t end = harness_now_ms() + (uint64_t)timeout_ms;
    uint32_t bytes;
    int got = read_bytes(fd, room, GW_FRAME_HEADER, end);
    if (got <= 0)
        return got;
    cr_assert_eq(gw_frame_length(room, GW_FRAME_HEADER, FRAME_BYTES_MAX, &bytes), GW_OK,
                 "what the other end sent is no frame");
    cr_assert_leq(bytes, room_bytes);
    got = read_bytes(fd, room + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER, end);
    return got <= 0 ? got : (long)bytes;
}

bool harness_closes(int fd, int timeout_ms, enum gw_status *status)
{
    static uint8_t room[FRAME_BYTES_MAX];
    uint64_t end = harness_now_ms() + (uint64_t)timeout_ms;
    *status = GW_OK;
    for (;;) {
        uint64_t now = harness_now_ms();
        long bytes = now < end ? harness_read_frame(fd, room, sizeof room, (int)(end - now)) : -1;
        if (bytes <= 0)
            return bytes == 0;
        struct gw_frame frame;
        cr_assert_eq(gw_frame_decode(room, (uint32_t)bytes, &frame), GW_OK);
        if (frame.kind == GW_KIND_ERROR) {
            struct gw_reader body = gw_frame_body(room, &frame);
            char text[200];
            *status = gw_frame_error_decode(&body, text, sizeof text);
        }
    }
}

size_t harness_frame(uint8_t *room, struct gw_frame f, const void *body, size_t body_bytes)
{
    f.bytes = (uint32_t)(GW_FRAME_HEADER + body_bytes);
    gw_frame_encode(&f, room);
    if (body_bytes)
        memcpy(room + GW_FRAME_HEADER, body, body_bytes);
    return f.bytes;
}

bool harness_hello(int fd, uint64_t session, struct gw_welcome *welcome, uint64_t *view)
{
    uint8_t room[1024], body[256];
    struct gw_hello hello = {.window = 1024, .role = GW_ROLE_CLIENT};
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_hello_encode(&hello, &w);
    size_t bytes = harness_frame(room, (struct gw_frame){.kind = GW_KIND_HELLO, .session = session},
                                 body, gw_writer_used(&w));
    if (!harness_send(fd, room, bytes))
        return false;
    long got = harness_read_frame(fd, room, sizeof room, 5000);
    struct gw_frame frame;
    if (got <= 0 || gw_frame_decode(room, (uint32_t)got, &frame) != GW_OK ||
        frame.kind != GW_KIND_WELCOME)
        return false;
    struct gw_reader r = gw_frame_body(room, &frame);
    *view = frame.view;
    return gw_welcome_decode(&r, welcome) == GW_OK;
}
