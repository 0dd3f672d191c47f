/* mailbox.c - a queue under a lock; see mailbox.h. */
#include "server/mailbox.h"

#include <stdlib.h>

void gwi_mailbox_init(struct gwi_mailbox *box)
{
    pthread_mutex_init(&box->lock, NULL);
    box->first = NULL;
    box->last = &box->first;
    atomic_init(&box->some, false);
}

void gwi_mailbox_fini(struct gwi_mailbox *box)
{
    struct gwi_mail *m;
    while ((m = gwi_mailbox_take(box)))
        free(m);
    pthread_mutex_destroy(&box->lock);
}

bool gwi_mailbox_post(struct gwi_mailbox *box, uint32_t kind, uint64_t number, void *subject)
{
    struct gwi_mail *m = malloc(sizeof *m);
    if (!m)
        return false;
    *m = (struct gwi_mail){NULL, kind, number, subject};
    pthread_mutex_lock(&box->lock);
    *box->last = m;
    box->last = &m->next;
    atomic_store_explicit(&box->some, true, memory_order_release);
    pthread_mutex_unlock(&box->lock);
    return true;
}

struct gwi_mail *gwi_mailbox_take(struct gwi_mailbox *box)
{
    if (!atomic_load_explicit(&box->some, memory_order_acquire))
        return NULL;
    pthread_mutex_lock(&box->lock);
    struct gwi_mail *m = box->first;
    if (m && !(box->first = m->next)) {
        box->last = &box->first;
        atomic_store_explicit(&box->some, false, memory_order_relaxed); /* under the lock */
    }
    pthread_mutex_unlock(&box->lock);
    return m;
}
