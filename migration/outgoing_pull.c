/* outgoing_pull.c - answering pulls: one batch of look-ups, one frame.
 *
 * Rules:
 *  1. Every key gets an answer, in order; one byte is kept free for each that is still to come, so
 *     that a large value can push the later ones into "ask again", never out of the frame.
 *  2. "Absent" is said only while nothing of the range is unlinked.
 *  3. What is in memory waits for nothing that has to be read: the late ones come in further
 * frames, in each of which every key has its place.
 *  4. A key of which nothing is in memory, and whose chain goes on in the shared tier, is not read
 * where indirections are allowed and the target asked for leads: it is told where the chain goes on
 * (R15). */
#include <string.h>

#include "index/indirection.h"
#include "migration/frame_internal.h"
#include "migration/outgoing_internal.h"

#define GROUP                64u
#define PULL_KEY_BYTES_LEAST 3u

struct pull {
    struct gw_outgoing *o;
    struct gw_thread *thread;
    const struct gw_store *store;
    struct gw_reader keys;
    struct gw_writer w;
    uint8_t *scratch;
    size_t scratch_bytes;
    uint32_t left; /* keys without an answer */
    uint32_t late; /* of those with one: elsewhere */
    uint32_t keys_all;
    uint64_t records, leads;
    bool points; /* rule 4 */
    gw_pull_cold_cb cold;
    void *ctx;
};

static struct gw_peer_record record_of_op(const struct gw_op *op, bool tombstone)
{
    struct gw_peer_record record = {
        .key = op->key,
        .key_bytes = op->key_bytes,
        .version = op->version,
        .tombstone = tombstone,
    };
    if (!tombstone && op->kind == GW_KIND_COUNTER) {
        record.kind = GW_KIND_COUNTER;
        record.value_bytes = 8;
        record.number = op->number;
    } else if (!tombstone) {
        record.value = op->out;
        record.value_bytes = op->out_bytes;
    }
    if (!tombstone)
        record.expiry_ms = op->expiry_ms;
    return record;
}

static void answer_record(struct pull *p, const struct gw_op *op, bool tombstone)
{
    struct gw_peer_record record = record_of_op(op, tombstone);
    if (1 + gw_peer_record_bytes(&record) + p->left > gw_writer_left(&p->w)) {
        gw_write8(&p->w, GW_PULL_ASK_AGAIN);
        return;
    }
    gw_write8(&p->w, GW_PULL_RECORD);
    gw_peer_record_encode(&record, &p->w);
    p->records++;
}

static void answer_lead(struct pull *p, const struct gw_op *op)
{
    uint8_t value[GW_PEER_INDIRECTION_BYTES];
    struct gw_indirection in;
    gw_store_lead(p->thread, op, p->o->options.map_version, &in);
    const struct gw_peer_indirection m = gwi_peer_of(&in);
    const struct gw_peer_record record = gw_peer_indirection_record(&m, value);
    if (1 + gw_peer_record_bytes(&record) + p->left > gw_writer_left(&p->w)) {
        gw_write8(&p->w, GW_PULL_ASK_AGAIN);
        return;
    }
    gw_pull_answer_encode(GW_PULL_LEAD, &record, &p->w);
    p->leads++;
}

/* What is said of a key without a record, by how its look-up has ended. */
static enum gw_pull_found found_of(enum gw_status st)
{
    switch (st) {
    case GW_NOT_FOUND:
        return GW_PULL_ABSENT;
    case GW_E_UNREACHABLE:
        return GW_PULL_UNREACHABLE;
    case GW_E_CORRUPT:
        return GW_PULL_CORRUPT;
    case GW_E_IO:
    case GW_E_LIMIT: /* more logs than can be told apart; one that nobody can read here */
    case GW_E_UNSUPPORTED:
        return GW_PULL_UNREADABLE;
    default: /* busy, or larger than the scratch */
        return GW_PULL_ASK_AGAIN;
    }
}

static void answer(struct pull *p, const struct gw_op *op)
{
    p->left--;
    switch ((enum gw_status)op->status) {
    case GW_OK:
        answer_record(p, op, false);
        break;
    case GW_TOMBSTONE:
        answer_record(p, op, true);
        break;
    case GW_END:
        answer_lead(p, op);
        break;
    case GW_PENDING:
        if (p->cold && p->cold(p->ctx, p->keys_all - p->left - 1, op)) {
            gw_write8(&p->w, GW_PULL_ELSEWHERE);
            p->late++;
        } else {
            gw_write8(&p->w, GW_PULL_ASK_AGAIN);
        }
        break;
    default:
        gw_write8(&p->w, found_of((enum gw_status)op->status));
        break;
    }
}

/* Reads the next keys; false: the frame is bad. Keys that are no business of this job get their
 * status here and no look-up. */
static bool read_keys(struct pull *p, struct gw_op *ops, uint32_t n)
{
    /* Acquire: see gw_outgoing_unlink_begin. */
    bool closing = atomic_load_explicit(&p->o->closing, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++) {
        struct gw_op *op = &ops[i];
        memset(op, 0, sizeof *op);
        op->verb = GW_VERB_FETCH;
        op->flags = p->points ? GW_OP_LEADS : 0;
        op->key_bytes = gw_read16(&p->keys);
        op->key = gw_read_bytes(&p->keys, op->key_bytes);
        if (p->keys.bad || op->key_bytes == 0)
            return false;
        gw_store_hash(p->store, op);
        if (closing || !gw_slots_has(&p->o->slots, op->slot))
            op->verb = 0; /* the engine answers GW_E_INVALID */
    }
    return true;
}

