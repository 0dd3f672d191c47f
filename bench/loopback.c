/* loopback.c - godwit-bench loopback: how fast one process can send to another over TCP on this
 * machine when nobody looks at what comes: the measure for bulk transfers. Plain blocking write and
 * read of the frame's size, default socket buffers, Nagle off. */
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/migrate.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define WARM_UP_NS 200000000ull

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* The child: connects and writes until the other end closes. */
static _Noreturn void send_all(uint16_t port, uint32_t frame_bytes, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    char *frame = malloc(frame_bytes);
    if (getppid() != parent || fd < 0 || !frame ||
        connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        _exit(1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    memset(frame, 'f', frame_bytes);
    for (;;)
        for (size_t sent = 0; sent < frame_bytes;) {
            ssize_t n = write(fd, frame + sent, frame_bytes - sent);
            if (n <= 0)
                _exit(0);
            sent += (size_t)n;
        }
}

/* Reads for so long, after a warm-up; bytes a second, 0: the connection failed. */
static double read_all(int fd, uint32_t frame_bytes, uint32_t seconds)
{
    char *room = malloc(frame_bytes);
    uint64_t start = now_ns(), from = 0, bytes = 0, now = start;
    double rate = 0;
    while (room && (!from || now < from + seconds * 1000000000ull)) {
        ssize_t n = read(fd, room, frame_bytes);
        if (n <= 0)
            goto end;
        now = now_ns();
        if (from)
            bytes += (uint64_t)n;
        else if (now >= start + WARM_UP_NS)
            from = now;
    }
    rate = from ? (double)bytes * 1e9 / (double)(now - from) : 0;
end:
    free(room);
    return rate;
}

double gw_loopback_measure(uint32_t frame_bytes, uint32_t seconds)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_bytes = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double rate = 0;
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 1) != 0 || getsockname(listener, (struct sockaddr *)&at, &at_bytes) != 0) {
        if (listener >= 0)
            close(listener);
        return 0;
    }
    /* A child that never gets through must not leave us in accept. */
    struct timeval patience = {.tv_sec = 5};
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        send_all(ntohs(at.sin_port), frame_bytes, parent);
    int fd = child > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd >= 0) {
        rate = read_all(fd, frame_bytes, seconds);
        close(fd);
    }
    close(listener);
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    return rate / 1e6;
}

static void usage(FILE *to)
{
    fputs("usage: godwit-bench loopback [FLAGS]\n"
          "  --frame SIZE    of a write and a read (default 32KiB, a usual chunk frame)\n"
          "  --seconds S     measured time (default 2)\n"
          "  --json          one JSON document on stdout\n",
          to);
}

int gw_bench_loopback(int argc, char **argv)
{
    uint64_t frame = GW_MIGRATE_BULK_FRAME, seconds = GW_MIGRATE_LOOPBACK_S;
    bool json = false;
    static const struct option options[] = {{"frame", required_argument, NULL, 'f'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            return 0;
        }
        if (c == 'j') {
            json = true;
        } else if (c == 'f' && gw_parse_size(optarg, &frame) == GW_OK && frame >= 1 &&
                   frame <= (64u << 20)) {
            continue;
        } else if (c == 's' && gw_parse_u64(optarg, 1, 3600, &seconds) == GW_OK) {
            continue;
        } else {
            usage(stderr);
            return 2;
        }
    }
    double mb = gw_loopback_measure((uint32_t)frame, (uint32_t)seconds);
    if (mb <= 0) {
        fputs("godwit-bench loopback: no connection to itself\n", stderr);
        return 1;
    }
    if (json)
        printf("{\"mb_per_second\":%.1f,\"frame_bytes\":%" PRIu64 ",\"seconds\":%" PRIu64 "}\n", mb,
               frame, seconds);
    else
        printf("loopback, two processes, frames of %" PRIu64 " bytes: %.0f MB/s\n", frame, mb);
    return fflush(stdout) == 0 ? 0 : 1;
}
