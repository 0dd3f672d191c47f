/* cut.c - the cut: one phase published to all who take part, one acknowledgement from each, one
 * completion (DESIGN section 5, ENGINE H7).
 *
 *   closed --publish--> open (left = n) --acknowledge, n times--> left = 0 --done()--> closed
 *
 * Rules:
 *  1. Cuts are numbered; every slot acknowledges them in this order, so one number a slot says
 *     which are done, and one number for all says which exist.
 *  2. A cut counts who participates at its publication, under the lock that joining and leaving
 *     take too: nobody is missed and nobody is counted who will not see it.
 *  3. Outside of the epoch is not acknowledged. A participant that sleeps is woken, enters, and
 *     finds the cut before it looks at its input; until then the cut stays open.
 *  4. The completion happens after everything that every participant did before it acknowledged:
 *     the count is taken down with acq_rel, so that the last one has acquired all the others.
 * Why a participant that did not see the cut cannot have acted in the old phase after completion:
 * it has not acknowledged, hence there is no completion. Acting in the old phase before it
 * acknowledges is allowed; the publisher waits for done. */
#include "index/epoch_internal.h"

void gw_cut_set_waker(struct gw_epoch *epoch, gw_cut_wake_cb wake, void *ctx)
{
    pthread_mutex_lock(&epoch->lock);
    epoch->wake = wake;
    epoch->wake_ctx = ctx;
    pthread_mutex_unlock(&epoch->lock);
}

static void complete(struct gwi_cut_entry *entry)
{
    struct gw_cut cut = entry->cut;
    /* Release: the copy above comes before the next publication's overwrite; pairs with the acquire
     * in gw_cut_publish. Closed before done, so that done may publish the next one. */
    atomic_store_explicit(&entry->open, false, memory_order_release);
    if (cut.done)
        cut.done(cut.arg);
}

enum gw_status gw_cut_publish(struct gw_epoch *epoch, const struct gw_cut *cut)
{
    pthread_mutex_lock(&epoch->lock);
    /* Relaxed: written under the lock only. */
    uint64_t number = atomic_load_explicit(&epoch->cuts_published, memory_order_relaxed) + 1;
    struct gwi_cut_entry *entry = &epoch->cuts[number % GW_CUTS_MAX];
    /* Acquire: see complete. */
    if (atomic_load_explicit(&entry->open, memory_order_acquire)) {
        pthread_mutex_unlock(&epoch->lock);
        return GW_E_BUSY;
    }
    uint32_t participants = 0;
    for (uint32_t i = 0; i < epoch->slots_max; i++)
        participants += epoch->slots[i].taken && epoch->slots[i].participant;
    entry->cut = *cut;
    /* Relaxed, both: published by the store of the number. */
    atomic_store_explicit(&entry->left, participants, memory_order_relaxed);
    atomic_store_explicit(&entry->open, true, memory_order_relaxed);
    /* seq_cst: a participant that enters after this, by the same reasoning as in epoch.c, sees it;
     * pairs with the load in gw_cut_next. */
    atomic_store_explicit(&epoch->cuts_published, number, memory_order_seq_cst);
    gw_cut_wake_cb wake = epoch->wake;
    void *wake_ctx = epoch->wake_ctx;
    pthread_mutex_unlock(&epoch->lock);

    if (participants == 0) {
        complete(entry);
        return GW_OK;
    }
    /* Slots may come and go meanwhile: a wake-up too many harms nobody. */
    for (uint32_t i = 0; wake && i < epoch->slots_max; i++) {
        pthread_mutex_lock(&epoch->lock);
        bool wanted = epoch->slots[i].taken && epoch->slots[i].participant;
        pthread_mutex_unlock(&epoch->lock);
        if (wanted)
            wake(wake_ctx, i);
    }
    return GW_OK;
}

bool gw_cut_next(struct gw_epoch *epoch, uint32_t slot, struct gw_cut *out)
{
    struct gwi_epoch_slot *s = &epoch->slots[slot];
    /* seq_cst: comes after the store of epoch entry; pairs with the publication. */
    uint64_t published = atomic_load_explicit(&epoch->cuts_published, memory_order_seq_cst);
    if (GW_LIKELY(s->cut_acknowledged == published) || !s->participant)
        return false;
    GW_ASSERT(s->cut_acknowledged < published);
    *out = epoch->cuts[(s->cut_acknowledged + 1) % GW_CUTS_MAX].cut;
    return true;
}

static void acknowledge_next(struct gw_epoch *epoch, uint32_t slot)
{
    struct gwi_epoch_slot *s = &epoch->slots[slot];
    struct gwi_cut_entry *entry = &epoch->cuts[++s->cut_acknowledged % GW_CUTS_MAX];
    /* acq_rel: rule 4. */
    uint32_t before = atomic_fetch_sub_explicit(&entry->left, 1, memory_order_acq_rel);
    GW_ASSERT(before > 0);
    if (before == 1)
        complete(entry);
}

void gw_cut_acknowledge(struct gw_epoch *epoch, uint32_t slot)
{
    GW_ASSERT(epoch->slots[slot].participant);
    GW_ASSERT(epoch->slots[slot].cut_acknowledged <
              atomic_load_explicit(&epoch->cuts_published, memory_order_acquire));
    acknowledge_next(epoch, slot);
}

void gwi_cut_forfeit(struct gw_epoch *epoch, uint32_t slot)
{
    /* No cut published from now on counts this slot, so the number read here is the last. */
    pthread_mutex_lock(&epoch->lock);
    uint64_t last = atomic_load_explicit(&epoch->cuts_published, memory_order_relaxed);
    pthread_mutex_unlock(&epoch->lock);
    while (epoch->slots[slot].cut_acknowledged < last)
        acknowledge_next(epoch, slot);
}

uint32_t gw_cut_open(const struct gw_epoch *epoch)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < GW_CUTS_MAX; i++)
        open += atomic_load_explicit(&epoch->cuts[i].open, memory_order_acquire);
    return open;
}