static void answer_group(struct pull *p, struct gw_op *ops, uint32_t n)
{
    for (uint32_t at = 0; at < n;) {
        size_t used;
        uint32_t done =
            gw_store_execute(p->thread, ops + at, n - at, p->scratch, p->scratch_bytes, &used);
        if (done == 0)
            done = 1; /* does not fit the empty scratch: stays GW_WOULD_BLOCK, "ask again" */
        for (uint32_t i = 0; i < done; i++)
            answer(p, &ops[at + i]);
        at += done;
    }
}

static size_t finish(struct gw_writer *w, const struct gw_frame *f)
{
    return gwi_frame_finish(w, (struct gw_frame){
                                   .kind = GW_KIND_PULL_ANSWER,
                                   .count = f->count,
                                   .session = f->session,
                                   .sequence = f->sequence,
                                   .view = f->view,
                               });
}

enum gw_status gw_outgoing_answer_pull(struct gw_outgoing *o, struct gw_thread *thread,
                                       const struct gw_store *store, const struct gw_frame *f,
                                       struct gw_reader body, uint8_t *scratch,
                                       size_t scratch_bytes, uint8_t *room, size_t room_bytes,
                                       size_t *used, gw_pull_cold_cb cold, void *ctx)
{
    if (!gw_frame_count_plausible(f, PULL_KEY_BYTES_LEAST))
        return GW_E_PROTOCOL;
    struct pull p = {
        .o = o,
        .thread = thread,
        .store = store,
        .keys = body,
        .w = gwi_frame_start(room, room_bytes),
        .scratch = scratch,
        .scratch_bytes = scratch_bytes,
        .left = f->count,
        .keys_all = f->count,
        /* Relaxed: the attempt that allows it was seen when its frames were (outgoing.c); a pull of
         * before is answered either way. */
        .points =
            (f->flags & GW_PULL_LEADS) && atomic_load_explicit(&o->indirect, memory_order_relaxed),
        .cold = cold,
        .ctx = ctx,
    };
    if (p.w.bad || gw_writer_left(&p.w) < f->count)
        return GW_E_TOO_LARGE;
    struct gw_op ops[GROUP];
    while (p.left > 0) {
        uint32_t n = p.left < GROUP ? p.left : GROUP;
        if (!read_keys(&p, ops, n))
            return GW_E_PROTOCOL;
        answer_group(&p, ops, n);
    }
    if (gw_reader_left(&p.keys) != 0)
        return GW_E_PROTOCOL;
    *used = finish(&p.w, f);
    /* Several dispatchers answer: real additions. Relaxed: numbers for people. */
    atomic_fetch_add_explicit(&o->pulls, f->count, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->pull_records, p.records, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->pull_leads, p.leads, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->pull_bytes, *used, memory_order_relaxed);
    return p.late ? GW_PENDING : GW_OK;
}

size_t gw_outgoing_pull_late_bytes(const struct gw_op *op)
{
    struct gw_peer_record record = record_of_op(op, op->status == GW_TOMBSTONE);
    return 1 + gw_peer_record_bytes(&record);
}

size_t gw_outgoing_pull_late(struct gw_outgoing *o, const struct gw_op *op, enum gw_status st,
                             uint8_t *room, size_t room_bytes)
{
    struct gw_writer w = gw_writer_of(room, room_bytes);
    /* Acquire: see gw_outgoing_unlink_begin. */
    bool closing = !o || atomic_load_explicit(&o->closing, memory_order_acquire);
    if (!closing && (st == GW_OK || st == GW_TOMBSTONE)) {
        struct gw_peer_record record = record_of_op(op, st == GW_TOMBSTONE);
        gw_write8(&w, GW_PULL_RECORD);
        gw_peer_record_encode(&record, &w);
        atomic_fetch_add_explicit(&o->pull_records, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&o->pull_bytes, gw_writer_used(&w), memory_order_relaxed);
    } else {
        gw_write8(&w, closing ? GW_PULL_ASK_AGAIN : found_of(st));
    }
    GW_ASSERT(!w.bad);
    return gw_writer_used(&w);
}

size_t gw_outgoing_pull_more(const struct gw_frame *f, const struct gw_pull_late *late,
                             uint8_t *room, size_t room_bytes)
{
    struct gw_writer w = gwi_frame_start(room, room_bytes);
    for (uint32_t i = 0; i < f->count; i++) {
        if (late[i].count == 0)
            gw_write8(&w, GW_PULL_ELSEWHERE);
        else if (late[i].bytes)
            gw_write_bytes(&w, late[i].bytes, late[i].count);
        else
            gw_write8(&w, GW_PULL_ASK_AGAIN);
    }
    GW_ASSERT(!w.bad);
    return finish(&w, f);
}

enum gw_status gw_outgoing_answer_unknown(const struct gw_frame *f, uint8_t *room,
                                          size_t room_bytes, size_t *used)
{
    if (!gw_frame_count_plausible(f, PULL_KEY_BYTES_LEAST))
        return GW_E_PROTOCOL;
    struct gw_writer w = gwi_frame_start(room, room_bytes);
    for (uint32_t i = 0; i < f->count && !w.bad; i++)
        gw_write8(&w, GW_PULL_ASK_AGAIN);
    if (w.bad)
        return GW_E_TOO_LARGE;
    *used = finish(&w, f);
    return GW_OK;
}
