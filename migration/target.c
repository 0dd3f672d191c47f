/* target.c - the control machine of an incoming job.
 *
 * Rules:
 *  1. PREPARED is said when whatever we had of the range is unlinked and every dispatcher lets its
 *     operations wait (MIGRATION R3); until then the source is told to ask again.
 *  2. Only the coordinator commits: a JOB, a map that gives us the range, or "yours", which the
 *     source sends behind the commit only. From then on nothing cancels the job.
 *  3. The range is served when the last part of "yours" is merged (R7) and the map names us (R1).
 *     What comes again later is acknowledged and not merged: the sessions know more by then.
 *  4. An attempt replaces the one before; parts and frames of another one are dropped (R12). Lives
 *     of the source and attempts within one rise: a PREPARE of a lower one comes late, from the
 *     buffers of an old connection. Clocks may jump, so the map has the last word on lives.
 *  5. "Secured" is said when every chunk is complete and durable, not before (R24); until then the
 *     source keeps everything. It is said again and again: only the source knows in which attempt
 * it wants to hear it. */
#include "migration/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/log_line.h"
#include "migration/frame_internal.h"

#define FETCH_MAP_NS 200000000ull
#define SECURED_NS   300000000ull
#define MERGING_MAX  63u /* parts under way */
#define FRAMES_MAX   4u  /* of a step */
#define FRAME_BYTES  (GW_FRAME_HEADER + 256u)

struct gw_target {
    uint64_t job;
    struct gw_slots slots;
    uint64_t incarnation;
    enum gw_target_state state;
    char source_address[GW_ADDRESS_BYTES_MAX + 1];
    uint8_t chunk_bits; /* 0: no PREPARE yet */
    uint8_t flags;
    bool can_share; /* gw_target_able */

    uint64_t attempt;          /* 0: no PREPARE yet */
    uint64_t source_life;      /* incarnation of its process, of that PREPARE */
    uint64_t attempt_received; /* for which RECEIVE was given */
    uint64_t parts_next;       /* of "yours": the part that is merged next */
    uint64_t parts_merged;     /* all below are merged */
    uint64_t merged_mask;      /* bit i: parts_merged + i is merged, too */
    uint64_t last_part;        /* UINT64_MAX: not known */
    uint32_t version_highest;
    struct gw_applied *entries; /* owned; of the last part */
    size_t entries_room;

    bool committed;
    bool map_owned; /* the adopted map gives us the range */
    bool cancel_wanted, done_wanted, all_complete;
    bool resumed;
    bool closing;            /* the source has heard of all chunks that they are durable here */
    uint64_t secure_ns;      /* when SECURED is due again */
    uint64_t commit_version; /* 0: not known */
    uint64_t fetch_at_ns;

    uint32_t frames;
    uint8_t frame[FRAMES_MAX][FRAME_BYTES];
};

static const struct {
    const char *name;
    uint32_t next;
} states[GW_TARGET_STATES] = {
    [GW_TARGET_NEW] = {"new", GW_BIT(GW_TARGET_UNLINKING) | GW_BIT(GW_TARGET_ENTERING) |
                                  GW_BIT(GW_TARGET_CANCELLED) | GW_BIT(GW_TARGET_DONE)},
    [GW_TARGET_UNLINKING] = {"unlinking", GW_BIT(GW_TARGET_ENTERING) | GW_BIT(GW_TARGET_CANCELLED)},
    [GW_TARGET_ENTERING] = {"entering", GW_BIT(GW_TARGET_PREPARED) | GW_BIT(GW_TARGET_LEAVING)},
    [GW_TARGET_PREPARED] = {"prepared", GW_BIT(GW_TARGET_RECEIVING) | GW_BIT(GW_TARGET_LEAVING) |
                                            GW_BIT(GW_TARGET_SETTLING)},
    [GW_TARGET_RECEIVING] = {"receiving", GW_BIT(GW_TARGET_SERVING) | GW_BIT(GW_TARGET_SETTLING)},
    [GW_TARGET_SERVING] = {"serving", GW_BIT(GW_TARGET_SECURING) | GW_BIT(GW_TARGET_SETTLING)},
    [GW_TARGET_SECURING] = {"securing", GW_BIT(GW_TARGET_SETTLING)},
    [GW_TARGET_SETTLING] = {"settling", GW_BIT(GW_TARGET_COMPLETE)},
    [GW_TARGET_COMPLETE] = {"complete", GW_BIT(GW_TARGET_DONE)},
    [GW_TARGET_DONE] = {"done", 0},
    [GW_TARGET_LEAVING] = {"leaving", GW_BIT(GW_TARGET_CANCELLED)},
    [GW_TARGET_CANCELLED] = {"cancelled", 0},
};

