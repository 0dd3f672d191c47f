/* commit.c - the acknowledgement rule and the life of a dispatcher's commit log; see commit.h.
 *
 * Rules: 1. Every access to `round`, the open words and `waits` is seq_cst: the argument of
 * tests/model/spin/commit.pml is about one order of all of them. 2. An open word is stored before
 * the operation that it stands for and rises only when the log has made it durable, or when it has
 * left nothing behind. 3. `first` is a tag from before its batch's operations, so that what the
 * word rises to is never too high. 4. close() stores the word, then raises the round, then wakes:
 * a reply that waits with the round of now is let go by somebody. 5. A group holds entries of one
 * session in one block: it ends where the log divides or is flushed. */
#include "server/commit.h"

#include <stdio.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/store_cut.h"
#include "server/checkpoint.h"
#include "server/reply.h"
#include "server/server.h"
#include "tiering/commit.h"

#define SERIALS_MAX    65535u /* of a group, above its first */
#define FILE_BYTES_MIN (1ull << 20)
#define FILE_BYTES_MAX (64ull << 20)
#define FILES_OF_LIMIT 8u
#define DELAY_SHARE    4u /* of a flush */

static struct gwi_durable *shared(const struct gwi_dispatcher *d)
{
    return &d->server->durable;
}

/* ---- positions ---- */

static uint64_t least_open(const struct gwi_server *server)
{
    uint64_t least = GWI_NOTHING_OPEN;
    for (uint32_t i = 0; i < server->dispatchers; i++) {
        uint64_t open = atomic_load(&server->durable.dispatcher[i].open); /* seq_cst: rule 1 */
        least = open < least ? open : least;
    }
    return least;
}

uint64_t gwi_commit_durable(const struct gwi_server *server)
{
    /* The round first: who takes a position later gets at least this one, so none that is told as
     * durable here is given to what is not (HOLE_ORDER of the model). */
    uint64_t round = atomic_load(&server->durable.round);
    uint64_t least = least_open(server);
    return (round < least ? round : least) - 1;
}

uint64_t gwi_commit_ticket(const struct gwi_server *server)
{
    uint64_t round = atomic_load(&server->durable.round);
    return least_open(server) > round ? 0 : round;
}

uint64_t gwi_commit_log_bytes(const struct gwi_server *server)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < server->dispatchers; i++) {
        struct gw_commit_usage usage;
        gw_commit_usage(server->dispatcher[i]->commit.log, &usage);
        bytes += usage.file_bytes - usage.spare_bytes;
    }
    return bytes;
}

void gwi_commit_look(struct gwi_dispatcher *d)
{
    uint64_t durable = gwi_commit_durable(d->server);
    /* Relaxed: a failure stops what it concerns by its open word, too. */
    if (durable > d->commit.durable &&
        atomic_load_explicit(&shared(d)->failed, memory_order_relaxed) == 0)
        d->commit.durable = durable;
}

/* ---- the open word ---- */

static void wake_others(struct gwi_dispatcher *d)
{
    struct gwi_server *s = d->server;
    for (uint32_t i = 0; i < s->dispatchers; i++)
        if (i != d->index && atomic_load(&s->durable.dispatcher[i].waits) &&
            atomic_exchange(&s->durable.dispatcher[i].waits, false))
            gw_net_wake(s->dispatcher[i]->net);
    if (d->index != 0 && atomic_load(&s->durable.control_waits) &&
        atomic_exchange(&s->durable.control_waits, false))
        gw_net_wake(s->dispatcher[0]->net);
}

static void close_open(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    c->open = c->first;
    atomic_store(&shared(d)->dispatcher[d->index].open, c->open);
    atomic_fetch_add(&shared(d)->round, 1);
    wake_others(d);
}

void gwi_commit_begin(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    if (c->tag != GWI_NOTHING_OPEN)
        return;
    c->tag = atomic_load(&shared(d)->round);
    if (c->open == GWI_NOTHING_OPEN) {
        c->open = c->tag;
        atomic_store(&shared(d)->dispatcher[d->index].open, c->open);
    }
}

