/* outgoing_hot.c - the hot records of a range, which go first.
 *
 * Rules:
 *  1. Nobody relies on them: they are in no chunk's book, nothing acknowledges them, and each goes
 *     out once more with its chunk. So a frame that is lost is not made up for.
 *  2. They are one list, walked by whoever comes, a frame at a time under a lock; who finds it held
 *     comes again. Chunks begin when it is at its end, in memory that is a matter of milliseconds.
 *  3. An attempt begins under the lock: a frame is of the attempt that was current when its records
 *     were taken off the list. A restart in the middle begins the list over, one behind its end
 *     does so only for a target that has nothing.
 *  4. The walk goes on by whole buckets; of the one in which a frame was full it is known how many
 *     went out. The range is frozen, but compaction may change their order: then one goes out twice
 *     or not at all (rule 1).
 *  5. Chunks do not wait for ever: when no record could be read often enough, the rest is left. */
#include "index/indirection.h"
#include "migration/frame_internal.h"
#include "migration/outgoing_internal.h"

#define STUCK_MAX 10000u

struct hot_fill {
    struct gwi_hot *hot;
    struct gw_writer w;
    uint32_t seen; /* records of the bucket in hand */
    uint32_t count;
    bool full;
};

void gwi_hot_restart(struct gw_outgoing *o, uint64_t attempt, bool from_scratch)
{
    struct gwi_hot *hot = &o->hot;
    pthread_mutex_lock(&hot->lock);
    hot->at = 0;
    hot->bucket = UINT64_MAX;
    hot->stuck = 0;
    hot->left = o->options.hot_bytes;
    if (from_scratch) /* relaxed: who sees the attempt sees it */
        atomic_store_explicit(&hot->over, hot->left == 0, memory_order_relaxed);
    atomic_store_explicit(&o->attempt, attempt, memory_order_release);
    pthread_mutex_unlock(&hot->lock);
}

static bool hot_record(void *ctx, const struct gw_record_view *view)
{
    struct hot_fill *fill = ctx;
    struct gwi_hot *hot = fill->hot;
    if (hot->bucket != hot->at) { /* the walk has gone on */
        hot->bucket = hot->at;
        hot->bucket_sent = 0;
        fill->seen = 0;
    }
    if (fill->seen++ < hot->bucket_sent)
        return true; /* rule 4 */
    struct gw_peer_record record = gwi_record_of_view(view);
    size_t bytes = gw_peer_record_bytes(&record);
    fill->full = bytes > gw_writer_left(&fill->w);
    if (fill->full)
        return false;
    gw_peer_record_encode(&record, &fill->w);
    fill->count++;
    hot->bucket_sent++;
    hot->left -= bytes < hot->left ? bytes : hot->left;
    return hot->left > 0;
}

enum gw_status gwi_hot_fill(struct gw_outgoing *o, struct gw_thread *thread, uint64_t attempt,
                            uint8_t *room, size_t room_bytes, size_t *used)
{
    struct gwi_hot *hot = &o->hot;
    *used = 0;
    if (pthread_mutex_trylock(&hot->lock) != 0)
        return GW_OK;
    if (attempt != gwi_outgoing_current(o)) {
        pthread_mutex_unlock(&hot->lock);
        return GW_END;
    }
    struct hot_fill fill = {.hot = hot, .w = gwi_frame_start(room, room_bytes)};
    uint64_t at = hot->at;
    gw_store_walk_sampled(thread, &hot->at, &o->slots, hot->left, hot_record, &fill);
    bool stuck = hot->at == at && fill.count == 0 && !fill.full; /* somebody holds a record */
    hot->stuck = stuck ? hot->stuck + 1 : 0;
    if (hot->at == UINT64_MAX || hot->left == 0 || hot->stuck == STUCK_MAX)
        atomic_store_explicit(&hot->over, true, memory_order_relaxed);
    pthread_mutex_unlock(&hot->lock);
    if (fill.w.bad || (fill.full && fill.count == 0))
        return GW_E_TOO_LARGE;
    if (fill.count == 0)
        return stuck ? GW_PENDING : GW_OK;
    *used = gwi_frame_finish(&fill.w, (struct gw_frame){.kind = GW_KIND_CHUNK,
                                                        .flags = GW_CHUNK_HOT,
                                                        .count = fill.count,
                                                        .session = o->job,
                                                        .view = attempt});
    atomic_fetch_add_explicit(&hot->bytes, *used, memory_order_relaxed);
    atomic_fetch_add_explicit(&hot->records, fill.count, memory_order_relaxed);
    return GW_OK;
}