const char *gw_target_state_name(enum gw_target_state state)
{
    return (unsigned)state < GW_TARGET_STATES ? states[state].name : "unknown";
}

static void check(const struct gw_target *t)
{
    bool cancelled = t->state == GW_TARGET_LEAVING || t->state == GW_TARGET_CANCELLED;
    GW_ASSERT(GW_IMPLIES(cancelled, !t->committed));
    GW_ASSERT(GW_IMPLIES(t->state == GW_TARGET_RECEIVING, t->committed));
    GW_ASSERT(GW_IMPLIES(t->state == GW_TARGET_SERVING, t->map_owned));
    GW_ASSERT(GW_IMPLIES(t->state == GW_TARGET_SERVING, t->chunk_bits != 0));
    GW_ASSERT(GW_IMPLIES(t->state == GW_TARGET_SECURING, t->all_complete));
    GW_ASSERT(t->parts_merged <= t->parts_next);
}

static void move(struct gw_target *t, enum gw_target_state next) /* only writer of t->state */
{
    GW_ASSERT(states[t->state].next & GW_BIT(next));
    gw_log_move("migration.target", t->job, states[t->state].name, states[next].name);
    t->state = next;
    check(t);
}

enum gw_status gw_target_create(uint64_t job, const struct gw_slots *slots, uint64_t incarnation,
                                bool resumed, struct gw_target **out)
{
    if (gw_slots_count(slots) == 0)
        return GW_E_INVALID;
    struct gw_target *t = calloc(1, sizeof *t);
    if (!t)
        return GW_E_NOMEM;
    t->job = job;
    t->slots = *slots;
    t->incarnation = incarnation;
    t->resumed = resumed;
    t->last_part = UINT64_MAX;
    *out = t;
    return GW_OK;
}

void gw_target_able(struct gw_target *t, bool shared_tier)
{
    t->can_share = shared_tier;
}

void gw_target_destroy(struct gw_target *t)
{
    if (!t)
        return;
    free(t->entries);
    free(t);
}

/* ---- actions ------------------------------------------------------------------------------- */

static struct gw_target_action *act(struct gw_target_actions *out, enum gw_target_action_kind kind)
{
    GW_ASSERT(out->count < GW_TARGET_ACTIONS_MAX);
    struct gw_target_action *a = &out->action[out->count++];
    *a = (struct gw_target_action){.kind = kind};
    return a;
}

static void act_cut(struct gw_target_actions *out, enum gw_range_state range)
{
    act(out, GW_TARGET_DO_BEGIN_CUT)->range = range;
}

static void act_finish(struct gw_target_actions *out, enum gw_status result)
{
    act(out, GW_TARGET_DO_FINISH)->result = result;
}

static struct gw_writer frame_start(struct gw_target *t)
{
    GW_ASSERT(t->frames < FRAMES_MAX);
    return gwi_frame_start(t->frame[t->frames], FRAME_BYTES);
}

