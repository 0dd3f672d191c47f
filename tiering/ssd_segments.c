/* ssd_segments.c - which segments there are, and the thread that makes and removes their files.
 *
 * A segment lives in a slot (rule 7). Its word is {tag 32 = low half of the number, state 8,
 * references 24}:
 *
 *   EMPTY --write--> MAKING --made--> OPEN --trim--> CLOSING --last reference--> REMOVING --> EMPTY
 *     ^                 |   `--made, trimmed meanwhile--^
 *     `-----failed------'
 *
 *  1. MAKING, OPEN and REMOVING are set under the lock, CLOSING by a CAS that finds OPEN.
 *  2. A reference is taken by a CAS that finds OPEN and the tag, and only then are number, fd,
 *     checks and pages looked at: acquire, pairs with the release that set OPEN. A slot that has
 *     got another number with the same tag is recognised by `number` and left alone.
 *  3. References go by a fetch-sub, acquire and release, so that all that was done with the segment
 *     comes before its removal. In CLOSING none is taken, so the count reaches 0 once; who takes it
 *     there (the last to release, or trim itself when there was none) hands the slot to the keeper.
 *     Therefore the keeper is alone with a REMOVING segment, and file, memory and registrations go
 *     when nobody uses them: no operation is under way on a file that is removed.
 *  4. A write that finds its segment MAKING joins the list of those that wait, under the lock. The
 *     keeper takes the list under the same lock when it sets OPEN or EMPTY, so none is left behind;
 *     it takes a reference for each, hence a segment that was trimmed meanwhile still serves them.
 *  5. Room: `used` rises when MAKING begins and falls when REMOVING begins. The keeper's jobs are
 *     first in, first out, so that the file whose room was given back is gone before the one that
 *     takes it is made.
 *  6. When a file could not be made, others are refused at once for a while: pages are offered
 *     again at every turn, and a full filesystem would be asked as often.
 *  7. Which slot a number has is fixed before the first operation: adopted segments have the first
 *     ones, in order, and own ones the next, so that no more slots are needed than there are files,
 *     however many addresses restarts have left out in between. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "tiering/ssd_internal.h"

#define SLOTS_UNBOUND 16384u /* 4 TiB of segments of 256 MiB */
#define SLOTS_MAX     (1u << 20)
#define PAUSE_NS      20000000u /* rule 6 */

enum segment_state {
    SEGMENT_EMPTY,
    SEGMENT_MAKING,
    SEGMENT_OPEN,
    SEGMENT_CLOSING,
    SEGMENT_REMOVING,
};

#define REFERENCES(word) ((uint32_t)(word)&0xFFFFFFu)
#define STATE(word)      ((enum segment_state)((word) >> 24 & 0xFF))
#define TAG(word)        ((uint32_t)((word) >> 32))
#define WORD(tag, state, reference)                                                                \
    ((uint64_t)(uint32_t)(tag) << 32 | (uint64_t)(state) << 24 | (reference))

static_assert((uint64_t)GW_SSD_QUEUES_MAX * GW_SSD_DEPTH_MAX < 1u << 24, "references fit");

/* Own segments follow one another; what was adopted lies below them with gaps of any width, and is
 * counted instead (rule 7). */
static struct ssd_segment *slot_of(struct ssd *ssd, uint64_t number)
{
    uint64_t at = number;
    if (number >= ssd->own_first) {
        at = number - ssd->own_first + ssd->adopted_count;
    } else {
        uint32_t low = 0, high = ssd->adopted_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (ssd->adopted[middle] < number)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < ssd->adopted_count && ssd->adopted[low] == number)
            at = low;
    }
    return &ssd->segments[at & (ssd->segments_count - 1)];
}

/* Under the lock. */
static void keeper_job(struct ssd *ssd, struct ssd_segment *s)
{
    s->next_job = NULL;
    *ssd->jobs_end = s;
    ssd->jobs_end = &s->next_job;
    pthread_cond_signal(&ssd->keeper_wakes);
}

static void used_change(struct ssd *ssd, uint64_t add, uint64_t less)
{
    /* Relaxed: changes under the lock; usage takes a glance. */
    uint64_t used = atomic_load_explicit(&ssd->used_bytes, memory_order_relaxed);
    GW_ASSERT(used + add >= less);
    atomic_store_explicit(&ssd->used_bytes, used + add - less, memory_order_relaxed);
}