uint64_t gwi_commit_end(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    uint64_t position = atomic_load(&shared(d)->round);
    if (c->tag != GWI_NOTHING_OPEN) {
        c->tag = GWI_NOTHING_OPEN;
        c->batches += c->gave;
        c->gave = false;
        if (c->first == GWI_NOTHING_OPEN && !c->flying)
            close_open(d); /* nothing came of it */
    }
    if (position <= c->durable)
        return 0;
    if (least_open(d->server) > position &&
        atomic_load_explicit(&shared(d)->failed, memory_order_relaxed) == 0)
        return 0;
    return position;
}

void gwi_commit_sleep(struct gwi_dispatcher *d)
{
    d->commit.waits = true;
    atomic_store(&shared(d)->dispatcher[d->index].waits, true);
}

/* ---- appending ---- */

/* What a session's window says of the operation after recovery: old values that were given are not
 * in the log. */
static uint8_t reply_of(const struct gw_op *op, bool counter_is_value)
{
    uint8_t flags = gwi_reply_flags(op);
    if ((flags & GW_WIRE_VALUE) || ((flags & GW_WIRE_COUNTER) && !counter_is_value))
        return GW_WIRE_FORGOTTEN;
    return flags & (GW_WIRE_COUNTER | GW_WIRE_LENGTH | GW_WIRE_NONE);
}

void gwi_commit_entry_of(const struct gw_op *op, struct gw_commit_entry *e)
{
    *e = (struct gw_commit_entry){.key = op->key,
                                  .key_bytes = op->key_bytes,
                                  .version = op->version,
                                  .status = op->status};
    if (!(op->effect & GW_EFFECT_CHANGED)) {
        e->op = GW_COMMIT_NOTHING;
        e->reply = reply_of(op, false);
        return;
    }
    e->flags = (uint8_t)((op->effect & GW_EFFECT_START ? GW_COMMIT_START : 0) |
                         (op->effect & GW_EFFECT_FIRST ? GW_COMMIT_FIRST : 0));
    e->reply = reply_of(op, op->verb == GW_VERB_ADD);
    if (op->effect & GW_EFFECT_TOMBSTONE) {
        /* An add or append may delete, too: by a time that has passed. What it answered is not to
         * be had from the record any more. */
        if (e->reply & (GW_WIRE_COUNTER | GW_WIRE_LENGTH))
            e->reply = GW_WIRE_FORGOTTEN;
        e->op = GW_COMMIT_TOMBSTONE;
        return;
    }
    if (op->expiry_ms != 0) {
        e->flags |= GW_COMMIT_EXPIRES;
        e->expiry_ms = op->expiry_ms;
    }
    e->op = GW_COMMIT_SET;
    switch (op->verb) {
    case GW_VERB_ADD:
        e->op = GW_COMMIT_COUNTER;
        e->number = op->number;
        break;
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        if (op->kind == GW_KIND_COUNTER) {
            e->op = GW_COMMIT_COUNTER;
            e->number = op->number;
        } else {
            e->value = op->result;
            e->value_bytes = op->result_bytes;
        }
        break;
    default:
        if (op->flags & GW_OP_COUNTER) {
            e->op = GW_COMMIT_COUNTER;
            e->number = op->delta; /* `number` may be the old one by now */
        } else {
            e->value = op->value;
            e->value_bytes = op->value_bytes;
        }
        break;
    }
}

/* Nothing is acknowledged any more: the process ends, and what it did is recovered as far as it is
 * durable. */
static void fail(struct gwi_dispatcher *d, enum gw_status st, const char *what)
{
    struct gwi_commit *c = &d->commit;
    if (c->failed)
        return;
    c->failed = true;
    int none = 0;
    (void)atomic_compare_exchange_strong(&shared(d)->failed, &none, (int)st);
    gw_error("commit", "status=%s dispatcher=%u what=%s next=end", gw_status_name(st), d->index,
             what);
    fprintf(stderr,
            "godwit-server: commit log of dispatcher %u in %s/commit: %s: %s; nothing is "
            "acknowledged any more, the server ends\n",
            d->index, d->server->options.data, what, gw_status_text(st));
    atomic_store(&d->server->fatal, (int)st);
}