static void act_frame(struct gw_target *t, struct gw_target_actions *out, struct gw_writer *w,
                      uint8_t kind, uint64_t sequence)
{
    size_t bytes = gwi_frame_finish(w, (struct gw_frame){.kind = kind,
                                                         .session = t->job,
                                                         .sequence = sequence,
                                                         .view = t->attempt});
    GW_ASSERT(bytes > 0);
    struct gw_target_action *a = act(out, GW_TARGET_DO_SEND_PEER);
    a->frame = t->frame[t->frames++];
    a->frame_bytes = bytes;
}

static void send_prepared(struct gw_target *t, struct gw_target_actions *out, enum gw_status st,
                          const char *text)
{
    struct gw_prepared m = {.incarnation = t->incarnation,
                            .status = (int8_t)st,
                            .shared_tier = t->can_share};
    snprintf(m.text, sizeof m.text, "%s", text);
    struct gw_writer w = frame_start(t);
    gw_prepared_encode(&m, &w);
    act_frame(t, out, &w, GW_KIND_PREPARED, 0);
}

static void send_ack(struct gw_target *t, struct gw_target_actions *out, uint64_t part)
{
    struct gw_writer w = frame_start(t);
    act_frame(t, out, &w, GW_KIND_YOURS_ACK, part);
}

static void send_secured(struct gw_target *t, struct gw_target_actions *out, uint64_t now_ns)
{
    struct gw_writer w = frame_start(t);
    gw_secured_encode(&(struct gw_secured){.incarnation = t->incarnation}, &w);
    act_frame(t, out, &w, GW_KIND_SECURED, 0);
    t->secure_ns = now_ns + SECURED_NS;
}

/* ---- moving on ----------------------------------------------------------------------------- */

static void begin(struct gw_target *t, struct gw_target_actions *out)
{
    if (t->resumed) {
        move(t, GW_TARGET_ENTERING);
        act_cut(out, GW_RANGE_WAITING);
        return;
    }
    move(t, GW_TARGET_UNLINKING);
    act(out, GW_TARGET_DO_BEGIN_UNLINK);
}

static void settle(struct gw_target *t, struct gw_target_actions *out)
{
    move(t, GW_TARGET_SETTLING);
    act_cut(out, GW_RANGE_OWNED);
}

static void commit_known(struct gw_target *t, uint64_t version)
{
    t->committed = true;
    if (t->commit_version == 0)
        t->commit_version = version;
}

/* What several events may make possible. */
static void go_on(struct gw_target *t, struct gw_target_actions *out)
{
    if (t->state == GW_TARGET_RECEIVING && t->parts_merged > t->last_part && t->map_owned) {
        move(t, GW_TARGET_SERVING);
        act(out, GW_TARGET_DO_BEGIN_SERVING)->version_highest = t->version_highest;
    }
    if (t->state == GW_TARGET_SERVING && t->all_complete) {
        move(t, GW_TARGET_SECURING);
        act(out, GW_TARGET_DO_SECURE);
    }
    /* An earlier life of us has said that it has everything for good, and here it is. */
    if (t->resumed && t->closing && t->map_owned &&
        (t->state == GW_TARGET_PREPARED || t->state == GW_TARGET_RECEIVING))
        settle(t, out);
    /* The source is gone for good, it closed when an earlier life of us had everything. */
    if (t->done_wanted && t->map_owned && t->state >= GW_TARGET_PREPARED &&
        t->state <= GW_TARGET_SECURING)
        settle(t, out);
    if (t->done_wanted && t->state == GW_TARGET_COMPLETE) {
        move(t, GW_TARGET_DONE);
        act_finish(out, GW_OK);
    }
}