/* Under the lock, by who took the count of a CLOSING segment to 0. */
static void begin_removal(struct ssd *ssd, struct ssd_segment *s)
{
    /* Relaxed: the lock hands the segment to the keeper. */
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    GW_ASSERT(STATE(word) == SEGMENT_CLOSING && REFERENCES(word) == 0);
    atomic_store_explicit(&s->word, WORD(TAG(word), SEGMENT_REMOVING, 0), memory_order_relaxed);
    used_change(ssd, 0, ssd->g.file_bytes);
    keeper_job(ssd, s);
}

struct ssd_segment *gwi_ssd_acquire(struct ssd *ssd, uint64_t number)
{
    struct ssd_segment *s = slot_of(ssd, number);
    /* Relaxed: what is found is used only if the CAS below finds it again. */
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    do {
        if (TAG(word) != (uint32_t)number || STATE(word) != SEGMENT_OPEN)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&s->word, &word, word + 1, memory_order_acquire,
                                                    memory_order_relaxed));
    if (s->number == number)
        return s;
    gwi_ssd_release(ssd, s);
    return NULL;
}

void gwi_ssd_release(struct ssd *ssd, struct ssd_segment *s)
{
    uint64_t word = atomic_fetch_sub_explicit(&s->word, 1, memory_order_acq_rel); /* rule 3 */
    GW_ASSERT(REFERENCES(word) > 0);
    if (STATE(word) != SEGMENT_CLOSING || REFERENCES(word) != 1)
        return;
    pthread_mutex_lock(&ssd->lock);
    begin_removal(ssd, s);
    pthread_mutex_unlock(&ssd->lock);
}

enum gw_status gwi_ssd_wait_for_segment(struct ssd *ssd, struct ssd_op *op)
{
    uint64_t number = op->at / ssd->g.segment_bytes;
    struct ssd_segment *s = slot_of(ssd, number);
    enum gw_status status = GW_PENDING;
    pthread_mutex_lock(&ssd->lock);
    /* Relaxed: these change under the lock, but for OPEN to CLOSING, which is looked at alike. */
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&ssd->used_bytes, memory_order_relaxed);
    bool ours = STATE(word) != SEGMENT_EMPTY && s->number == number;
    if (op->at < atomic_load_explicit(&ssd->trimmed, memory_order_relaxed)) {
        status = GW_NOT_FOUND;
    } else if (ours && STATE(word) == SEGMENT_OPEN) {
        status = GW_RETRY;
    } else if (ours && STATE(word) == SEGMENT_MAKING) {
        op->next = s->waiting;
        s->waiting = op;
    } else if (STATE(word) == SEGMENT_CLOSING || STATE(word) == SEGMENT_REMOVING) {
        status = GW_WOULD_BLOCK; /* the slot is about to become free */
    } else if (STATE(word) != SEGMENT_EMPTY ||
               (ssd->limit_bytes && used + ssd->g.file_bytes > ssd->limit_bytes)) {
        status = GW_E_FULL;
    } else if (ssd->make_failed != GW_OK &&
               gw_clock_now_ns(gw_clock_system()) < ssd->make_again_ns) {
        status = ssd->make_failed == GW_E_NOMEM ? GW_WOULD_BLOCK : ssd->make_failed;
    } else {
        used_change(ssd, ssd->g.file_bytes, 0);
        s->number = number;
        op->next = NULL;
        s->waiting = op;
        /* Relaxed: nobody but holders of the lock looks further than the state. */
        atomic_store_explicit(&s->word, WORD(number, SEGMENT_MAKING, 0), memory_order_relaxed);
        keeper_job(ssd, s);
    }
    pthread_mutex_unlock(&ssd->lock);
    return status;
}

