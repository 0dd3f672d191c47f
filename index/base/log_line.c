/* log_line.c - lines of the diagnostic log.
 *
 * 1. A line is one write(2): lines of threads and of processes that share a stderr stay whole.
 * 2. A line that does not fit is cut and ends in "..."; control bytes become '?', so that a key or
 *    a peer's text cannot forge a second line.
 * 3. Logging never fails its caller and leaves errno as it was. */
#include "index/base/log_line.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

/* Written at start-up or by whoever changes it, read by every thread. Relaxed: a level publishes
 * nothing but itself. */
static _Atomic int least_level = GW_LOG_INFO;
static _Atomic(const char *) program_name;

__attribute__((constructor)) static void log_level_from_environment(void)
{
    const char *wanted = getenv("GW_LOG");
    for (int i = GW_LOG_DEBUG; wanted && i <= GW_LOG_OFF; i++)
        if (strcmp(wanted, level_names[i]) == 0)
            atomic_store_explicit(&least_level, i, memory_order_relaxed);
}

void gw_log_set_level(enum gw_log_level least)
{
    atomic_store_explicit(&least_level, (int)least, memory_order_relaxed);
}

void gw_log_set_name(const char *name)
{
    /* Release, with the acquire in gw_log_line: a thread that logs sees the name's bytes. */
    atomic_store_explicit(&program_name, name, memory_order_release);
}

static size_t write_time(char *room, size_t room_bytes)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(room, room_bytes, "%Y-%m-%dT%H:%M:%S", &utc);
    return n + (size_t)snprintf(room + n, room_bytes - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

void gw_log_line(enum gw_log_level level, const char *what, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed) ||
        level >= GW_LOG_OFF)
        return;
    int saved_errno = errno;
    char line[LINE_BYTES];
    size_t room = sizeof line - 1; /* the last byte is the line's end */
    size_t used = write_time(line, room);
    const char *name = atomic_load_explicit(&program_name, memory_order_acquire);

    int n = snprintf(line + used, room - used, " %s %s what=%s", level_names[level],
                     name ? name : "-", what);
    size_t want = used + (n > 0 ? (size_t)n : 0);
    if (want < room && format[0] != '\0') {
        line[want++] = ' ';
        va_list args;
        va_start(args, format);
        n = vsnprintf(line + want, room - want, format, args);
        va_end(args);
        want += n > 0 ? (size_t)n : 0;
    }
    used = want;
    if (want >= room) {
        used = room - 1;
        memcpy(line + used - 3, "...", 3);
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0) {
        /* A closed or full stderr must not stop a store. */
    }
    errno = saved_errno;
}

void gw_log_move(const char *machine, uint64_t id, const char *from, const char *to)
{
    gw_log_line(GW_LOG_INFO, "move", "machine=%s id=%llu from=%s to=%s", machine,
                (unsigned long long)id, from, to);
}