static void cancel(struct gw_target *t, struct gw_target_actions *out)
{
    if (t->committed) {
        gw_warn("cancel_after_commit", "job=%llu action=ignored", (unsigned long long)t->job);
        return;
    }
    switch (t->state) {
    case GW_TARGET_NEW:
        move(t, GW_TARGET_CANCELLED);
        act_finish(out, GW_E_CANCELLED);
        break;
    case GW_TARGET_UNLINKING:
    case GW_TARGET_ENTERING:
        t->cancel_wanted = true; /* when what is under way has ended */
        break;
    case GW_TARGET_PREPARED:
        move(t, GW_TARGET_LEAVING);
        act_cut(out, GW_RANGE_FOREIGN);
        break;
    default:
        break;
    }
}

/* ---- events -------------------------------------------------------------------------------- */

static void adopt_attempt(struct gw_target *t, uint64_t attempt)
{
    if (attempt == t->attempt)
        return;
    t->attempt = attempt;
    t->parts_next = 0;
    t->parts_merged = 0;
    t->merged_mask = 0;
    t->last_part = UINT64_MAX;
}

static void on_prepare(struct gw_target *t, const struct gw_target_event *e,
                       struct gw_target_actions *out)
{
    const struct gw_prepare *m = e->prepare;
    if (m->incarnation == t->source_life ? e->attempt < t->attempt
                                         : m->incarnation < t->source_life && !e->current)
        return; /* rule 4 */
    t->source_life = m->incarnation;
    adopt_attempt(t, e->attempt);
    if (memcmp(&m->slots, &t->slots, sizeof t->slots) != 0 ||
        (t->chunk_bits != 0 && m->chunk_bits != t->chunk_bits)) {
        send_prepared(t, out, GW_E_INVALID, "the job is known here with other slots or chunks");
        return;
    }
    t->chunk_bits = m->chunk_bits;
    t->flags = m->flags;
    memcpy(t->source_address, m->from_address, sizeof t->source_address);
    if (t->state == GW_TARGET_NEW)
        begin(t, out);
    if (t->state == GW_TARGET_UNLINKING || t->state == GW_TARGET_ENTERING)
        send_prepared(t, out, GW_PENDING, "");
    else if (t->state == GW_TARGET_LEAVING || t->state == GW_TARGET_CANCELLED)
        send_prepared(t, out, GW_E_CANCELLED, "the job is cancelled");
    else
        send_prepared(t, out, GW_OK, "");
}

static void on_job(struct gw_target *t, const struct gw_job *job, struct gw_target_actions *out)
{
    if (job->id != t->job)
        return;
    if (t->source_address[0] == 0)
        memcpy(t->source_address, job->from_address, sizeof t->source_address);
    switch (job->state) {
    case GW_JOB_COMMITTED:
    case GW_JOB_CLOSING:
        if (t->state == GW_TARGET_LEAVING || t->state == GW_TARGET_CANCELLED) {
            gw_error("commit_after_cancel", "job=%llu", (unsigned long long)t->job);
            return;
        }
        commit_known(t, job->commit_version);
        t->closing |= job->state == GW_JOB_CLOSING;
        if (t->state == GW_TARGET_NEW)
            begin(t, out);
        break;
    case GW_JOB_CANCELLED:
    case GW_JOB_FAILED:
        cancel(t, out);
        break;
    case GW_JOB_DONE:
        t->done_wanted = true;
        if (t->state == GW_TARGET_NEW) {
            move(t, GW_TARGET_DONE);
            act_finish(out, GW_OK);
        }
        break;
    default:
        break;
    }
}

static void on_map(struct gw_target *t, const struct gw_target_event *e)
{
    bool cancelled = t->state == GW_TARGET_LEAVING || t->state == GW_TARGET_CANCELLED;
    if (!e->owned || cancelled)
        return;
    commit_known(t, e->map_version);
    t->map_owned = true;
}

static bool entries_want(struct gw_target *t, size_t count)
{
    if (count <= t->entries_room)
        return true;
    struct gw_applied *entries = realloc(t->entries, count * sizeof *entries);
    if (!entries)
        return false;
    t->entries = entries;
    t->entries_room = count;
    return true;
}