/* Under the lock. */
static void close_segment(struct ssd *ssd, uint64_t number)
{
    struct ssd_segment *s = slot_of(ssd, number);
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed), closed;
    do {
        if (STATE(word) != SEGMENT_OPEN || s->number != number)
            return; /* one that is being made sees `trimmed` when it is made */
        closed = WORD(TAG(word), SEGMENT_CLOSING, REFERENCES(word));
        /* Acquire: if there is no reference, all uses come before the removal (rule 3). */
    } while (!atomic_compare_exchange_weak_explicit(&s->word, &word, closed, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (REFERENCES(closed) == 0)
        begin_removal(ssd, s);
}

void gwi_ssd_trim(struct ssd *ssd, uint64_t below)
{
    uint64_t bytes = ssd->g.segment_bytes;
    pthread_mutex_lock(&ssd->lock);
    uint64_t from = atomic_load_explicit(&ssd->trimmed, memory_order_relaxed);
    if (below > from) {
        /* Relaxed: it refuses what a caller may not do anyway; files wait for references. */
        atomic_store_explicit(&ssd->trimmed, below, memory_order_relaxed);
        uint64_t first = from / bytes, end = below / bytes;
        if (end - first > ssd->segments_count) { /* every slot, whatever its number */
            for (uint32_t i = 0; i < ssd->segments_count; i++)
                if (ssd->segments[i].number < end)
                    close_segment(ssd, ssd->segments[i].number);
        } else {
            for (uint64_t number = first; number < end; number++)
                close_segment(ssd, number);
        }
    }
    pthread_mutex_unlock(&ssd->lock);
}

/* ---- the keeper ---- */

static uint64_t tables_bytes(const struct ssd *ssd)
{
    return (uint64_t)ssd->g.segment_pages * ssd->g.page_blocks * sizeof(uint32_t) +
           ssd->g.segment_pages;
}

uint32_t *gwi_ssd_checks_make(const struct ssd *ssd)
{
    return ssd->calls.memory(ssd->calls.ctx, tables_bytes(ssd));
}

enum gw_status gwi_ssd_take_over(struct ssd *ssd, uint64_t number, uint32_t incarnation, int fd,
                                 uint32_t *checks)
{
    uint64_t *adopted = realloc(ssd->adopted, (ssd->adopted_count + 1) * sizeof *adopted);
    if (!adopted)
        return GW_E_NOMEM;
    ssd->adopted = adopted;
    ssd->adopted[ssd->adopted_count++] = number; /* nobody looks for a segment yet */
    struct ssd_segment *s = slot_of(ssd, number);
    pthread_mutex_lock(&ssd->lock);
    uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
    bool taken = STATE(word) != SEGMENT_EMPTY;
    if (!taken) {
        s->number = number;
        s->fd = fd;
        s->incarnation = incarnation;
        s->checks = checks;
        s->pages = gwi_ssd_pages_of(ssd, checks);
        used_change(ssd, ssd->g.file_bytes, 0);
        atomic_fetch_add_explicit(&ssd->memory_bytes, tables_bytes(ssd), memory_order_relaxed);
        /* Release: as in keeper_make. */
        atomic_store_explicit(&s->word, WORD(number, SEGMENT_OPEN, 0), memory_order_release);
    }
    pthread_mutex_unlock(&ssd->lock);
    return taken ? GW_E_LIMIT : GW_OK;
}

static int segment_fill(struct ssd *ssd, const struct ssd_segment *s, int fd, uint8_t *block)
{
    int rc = ssd->no_allocate ? -EOPNOTSUPP : 0;
    for (uint32_t i = 0; rc == 0 && i < GWI_SSD_TRIES_MAX; i++) {
        rc = ssd->calls.allocate(ssd->calls.ctx, fd, ssd->g.file_bytes);
        if (rc != -EINTR)
            break;
        rc = i + 1 < GWI_SSD_TRIES_MAX ? 0 : rc;
    }
    if (rc == -EOPNOTSUPP) { /* no fallocate here: want of room shows when pages are written */
        ssd->no_allocate = true;
        rc = ssd->calls.truncate(ssd->calls.ctx, fd, ssd->g.file_bytes);
    }
    if (rc < 0)
        return rc;
    struct gw_ssd_header header = {.page_bits = (uint8_t)ssd->g.page_bits,
                                   .block_bits = GW_SSD_BLOCK_BITS,
                                   .store_id = ssd->store_id,
                                   .first_address = s->number * ssd->g.segment_bytes,
                                   .segment_bytes = ssd->g.segment_bytes,
                                   .incarnation = ssd->incarnation,
                                   .hash_seed_check = ssd->hash_seed_check};
    memcpy(header.server_id, ssd->server_id, sizeof header.server_id);
    gw_ssd_header_write(&header, block);
    struct ssd_range range = {block, GW_SSD_HEADER_BYTES, 0};
    rc = gwi_ssd_transfer(&ssd->calls, fd, true, range);
    if (rc < 0)
        return rc;
    return ssd->calls.sync(ssd->calls.ctx, fd); /* a name without ".tmp" says: the header is in */
}

/* Makes the file and the memory of a segment in state MAKING; fills in the segment on success. */
static enum gw_status segment_make(struct ssd *ssd, struct ssd_segment *s)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    char name[GW_SSD_NAME_BYTES], unfinished[GW_SSD_NAME_BYTES];
    uint64_t first = s->number * ssd->g.segment_bytes;
    gw_ssd_name(ssd->incarnation, first, name);
    gw_ssd_name_unfinished(ssd->store_id, ssd->incarnation, first, unfinished);

    enum gw_status status = GW_E_NOMEM;
    uint8_t *block = calls->memory(calls->ctx, GW_SSD_HEADER_BYTES);
    uint32_t *checks = gwi_ssd_checks_make(ssd);
    if (!block || !checks)
        goto fail_memory;
    int flags = O_RDWR | O_CREAT | O_TRUNC | (ssd->direct ? O_DIRECT : 0);
    int fd = calls->open(calls->ctx, ssd->dir_fd, unfinished, flags), rc = fd;
    if (fd < 0)
        goto fail_call;
    rc = segment_fill(ssd, s, fd, block);
    if (rc == 0)
        rc = calls->rename(calls->ctx, ssd->dir_fd, unfinished, name);
    if (rc < 0)
        goto fail_file;
    free(block);
    s->fd = fd;
    s->incarnation = ssd->incarnation;
    s->checks = checks;
    s->pages = gwi_ssd_pages_of(ssd, checks);
    atomic_store_explicit(&s->dirty, true, memory_order_relaxed); /* its name is not durable yet */
    atomic_fetch_add_explicit(&ssd->memory_bytes, tables_bytes(ssd), memory_order_relaxed);
    return GW_OK;

fail_file:
    (void)calls->close(calls->ctx, fd);
    (void)calls->unlink(calls->ctx, ssd->dir_fd, unfinished); /* else the next open names it */
fail_call:
    gw_debug("tiering.make", "file=%s errno=%d", name, -rc);
    status = gwi_ssd_status_of(rc, true);
fail_memory:
    free(block);
    free(checks);
    return status;
}