/* The group that `serial` of the session belongs to. */
static enum gw_status group_for(struct gwi_commit *c, const struct gwi_session *session,
                                uint64_t serial)
{
    if (GW_LIKELY(c->session == session->id && serial - c->serial_first <= SERIALS_MAX))
        return GW_OK;
    c->session = session->id;
    c->serial_first = serial;
    return gw_commit_group(c->log, session->id, session->applied->confirmed, serial);
}

void gwi_commit_write(struct gwi_dispatcher *d, const struct gwi_session *session, uint64_t serial,
                      const struct gw_op *op)
{
    struct gwi_commit *c = &d->commit;
    GW_ASSERT(c->tag != GWI_NOTHING_OPEN);
    struct gw_commit_entry entry;
    gwi_commit_entry_of(op, &entry);
    entry.serial = serial;
    enum gw_status st = group_for(c, session, serial);
    if (GW_LIKELY(st == GW_OK))
        st = gw_commit_append(c->log, &entry);
    if (GW_UNLIKELY(st != GW_OK)) {
        /* Executed and not to be recovered: `open` stays where it is, for ever. */
        fail(d, st, "no memory for its entries");
        return;
    }
    if (c->first == GWI_NOTHING_OPEN) {
        c->first = c->tag;
        c->gathered_ns = d->now_ns;
    }
    c->gave = true;
}

void gwi_commit_view(struct gwi_dispatcher *d, uint64_t number)
{
    struct gwi_commit *c = &d->commit;
    if (c->view == number)
        return;
    gw_commit_divide(c->log, c->interval, c->view);
    c->view = number;
    c->session = 0;
}

void gwi_commit_cross(struct gwi_dispatcher *d, uint64_t number)
{
    struct gwi_commit *c = &d->commit;
    /* Called again for the same cut: what came in between belongs before it after all. */
    uint64_t before = c->interval < number ? c->interval : number - 1;
    gw_commit_divide(c->log, before, c->view);
    c->interval = number;
    c->session = 0;
}

bool gwi_commit_is_behind(const struct gwi_dispatcher *d)
{
    const struct gwi_commit *c = &d->commit;
    return c->full || c->failed || gw_commit_gathered(c->log) > c->gather_max;
}

/* ---- flushing ---- */

static void give_back(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    /* Acquire: the checkpoint's files are there. */
    uint64_t finished = atomic_load_explicit(&shared(d)->checkpointed, memory_order_acquire);
    if (finished == c->truncated)
        return;
    c->truncated = finished;
    c->asked = false;
    gw_commit_truncate(c->log, finished);
    c->retry_ns = 0;
}

/* How much longer a flush waits for more batches; 0: not at all. */
static uint64_t delay(const struct gwi_dispatcher *d)
{
    const struct gwi_commit *c = &d->commit;
    if (c->full)
        return c->retry_ns > d->now_ns ? c->retry_ns - d->now_ns : 0;
    if (c->batches * 2 >= c->batches_before || gw_commit_gathered(c->log) >= c->gather_max)
        return 0;
    uint64_t longest = c->flush_ns / DELAY_SHARE;
    if (longest > GWI_COMMIT_DELAY_NS_MAX)
        longest = GWI_COMMIT_DELAY_NS_MAX;
    uint64_t waited = d->now_ns - c->gathered_ns;
    return waited < longest ? longest - waited : 0;
}

/* All clients may be on one dispatcher: then its share of the bound is reached long before the
 * bound of all is, at which the server takes a checkpoint by itself. */
static void ask_in_time(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    struct gw_commit_usage usage;
    gw_commit_usage(c->log, &usage);
    if (c->asked || usage.file_bytes - usage.spare_bytes <= c->limit / 2)
        return;
    c->asked = true;
    (void)gwi_checkpoint_ask(d->server); /* its number is nobody's business here */
}