/* The next part, well-formed or not. */
static enum gw_status take_part(struct gw_target *t, const struct gw_target_event *e,
                                const struct gw_yours *m, struct gw_reader *r,
                                struct gw_target_actions *out)
{
    if ((uint64_t)e->count * GW_APPLIED_BYTES != gw_reader_left(r))
        return GW_E_PROTOCOL;
    if (!entries_want(t, e->count))
        return GW_OK; /* it comes again */
    for (uint32_t i = 0; i < e->count; i++)
        if (!gw_applied_decode(r, &t->entries[i]) || !gw_slots_has(&t->slots, t->entries[i].slot))
            return GW_E_PROTOCOL;
    t->parts_next++;
    t->version_highest = m->version_highest;
    if (m->last)
        t->last_part = e->part;
    struct gw_target_action *a = act(out, GW_TARGET_DO_MERGE_APPLIED);
    a->entries = t->entries;
    a->entries_count = e->count;
    a->part = e->part;
    a->attempt = t->attempt;
    return GW_OK;
}

static enum gw_status on_yours(struct gw_target *t, const struct gw_target_event *e,
                               struct gw_target_actions *out)
{
    if (e->attempt != t->attempt || t->state < GW_TARGET_PREPARED || t->state > GW_TARGET_COMPLETE)
        return GW_OK; /* rule 4, or we are not that far: it comes again */
    struct gw_reader r = e->body;
    struct gw_yours m;
    enum gw_status st = gw_yours_decode(&r, &m);
    if (st != GW_OK)
        return st;
    commit_known(t, m.commit_version); /* rule 2 */
    if (t->state == GW_TARGET_PREPARED)
        move(t, GW_TARGET_RECEIVING);
    if (t->attempt_received != t->attempt) {
        t->attempt_received = t->attempt;
        act(out, GW_TARGET_DO_RECEIVE)->attempt = t->attempt;
    }
    bool merged = e->part < t->parts_merged ||
                  (e->part < t->parts_next && (t->merged_mask >> (e->part - t->parts_merged)) & 1);
    if (t->state != GW_TARGET_RECEIVING || merged)
        send_ack(t, out, e->part); /* rule 3; or the ack was lost */
    else if (e->part == t->parts_next && t->last_part == UINT64_MAX &&
             e->part - t->parts_merged < MERGING_MAX)
        return take_part(t, e, &m, &r, out);
    return GW_OK;
}

static void on_merged(struct gw_target *t, const struct gw_target_event *e,
                      struct gw_target_actions *out)
{
    if (t->state != GW_TARGET_RECEIVING || e->attempt != t->attempt || e->part < t->parts_merged ||
        e->part >= t->parts_next)
        return;
    send_ack(t, out, e->part);
    t->merged_mask |= (uint64_t)1 << (e->part - t->parts_merged);
    for (; t->merged_mask & 1; t->merged_mask >>= 1)
        t->parts_merged++;
}

/* Later parts under way are taken again behind it; merging twice does no harm. */
static void on_merge_failed(struct gw_target *t, const struct gw_target_event *e)
{
    if (t->state != GW_TARGET_RECEIVING || e->attempt != t->attempt || e->part < t->parts_merged ||
        e->part >= t->parts_next)
        return;
    t->parts_next = e->part;
    t->merged_mask &= ((uint64_t)1 << (e->part - t->parts_merged)) - 1;
    t->last_part = UINT64_MAX;
}

static void on_unlinked(struct gw_target *t, struct gw_target_actions *out)
{
    if (t->state != GW_TARGET_UNLINKING)
        return;
    if (t->cancel_wanted && !t->committed) {
        move(t, GW_TARGET_CANCELLED);
        act_finish(out, GW_E_CANCELLED);
        return;
    }
    move(t, GW_TARGET_ENTERING);
    act_cut(out, GW_RANGE_WAITING);
}