static void keeper_make(struct ssd *ssd, struct ssd_segment *s)
{
    enum gw_status status = segment_make(ssd, s);
    pthread_mutex_lock(&ssd->lock);
    struct ssd_op *waiting = s->waiting, *in_order = NULL;
    uint64_t references = 0;
    s->waiting = NULL;
    while (waiting) {
        struct ssd_op *next = waiting->next;
        waiting->segment = status == GW_OK ? s : NULL;
        waiting->status = status;
        waiting->next = in_order;
        in_order = waiting;
        waiting = next;
        references++;
    }
    uint64_t end = (s->number + 1) * ssd->g.segment_bytes;
    bool trimmed = end <= atomic_load_explicit(&ssd->trimmed, memory_order_relaxed);
    ssd->make_failed = status;
    if (status != GW_OK) {
        ssd->make_again_ns = gw_clock_now_ns(gw_clock_system()) + PAUSE_NS;
        used_change(ssd, 0, ssd->g.file_bytes);
        atomic_store_explicit(&s->word, WORD(0, SEGMENT_EMPTY, 0), memory_order_relaxed);
    } else {
        /* Release: the fields come before the state that leads to them; pairs with acquire. There
         * is at least the write that asked for it, so a trimmed one has somebody to remove it. */
        GW_ASSERT(references > 0);
        atomic_store_explicit(&s->word,
                              WORD(s->number, trimmed ? SEGMENT_CLOSING : SEGMENT_OPEN, references),
                              memory_order_release);
    }
    pthread_mutex_unlock(&ssd->lock);
    while (in_order) {
        struct ssd_op *op = in_order;
        in_order = op->next;
        gwi_ssd_deliver(op);
    }
}