static void flush(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    atomic_fetch_add(&shared(d)->round, 1);
    enum gw_status st = gw_commit_flush(c->log, c->interval, c->view);
    if (GW_UNLIKELY(st == GW_E_FULL)) {
        if (!c->full)
            gw_warn("commit", "status=e_full dispatcher=%u next=checkpoint", d->index);
        c->full = true;
        c->retry_ns = d->now_ns + GWI_COMMIT_FULL_NS;
        (void)gwi_checkpoint_ask(d->server); /* its number is nobody's business here */
        return;
    }
    if (st != GW_PENDING) {
        fail(d, st == GW_OK ? GW_E_IO : st, "cannot be written");
        return;
    }
    if (c->full)
        gw_info("commit", "status=ok dispatcher=%u what=room", d->index);
    c->full = false;
    c->flying = true;
    c->first = GWI_NOTHING_OPEN;
    c->session = 0;
    c->batches_before = c->batches;
    c->batches = 0;
    c->flush_begin_ns = d->now_ns;
    ask_in_time(d);
}

uint64_t gwi_commit_turn(struct gwi_dispatcher *d)
{
    struct gwi_commit *c = &d->commit;
    if (c->waits) {
        c->waits = false; /* a wake-up too many is harmless: relaxed */
        atomic_store_explicit(&shared(d)->dispatcher[d->index].waits, false, memory_order_relaxed);
    }
    if (c->failed)
        return UINT64_MAX;
    if (c->flying) {
        enum gw_status st = gw_commit_poll(c->log);
        if (st == GW_PENDING)
            return UINT64_MAX; /* its end wakes us */
        if (st != GW_OK) {
            fail(d, st, "a write or its sync has failed");
            return UINT64_MAX;
        }
        c->flying = false;
        c->flush_ns = d->now_ns - c->flush_begin_ns;
        close_open(d);
    }
    give_back(d);
    if (c->first == GWI_NOTHING_OPEN)
        return UINT64_MAX;
    uint64_t wait = delay(d);
    if (wait == 0) {
        flush(d);
        wait = c->full ? GWI_COMMIT_FULL_NS : UINT64_MAX;
    }
    return wait;
}

/* ---- opening ---- */

static void flush_ended(void *ctx)
{
    struct gwi_dispatcher *d = ctx;
    gw_net_wake(d->net);
}

enum gw_status gwi_commit_open(struct gwi_dispatcher *d)
{
    struct gwi_server *s = d->server;
    struct gwi_commit *c = &d->commit;
    *c = (struct gwi_commit){.open = GWI_NOTHING_OPEN,
                             .first = GWI_NOTHING_OPEN,
                             .tag = GWI_NOTHING_OPEN};
    if (s->durable.mode != GWI_DURABILITY_COMMIT)
        return GW_OK;
    /* No dispatcher runs yet. Positions begin at 1: 0 says durable. */
    atomic_store(&shared(d)->dispatcher[d->index].open, GWI_NOTHING_OPEN);
    atomic_store(&shared(d)->dispatcher[d->index].waits, false);
    if (atomic_load(&shared(d)->round) == 0)
        atomic_store(&shared(d)->round, 1);
    char dir[sizeof s->options.data + 16], error[GW_COMMIT_TEXT_BYTES] = "";
    snprintf(dir, sizeof dir, "%s/commit", s->options.data);
    uint64_t limit = 2 * s->options.commit_log_bytes / s->options.threads;
    uint64_t file = limit / FILES_OF_LIMIT;
    file = file < FILE_BYTES_MIN ? FILE_BYTES_MIN : file > FILE_BYTES_MAX ? FILE_BYTES_MAX : file;
    struct gw_commit_options options = {.dir = dir,
                                        .store_id = s->data.store_id,
                                        .incarnation = s->data.incarnation,
                                        .dispatcher = (uint16_t)d->index,
                                        .file_bytes = file & ~(uint64_t)(GW_COMMIT_BLOCK_UNIT - 1),
                                        .limit_bytes = limit};
    enum gw_status st = gw_commit_open(&options, &c->log, error);
    if (st != GW_OK) {
        fprintf(stderr, "godwit-server: commit log: %s: %s\n", error[0] ? error : dir,
                gw_status_text(st));
        return st;
    }
    gw_commit_on_done(c->log, flush_ended, d);
    gw_store_give_results(d->store, true);
    c->interval = gw_store_interval(d->store);
    c->limit = limit;
    c->gather_max = (size_t)s->memory.gather_bytes_max;
    return GW_OK;
}

void gwi_commit_close(struct gwi_dispatcher *d)
{
    gw_commit_close(d->commit.log);
    d->commit.log = NULL;
}
