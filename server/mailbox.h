/* mailbox.h - how threads of a server hand each other rare things: a connection, a finished cut, a
 * job to work on. Never on a request's path. A short lock guards the queue; an empty box costs one
 * load. Layer: server. */
#ifndef GW_SERVER_MAILBOX_H
#define GW_SERVER_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct gwi_mail {
    struct gwi_mail *next;
    uint32_t kind; /* the receiver's enum */
    uint64_t number;
    void *subject;
};

struct gwi_mailbox {
    pthread_mutex_t lock;
    struct gwi_mail *first, **last;
    atomic_bool
        some; /* written under the lock, read without: a hint, the wake-up follows the post */
};

void gwi_mailbox_init(struct gwi_mailbox *box);
void gwi_mailbox_fini(struct gwi_mailbox *box); /* frees what was not taken */
/* False: out of memory, nothing was posted. The caller wakes the owner behind it. */
bool gwi_mailbox_post(struct gwi_mailbox *box, uint32_t kind, uint64_t number, void *subject);
/* The oldest mail, the caller's to free, or NULL. */
struct gwi_mail *gwi_mailbox_take(struct gwi_mailbox *box);
#endif
