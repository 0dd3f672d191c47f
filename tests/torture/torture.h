/* torture.h - threads that start together, and checks that end the program with a line of text.
 * GW_TORTURE_MS sets how long a program runs (default 1000). */
#ifndef GW_TESTS_TORTURE_H
#define GW_TESTS_TORTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/base/clock.h"

#define CHECK(c, ...)                                                                              \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #c);                                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline uint64_t torture_now_ms(void)
{
    return gw_clock_now_ns(gw_clock_system()) / 1000000;
}

static inline uint64_t torture_duration_ms(void)
{
    const char *text = getenv("GW_TORTURE_MS");
    return text ? strtoull(text, NULL, 10) : 1000;
}

struct torture_thread {
    pthread_t thread;
    void (*body)(uint32_t number, void *ctx);
    uint32_t number;
    void *ctx;
    pthread_barrier_t *start;
};

static inline void *torture_thread_main(void *arg)
{
    struct torture_thread *t = arg;
    pthread_barrier_wait(t->start);
    t->body(t->number, t->ctx);
    return NULL;
}

/* Runs body(0..threads-1, ctx), all at once, and waits for them. */
static inline void torture_run(uint32_t threads, void (*body)(uint32_t, void *), void *ctx)
{
    struct torture_thread t[64];
    pthread_barrier_t start;
    CHECK(threads <= 64, "%u threads", threads);
    pthread_barrier_init(&start, NULL, threads);
    for (uint32_t i = 0; i < threads; i++) {
        t[i] = (struct torture_thread){.body = body, .number = i, .ctx = ctx, .start = &start};
        CHECK(pthread_create(&t[i].thread, NULL, torture_thread_main, &t[i]) == 0, "no thread");
    }
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(t[i].thread, NULL);
    pthread_barrier_destroy(&start);
}
#endif