static void keeper_remove(struct ssd *ssd, struct ssd_segment *s)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    char name[GW_SSD_NAME_BYTES];
    gw_ssd_name(s->incarnation, s->number * ssd->g.segment_bytes, name);
    for (uint32_t i = 0; i < ssd->queues_count; i++)
        gwi_ssd_ring_forget_file(&ssd->queues[i], s);
    int unlinked = calls->unlink(calls->ctx, ssd->dir_fd, name);
    /* A ring may hold the file a little longer: its blocks are free from here on. */
    int emptied = calls->truncate(calls->ctx, s->fd, 0);
    (void)calls->close(calls->ctx, s->fd);
    free(s->checks);
    s->checks = NULL;
    s->pages = NULL;
    atomic_store_explicit(&s->dirty, false, memory_order_relaxed);
    atomic_fetch_sub_explicit(&ssd->memory_bytes, tables_bytes(ssd), memory_order_relaxed);
    pthread_mutex_lock(&ssd->lock);
    if (unlinked < 0 && emptied < 0) {
        gw_debug("tiering.remove", "file=%s errno=%d", name, -unlinked);
        used_change(ssd, ssd->g.file_bytes, 0); /* it is still there, so it still counts */
    }
    ssd->make_failed = GW_OK; /* there may be room now */
    atomic_store_explicit(&s->word, WORD(0, SEGMENT_EMPTY, 0), memory_order_relaxed);
    pthread_mutex_unlock(&ssd->lock);
}

static void *keeper_main(void *arg)
{
    struct ssd *ssd = arg;
    pthread_mutex_lock(&ssd->lock);
    for (;;) {
        struct ssd_segment *s = ssd->jobs;
        if (!s && ssd->keeper_ends)
            break;
        if (!s) {
            pthread_cond_wait(&ssd->keeper_wakes, &ssd->lock);
            continue;
        }
        ssd->jobs = s->next_job;
        if (!ssd->jobs)
            ssd->jobs_end = &ssd->jobs;
        bool make = STATE(atomic_load_explicit(&s->word, memory_order_relaxed)) == SEGMENT_MAKING;
        pthread_mutex_unlock(&ssd->lock);
        if (make)
            keeper_make(ssd, s);
        else
            keeper_remove(ssd, s);
        pthread_mutex_lock(&ssd->lock);
    }
    pthread_mutex_unlock(&ssd->lock);
    return NULL;
}

/* ---- begin and end ---- */

enum gw_status gwi_ssd_segments_init(struct ssd *ssd)
{
    uint64_t wanted = SLOTS_UNBOUND;
    if (ssd->limit_bytes) /* pages come in any order, and the tail may run ahead: twice as many */
        wanted = 2 * (ssd->limit_bytes / ssd->g.file_bytes + 2);
    uint32_t slots = 16;
    while (slots < wanted && slots < SLOTS_MAX)
        slots *= 2;
    ssd->segments = ssd->calls.memory(ssd->calls.ctx, slots * sizeof *ssd->segments);
    if (!ssd->segments)
        return GW_E_NOMEM;
    ssd->segments_count = slots;
    for (uint32_t i = 0; i < slots; i++) {
        ssd->segments[i].index = i;
        ssd->segments[i].fd = -1;
    }
    atomic_fetch_add_explicit(&ssd->memory_bytes, slots * sizeof *ssd->segments,
                              memory_order_relaxed);
    ssd->jobs_end = &ssd->jobs;
    if (pthread_create(&ssd->keeper, NULL, keeper_main, ssd) != 0) {
        free(ssd->segments);
        ssd->segments = NULL;
        return GW_E_NOMEM;
    }
    ssd->keeper_runs = true;
    return GW_OK;
}

void gwi_ssd_segments_fini(struct ssd *ssd)
{
    if (!ssd->keeper_runs)
        return;
    pthread_mutex_lock(&ssd->lock);
    ssd->keeper_ends = true;
    pthread_cond_signal(&ssd->keeper_wakes);
    pthread_mutex_unlock(&ssd->lock);
    pthread_join(ssd->keeper, NULL);
    for (uint32_t i = 0; i < ssd->segments_count; i++) {
        struct ssd_segment *s = &ssd->segments[i];
        uint64_t word = atomic_load_explicit(&s->word, memory_order_relaxed);
        GW_ASSERT(REFERENCES(word) == 0);
        if (STATE(word) == SEGMENT_EMPTY)
            continue;
        (void)ssd->calls.close(ssd->calls.ctx, s->fd);
        free(s->checks);
    }
    free(ssd->segments);
    free(ssd->adopted);
}
