/* recover_progress.h - a line on stderr every second of a recovery: how far it is. Layer: server.
 */
#ifndef GW_SERVER_RECOVER_PROGRESS_H
#define GW_SERVER_RECOVER_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct gwi_progress {
    const _Atomic uint64_t *done; /* borrowed until the end */
    const uint64_t *all;          /* likewise; grows as files are found, read without a lock: words
                                     for people */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool stop, runs;
};
void gwi_progress_begin(struct gwi_progress *progress, const _Atomic uint64_t *done,
                        const uint64_t *all);
void gwi_progress_end(struct gwi_progress *progress);
#endif
