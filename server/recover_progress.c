/* recover_progress.c - see recover_progress.h. */
#define _GNU_SOURCE
#include "server/recover_progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "index/base/text.h"

static void say(const struct gwi_progress *p)
{
    uint64_t done = atomic_load_explicit(p->done, memory_order_relaxed);
    uint64_t all = *p->all ? *p->all : 1;
    char a[32], b[32];
    gw_format_size(done, a, sizeof a);
    gw_format_size(*p->all, b, sizeof b);
    fprintf(stderr, "godwit-server: recovering: %s of about %s (%" PRIu64 " %%)\n", a, b,
            done >= all ? 99 : done * 100 / all);
}

static void *run(void *arg)
{
    struct gwi_progress *p = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        until.tv_sec++;
        while (!p->stop && pthread_cond_timedwait(&p->ended, &p->lock, &until) == 0) {}
        if (!p->stop)
            say(p);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void gwi_progress_begin(struct gwi_progress *p, const _Atomic uint64_t *done, const uint64_t *all)
{
    *p = (struct gwi_progress){.done = done, .all = all};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->ended, NULL);
    p->runs = pthread_create(&p->thread, NULL, run, p) == 0; /* recovers without, too */
}

void gwi_progress_end(struct gwi_progress *p)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    if (p->runs)
        pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
}
