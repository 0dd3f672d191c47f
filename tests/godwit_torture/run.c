/* run.c - see run.h. */
#include "tests/godwit_torture/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/clock.h"
#include "tests/godwit_torture/history.h"

#define VIOLATIONS_MAX 10000u

const char *torture_mode_name(enum torture_durability mode)
{
    return mode == TORTURE_MODE_NONE ? "none" : mode == TORTURE_MODE_MEMORY ? "memory" : "commit";
}

void torture_run_init(struct torture_run *run, const struct torture_options *options)
{
    memset(run, 0, sizeof *run);
    run->options = *options;
    run->keys = torture_keys_make((uint32_t)options->keys, (uint32_t)options->values);
    run->start_ns = gw_clock_now_ns(gw_clock_system());
    pthread_mutex_init(&run->lock, NULL);
}

void torture_run_free(struct torture_run *run)
{
    free(run->violations);
    free(run->events);
    pthread_mutex_destroy(&run->lock);
}

uint64_t torture_now_ns(const struct torture_run *run)
{
    return gw_clock_now_ns(gw_clock_system()) - run->start_ns;
}

void torture_sleep_ms(uint64_t ms)
{
    struct timespec wait = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&wait, &wait) != 0 && errno == EINTR)
        continue;
}

void torture_server_name(struct torture_run *run, uint32_t i, char *room, size_t room_bytes)
{
    uint32_t before = atomic_load(&run->generation[i]);
    if (before == 0)
        snprintf(room, room_bytes, "%c", 'A' + (char)(i - 1));
    else
        snprintf(room, room_bytes, "%c%u", 'A' + (char)(i - 1), before + 1);
}

uint32_t torture_server_of(struct torture_run *run, const char *name)
{
    char now[24];
    uint32_t i = name[0] >= 'A' ? (uint32_t)(name[0] - 'A') + 1 : 0;
    if (i == 0 || i > run->options.servers)
        return 0;
    torture_server_name(run, i, now, sizeof now);
    return strcmp(name, now) == 0 ? i : 0;
}

uint64_t torture_seed(const struct torture_run *run, const char *part, uint64_t number)
{
    uint64_t seed = torture_state_append(run->options.seed + 1, number);
    for (; *part; part++)
        seed = torture_state_append(seed, (uint64_t)*part);
    return seed;
}

/* Room for one more entry; NULL: no memory, or too many. */
static void *grow(void *entries, size_t count, size_t *room, size_t entry_bytes)
{
    if (count < *room)
        return entries;
    size_t wanted = *room ? *room * 2 : 64;
    void *more = realloc(entries, wanted * entry_bytes);
    if (more)
        *room = wanted;
    return more;
}

void torture_violation(struct torture_run *run, uint32_t key, uint64_t at_ns, const char *format,
                       ...)
{
    struct torture_violation violation = {.key = key, .at_ns = at_ns};
    va_list args;
    va_start(args, format);
    vsnprintf(violation.text, sizeof violation.text, format, args);
    va_end(args);
    pthread_mutex_lock(&run->lock);
    void *entries =
        run->violations_count < VIOLATIONS_MAX
            ? grow(run->violations, run->violations_count, &run->violations_room, sizeof violation)
            : NULL;
    if (entries) {
        run->violations = entries;
        run->violations[run->violations_count++] = violation;
    }
    if (run->violations_count <= 20) {
        printf("%10.3f s VIOLATION: %s\n", (double)at_ns / 1e9, violation.text);
        fflush(stdout);
    }
    pthread_mutex_unlock(&run->lock);
}

void torture_event(struct torture_run *run, const char *format, ...)
{
    struct torture_event event = {.at_ns = torture_now_ns(run)};
    va_list args;
    va_start(args, format);
    vsnprintf(event.text, sizeof event.text, format, args);
    va_end(args);
    pthread_mutex_lock(&run->lock);
    void *entries = grow(run->events, run->events_count, &run->events_room, sizeof event);
    if (entries) {
        run->events = entries;
        run->events[run->events_count++] = event;
    }
    if (run->options.verbose) {
        printf("%10.3f s %s\n", (double)event.at_ns / 1e9, event.text);
        fflush(stdout);
    }
    pthread_mutex_unlock(&run->lock);
}

size_t torture_violations(struct torture_run *run)
{
    pthread_mutex_lock(&run->lock);
    size_t count = run->violations_count;
    pthread_mutex_unlock(&run->lock);
    return count;
}

void torture_events_print(struct torture_run *run, uint64_t from_ns, uint64_t to_ns, FILE *out)
{
    pthread_mutex_lock(&run->lock);
    for (size_t i = 0; i < run->events_count; i++)
        if (run->events[i].at_ns >= from_ns && run->events[i].at_ns <= to_ns)
            fprintf(out, "      %.6f s: %s\n", (double)run->events[i].at_ns / 1e9,
                    run->events[i].text);
    pthread_mutex_unlock(&run->lock);
}