static void on_secured(struct gw_target *t, struct gw_target_actions *out)
{
    if (t->state == GW_TARGET_SECURING)
        settle(t, out); /* the frame goes out below, as its repeats do */
}

static void on_cut_passed(struct gw_target *t, struct gw_target_actions *out)
{
    switch (t->state) {
    case GW_TARGET_ENTERING:
        if (t->cancel_wanted && !t->committed) {
            move(t, GW_TARGET_LEAVING);
            act_cut(out, GW_RANGE_FOREIGN);
            break;
        }
        move(t, GW_TARGET_PREPARED);
        if (t->attempt != 0)
            send_prepared(t, out, GW_OK, "");
        break;
    case GW_TARGET_SETTLING:
        move(t, GW_TARGET_COMPLETE);
        break;
    case GW_TARGET_LEAVING:
        move(t, GW_TARGET_CANCELLED);
        act_finish(out, GW_E_CANCELLED);
        break;
    default:
        break;
    }
}

enum gw_status gw_target_step(struct gw_target *t, const struct gw_target_event *e, uint64_t now_ns,
                              struct gw_target_actions *out)
{
    enum gw_status st = GW_OK;
    out->count = 0;
    t->frames = 0;
    switch (e->kind) {
    case GW_TARGET_ON_PREPARE:
        on_prepare(t, e, out);
        break;
    case GW_TARGET_ON_ABANDON:
        cancel(t, out);
        break;
    case GW_TARGET_ON_JOB:
        on_job(t, e->job, out);
        break;
    case GW_TARGET_ON_MAP_ADOPTED:
        on_map(t, e);
        break;
    case GW_TARGET_ON_YOURS:
        st = on_yours(t, e, out);
        break;
    case GW_TARGET_ON_MERGED:
        on_merged(t, e, out);
        break;
    case GW_TARGET_ON_MERGE_FAILED:
        on_merge_failed(t, e);
        break;
    case GW_TARGET_ON_UNLINKED:
        on_unlinked(t, out);
        break;
    case GW_TARGET_ON_CUT_PASSED:
        on_cut_passed(t, out);
        break;
    case GW_TARGET_ON_ALL_COMPLETE:
        t->all_complete = true;
        break;
    case GW_TARGET_ON_SECURED:
        on_secured(t, out);
        break;
    case GW_TARGET_ON_PEER_DOWN: /* the source connects again; we only answer */
    case GW_TARGET_ON_TICK:
        break;
    }
    go_on(t, out);
    bool has_all = t->state == GW_TARGET_SETTLING || t->state == GW_TARGET_COMPLETE;
    if (has_all && t->attempt != 0 &&
        (now_ns >= t->secure_ns || e->kind == GW_TARGET_ON_PREPARE)) /* rule 5 */
        send_secured(t, out, now_ns);
    if (t->committed && !t->map_owned && t->state < GW_TARGET_DONE && now_ns >= t->fetch_at_ns) {
        t->fetch_at_ns = now_ns + FETCH_MAP_NS;
        act(out, GW_TARGET_DO_FETCH_MAP)->map_version = t->commit_version;
    }
    return st;
}

enum gw_target_state gw_target_state(const struct gw_target *t)
{
    return t->state;
}
uint64_t gw_target_job(const struct gw_target *t)
{
    return t->job;
}
const struct gw_slots *gw_target_slots(const struct gw_target *t)
{
    return &t->slots;
}
uint8_t gw_target_chunk_bits(const struct gw_target *t)
{
    return t->chunk_bits;
}
uint64_t gw_target_attempt(const struct gw_target *t)
{
    return t->attempt;
}
const char *gw_target_source_address(const struct gw_target *t)
{
    return t->source_address;
}
bool gw_target_committed(const struct gw_target *t)
{
    return t->committed;
}
uint8_t gw_target_flags(const struct gw_target *t)
{
    return t->flags;
}
