/* source.c - the control machine of an outgoing job.
 *
 * A step first takes in the event, then drives: whatever the state and the connection want done and
 * whose time has come is done. Repeats, first tries and what a lost connection left undone are so
 * the same code.
 *
 * Rules:
 *  1. Until a JOB shows the commit we own and serve the range, and only the coordinator ends the
 *     job: giving up is asking for it (MIGRATION R3). After the commit there is no way but forward.
 *  2. The commit is asked for only while the target's PREPARED of this attempt stands.
 *  3. "Yours" is collected behind our cut, when whatever was executed before it is durable, once,
 *     and kept until the job ends (R5, R7, R22).
 *  4. A connection lost behind the first "yours" raises the attempt: PREPARE, every part of "yours"
 *     and every chunk that is not acknowledged go out under the new one.
 *  5. A target that comes back with another incarnation has nothing: before the commit the job is
 *     given up, after it all acks so far are void.
 *  6. The store gathers nothing for us outside of SAMPLING: every way out of it ends that. The cut
 *     comes soon behind it, so what was gathered is still the hot set. Nor is it asked for before
 *     what was there at the beginning is durable, for what is not has to become so between the
 *     cut and "yours", while nobody serves the range.
 *  7. We keep everything until the target has said that it has it durably, in this life of its and
 *     in this attempt (R24): an acknowledged chunk may be forgotten by a target that restarts. */
#include "migration/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/log_line.h"
#include "migration/frame_internal.h"

#define MS               1000000ull
#define REPEAT_FIRST_NS  (200 * MS)
#define REPEAT_MAX_NS    (500 * MS)
#define CONNECT_FIRST_NS (50 * MS)
#define PREPARE_MAX_NS   (10000 * MS)
#define DURABLE_NS_MAX   (5000 * MS) /* longer the sampling phase does not wait for it */
#define PROGRESS_NS      (500 * MS)
#define SAMPLE_NS        (500 * MS) /* gw_job_options.sample_ms */
#define PART_ENTRIES     4096u
#define PARTS_IN_FLIGHT  4u

enum link { LINK_DOWN, LINK_CONNECTING, LINK_GREETING, LINK_READY };

/* A thing that is repeated until its answer comes. */
struct repeat {
    uint64_t at_ns; /* when it is due */
    uint64_t wait_ns;
};

struct gw_source {
    struct gw_job job;
    enum gw_source_state state;
    uint64_t incarnation;
    char self_address[GW_ADDRESS_BYTES_MAX + 1];
    uint8_t chunk_bits;
    uint64_t attempt;

    enum link link;
    struct repeat connect, greet, tell, yours;
    uint64_t unanswered_since_ns; /* no PREPARED since; matters before the commit */
    uint64_t target_incarnation;  /* 0: not known */
    bool target_secured;          /* that one, in this attempt (rule 7) */
    bool all_acked;               /* every chunk, in this attempt */
    char reason[128];             /* of giving up */

    bool can_sample, can_share; /* gw_source_able */
    bool target_shares;         /* as its last PREPARED said */
    bool gathering;             /* BEGIN_SAMPLING has been given, END_SAMPLING not (rule 6) */
    bool sampled;
    bool durable;                            /* gw_source_durable */
    uint64_t sample_until_ns, wait_until_ns; /* while gathering; from then on */

    struct gw_applied *applied; /* owned */
    size_t applied_count;
    uint32_t version_highest;
    bool collect_again; /* there was no memory for it */
    uint32_t parts, parts_acked, parts_sent;
    uint8_t *part_acked; /* owned; one byte each */

    bool shipped;      /* START_SHIPPING has been given */
    bool from_scratch; /* for the next RESTART_SHIPPING */

    /* The step's frames; they move while they grow, so actions get their pointers at the end. */
    uint8_t *arena;
    size_t arena_used, arena_bytes;
    size_t frame_at[GW_SOURCE_ACTIONS_MAX];
};

static const struct {
    const char *name;
    uint32_t next;
} states[GW_SOURCE_STATES] = {
    [GW_SOURCE_NEW] = {"new", GW_BIT(GW_SOURCE_PREPARING) | GW_BIT(GW_SOURCE_CUTTING) |
                                  GW_BIT(GW_SOURCE_UNLINKING) | GW_BIT(GW_SOURCE_DONE) |
                                  GW_BIT(GW_SOURCE_CANCELLED)},
    [GW_SOURCE_PREPARING] = {"preparing",
                             GW_BIT(GW_SOURCE_SAMPLING) | GW_BIT(GW_SOURCE_ASKING) |
                                 GW_BIT(GW_SOURCE_GIVING_UP) | GW_BIT(GW_SOURCE_CUTTING) |
                                 GW_BIT(GW_SOURCE_CANCELLED) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_SAMPLING] = {"sampling", GW_BIT(GW_SOURCE_ASKING) | GW_BIT(GW_SOURCE_GIVING_UP) |
                                            GW_BIT(GW_SOURCE_CUTTING) |
                                            GW_BIT(GW_SOURCE_CANCELLED) |
                                            GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_ASKING] = {"asking", GW_BIT(GW_SOURCE_GIVING_UP) | GW_BIT(GW_SOURCE_CUTTING) |
                                        GW_BIT(GW_SOURCE_CANCELLED) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_GIVING_UP] = {"giving up", GW_BIT(GW_SOURCE_CUTTING) | GW_BIT(GW_SOURCE_CANCELLED) |
                                              GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_CUTTING] = {"cutting", GW_BIT(GW_SOURCE_SECURING) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_SECURING] = {"securing", GW_BIT(GW_SOURCE_COLLECTING) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_COLLECTING] = {"collecting", GW_BIT(GW_SOURCE_YOURS) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_YOURS] = {"yours", GW_BIT(GW_SOURCE_SHIPPING) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_SHIPPING] = {"shipping", GW_BIT(GW_SOURCE_YOURS) | GW_BIT(GW_SOURCE_ARRIVED) |
                                            GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_ARRIVED] = {"arrived", GW_BIT(GW_SOURCE_YOURS) | GW_BIT(GW_SOURCE_UNLINKING) |
                                          GW_BIT(GW_SOURCE_DONE) | GW_BIT(GW_SOURCE_REVIVED)},
    [GW_SOURCE_UNLINKING] = {"unlinking", GW_BIT(GW_SOURCE_SETTLING)},
    [GW_SOURCE_SETTLING] = {"settling", GW_BIT(GW_SOURCE_CLOSED)},
    [GW_SOURCE_CLOSED] = {"closed", GW_BIT(GW_SOURCE_DONE)},
    [GW_SOURCE_DONE] = {"done", 0},
    [GW_SOURCE_CANCELLED] = {"cancelled", 0},
    [GW_SOURCE_REVIVED] = {"revived", 0},
};

const char *gw_source_state_name(enum gw_source_state state)
{
    return (unsigned)state < GW_SOURCE_STATES ? states[state].name : "unknown";
}

static bool before_commit(const struct gw_source *s)
{
    return s->state <= GW_SOURCE_GIVING_UP;
}

/* Does the state want the target to be there? */
static bool wants_peer(const struct gw_source *s)
{
    return (s->state >= GW_SOURCE_PREPARING && s->state <= GW_SOURCE_ASKING) ||
           (s->state >= GW_SOURCE_CUTTING && s->state <= GW_SOURCE_ARRIVED);
}

static void check(const struct gw_source *s)
{
    GW_ASSERT(GW_IMPLIES(s->state == GW_SOURCE_ASKING, s->target_incarnation != 0));
    GW_ASSERT(GW_IMPLIES(s->state == GW_SOURCE_SAMPLING, s->target_incarnation != 0));
    GW_ASSERT(GW_IMPLIES(before_commit(s), s->parts == 0 && !s->shipped));
    GW_ASSERT(
        GW_IMPLIES(s->state >= GW_SOURCE_YOURS && s->state <= GW_SOURCE_ARRIVED, s->parts > 0));
    GW_ASSERT(GW_IMPLIES(s->state == GW_SOURCE_SHIPPING, s->shipped));
    GW_ASSERT(GW_IMPLIES(s->state == GW_SOURCE_ARRIVED, s->shipped));
    GW_ASSERT(GW_IMPLIES(s->state == GW_SOURCE_ARRIVED, s->all_acked && s->target_secured));
    GW_ASSERT(s->parts_acked <= s->parts);
}

static void move(struct gw_source *s, enum gw_source_state next) /* only writer of s->state */
{
    GW_ASSERT(states[s->state].next & GW_BIT(next));
    gw_log_move("migration.source", s->job.id, states[s->state].name, states[next].name);
    s->state = next;
    s->tell = (struct repeat){0};
    check(s);
}

static bool due(struct repeat *r, uint64_t now_ns, uint64_t first_ns)
{
    if (now_ns < r->at_ns)
        return false;
    r->wait_ns = r->wait_ns == 0 ? first_ns : r->wait_ns * 2;
    if (r->wait_ns > REPEAT_MAX_NS)
        r->wait_ns = REPEAT_MAX_NS;
    r->at_ns = now_ns + r->wait_ns;
    return true;
}

enum gw_status gw_source_create(const struct gw_job *job, uint64_t incarnation,
                                const char *self_address, uint8_t chunk_bits,
                                struct gw_source **out)
{
    if (gw_slots_count(&job->slots) == 0 || chunk_bits == 0 || chunk_bits > GW_CHUNK_BITS_MAX)
        return GW_E_INVALID;
    struct gw_source *s = calloc(1, sizeof *s);
    if (!s)
        return GW_E_NOMEM;
    s->job = *job;
    s->incarnation = incarnation;
    snprintf(s->self_address, sizeof s->self_address, "%s", self_address);
    s->chunk_bits = chunk_bits;
    s->attempt = gw_attempt_first(incarnation);
    s->durable = true;
    *out = s;
    return GW_OK;
}

void gw_source_able(struct gw_source *s, bool samples, bool shared_tier)
{
    GW_ASSERT(s->state == GW_SOURCE_NEW);
    s->can_sample = samples;
    s->can_share = shared_tier;
}

void gw_source_durable(struct gw_source *s, bool durable)
{
    s->durable = durable;
}

void gw_source_destroy(struct gw_source *s)
{
    if (!s)
        return;
    free(s->applied);
    free(s->part_acked);
    free(s->arena);
    free(s);
}

/* ---- actions ------------------------------------------------------------------------------- */

static struct gw_source_action *act(struct gw_source_actions *out, enum gw_source_action_kind kind)
{
    GW_ASSERT(out->count < GW_SOURCE_ACTIONS_MAX);
    struct gw_source_action *a = &out->action[out->count++];
    *a = (struct gw_source_action){.kind = kind};
    return a;
}

static void act_finish(struct gw_source_actions *out, enum gw_status result)
{
    act(out, GW_SOURCE_DO_FINISH)->result = result;
}

static void act_cut(struct gw_source_actions *out, enum gw_range_state range)
{
    act(out, GW_SOURCE_DO_BEGIN_CUT)->range = range;
}

static void act_event(struct gw_source *s, struct gw_source_actions *out,
                      enum gw_job_event_kind event, const char *text)
{
    struct gw_source_action *a = act(out, GW_SOURCE_DO_SEND_EVENT);
    a->event.job = s->job.id;
    a->event.event = event;
    snprintf(a->event.text, sizeof a->event.text, "%s", text);
}

/* Room for a frame of at most `bytes`; false: out of memory. */
static bool frame_start(struct gw_source *s, size_t bytes, struct gw_writer *w)
{
    if (s->arena_bytes - s->arena_used < bytes) {
        uint8_t *arena = realloc(s->arena, s->arena_used + bytes);
        if (!arena)
            return false;
        s->arena = arena;
        s->arena_bytes = s->arena_used + bytes;
    }
    *w = gwi_frame_start(s->arena + s->arena_used, bytes);
    return true;
}

static void act_frame(struct gw_source *s, struct gw_source_actions *out, struct gw_writer *w,
                      uint8_t kind, uint32_t entries, uint64_t sequence)
{
    size_t bytes = gwi_frame_finish(w, (struct gw_frame){.kind = kind,
                                                         .count = entries,
                                                         .session = s->job.id,
                                                         .sequence = sequence,
                                                         .view = s->attempt});
    GW_ASSERT(bytes > 0);
    s->frame_at[out->count] = s->arena_used;
    act(out, GW_SOURCE_DO_SEND_PEER)->frame_bytes = bytes;
    s->arena_used += bytes;
}

static void frames_point(struct gw_source *s, struct gw_source_actions *out)
{
    for (uint32_t i = 0; i < out->count; i++)
        if (out->action[i].kind == GW_SOURCE_DO_SEND_PEER)
            out->action[i].frame = s->arena + s->frame_at[i];
}

static void send_prepare(struct gw_source *s, struct gw_source_actions *out)
{
    struct gw_writer w;
    if (!frame_start(s, GW_FRAME_HEADER + 256 + GW_SLOTS_WIRE_MAX, &w))
        return;
    struct gw_prepare m = {.incarnation = s->incarnation,
                           .chunk_bits = s->chunk_bits,
                           .flags = s->job.options.flags,
                           .slots = s->job.slots};
    memcpy(m.from, s->job.from, sizeof m.from);
    memcpy(m.from_address, s->self_address, sizeof m.from_address);
    gw_prepare_encode(&m, &w);
    act_frame(s, out, &w, GW_KIND_PREPARE, 0, 0);
}

static void send_abandon(struct gw_source *s, struct gw_source_actions *out)
{
    struct gw_writer w;
    if (frame_start(s, GW_FRAME_HEADER, &w))
        act_frame(s, out, &w, GW_KIND_ABANDON, 0, 0);
}

static void send_part(struct gw_source *s, struct gw_source_actions *out, uint32_t part)
{
    size_t first = (size_t)part * PART_ENTRIES;
    size_t n = s->applied_count - first < PART_ENTRIES ? s->applied_count - first : PART_ENTRIES;
    struct gw_writer w;
    if (!frame_start(s, GW_FRAME_HEADER + 64 + n * GW_APPLIED_BYTES, &w))
        return;
    struct gw_yours m = {.commit_version = s->job.commit_version,
                         .version_highest = s->version_highest,
                         .last = part + 1 == s->parts};
    gw_yours_encode(&m, &w);
    for (size_t i = 0; i < n; i++)
        gw_applied_encode(&s->applied[first + i], &w);
    act_frame(s, out, &w, GW_KIND_YOURS, (uint32_t)n, part);
}

/* ---- events -------------------------------------------------------------------------------- */

/* Another attempt, or another target: what it has said of having things is void. */
static void yours_forget(struct gw_source *s)
{
    s->all_acked = s->target_secured = false;
    if (s->parts == 0)
        return;
    memset(s->part_acked, 0, s->parts);
    s->parts_acked = 0;
    s->parts_sent = 0;
    s->yours = (struct repeat){0};
}

static void give_up(struct gw_source *s, const char *reason)
{
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    move(s, GW_SOURCE_GIVING_UP);
}

static void begin_cut(struct gw_source *s, struct gw_source_actions *out)
{
    move(s, GW_SOURCE_CUTTING);
    act_cut(out, GW_RANGE_LEAVING);
}

static void begin_unlink(struct gw_source *s, struct gw_source_actions *out)
{
    move(s, GW_SOURCE_UNLINKING);
    act(out, GW_SOURCE_DO_BEGIN_UNLINK);
}

static void end_gathering(struct gw_source *s, struct gw_source_actions *out) /* rule 6 */
{
    if (s->gathering)
        act(out, GW_SOURCE_DO_END_SAMPLING);
    s->gathering = false;
}

static void cancelled(struct gw_source *s, struct gw_source_actions *out)
{
    end_gathering(s, out);
    if (s->link >= LINK_GREETING)
        send_abandon(s, out);
    move(s, GW_SOURCE_CANCELLED);
    act_finish(out, GW_E_CANCELLED);
}

static void on_start(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    if (s->state != GW_SOURCE_NEW)
        return;
    switch (s->job.state) {
    case GW_JOB_COMMITTED:
        begin_cut(s, out);
        break;
    case GW_JOB_CLOSING:
        begin_unlink(s, out);
        break;
    case GW_JOB_DONE:
        move(s, GW_SOURCE_DONE);
        act_finish(out, GW_OK);
        break;
    case GW_JOB_CANCELLED:
    case GW_JOB_FAILED:
    case GW_JOB_REVIVED:
        cancelled(s, out);
        break;
    default:
        s->unanswered_since_ns = now_ns;
        move(s, GW_SOURCE_PREPARING);
        break;
    }
}

static void on_job(struct gw_source *s, const struct gw_job *job, struct gw_source_actions *out)
{
    if (job->id != s->job.id || s->state == GW_SOURCE_NEW || s->state >= GW_SOURCE_DONE)
        return;
    struct gw_slots slots = s->job.slots; /* fixed at creation */
    if (job->paused != s->job.paused)
        s->tell = (struct repeat){0}; /* resumed: at once */
    s->job = *job;
    s->job.slots = slots;
    bool ours = before_commit(s);
    switch (job->state) {
    case GW_JOB_COMMITTED:
        if (ours)
            begin_cut(s, out);
        break;
    case GW_JOB_CLOSING: /* while a restarted target is served again: when that is done */
        if (s->state == GW_SOURCE_ARRIVED)
            begin_unlink(s, out);
        break;
    case GW_JOB_DONE:
        if (s->state == GW_SOURCE_CLOSED || s->state == GW_SOURCE_ARRIVED) {
            move(s, GW_SOURCE_DONE);
            act_finish(out, GW_OK);
        }
        break;
    case GW_JOB_CANCELLED:
    case GW_JOB_FAILED:
        if (ours)
            cancelled(s, out);
        else
            gw_error("job_cancelled_after_commit", "job=%llu state=%s",
                     (unsigned long long)s->job.id, states[s->state].name);
        break;
    case GW_JOB_REVIVED: /* the target is fenced: nothing is said to it any more */
        if (states[s->state].next & GW_BIT(GW_SOURCE_REVIVED)) {
            end_gathering(s, out);
            move(s, GW_SOURCE_REVIVED);
            act_finish(out, GW_E_CANCELLED);
        } else {
            gw_error("job_revived_while_unlinking", "job=%llu state=%s",
                     (unsigned long long)s->job.id, states[s->state].name);
        }
        break;
    default:
        break;
    }
}

static void on_peer_up(struct gw_source *s)
{
    if (s->link != LINK_CONNECTING)
        return;
    s->link = LINK_GREETING;
    s->greet = (struct repeat){0};
}

static void on_peer_down(struct gw_source *s, uint64_t now_ns)
{
    if (s->link == LINK_DOWN)
        return;
    bool greeted = s->link >= LINK_GREETING;
    if (s->link == LINK_READY) {
        s->connect = (struct repeat){0};
        s->unanswered_since_ns = now_ns;
    }
    s->link = LINK_DOWN;
    s->connect.at_ns = now_ns + (s->connect.wait_ns ? s->connect.wait_ns : CONNECT_FIRST_NS);
    if (s->state < GW_SOURCE_YOURS || s->state > GW_SOURCE_ARRIVED)
        return;
    if (!greeted)
        return;   /* nothing was sent over it */
    s->attempt++; /* rule 4 */
    if (s->state == GW_SOURCE_ARRIVED)
        return; /* rule 7: it has everything for good, if it is the same one that comes back */
    yours_forget(s);
    if (s->state == GW_SOURCE_SHIPPING)
        move(s, GW_SOURCE_YOURS);
}

/* Rule 5; false: the job was given up. */
static bool target_known(struct gw_source *s, uint64_t incarnation)
{
    bool changed = s->target_incarnation != 0 && s->target_incarnation != incarnation;
    s->target_incarnation = incarnation;
    if (!changed)
        return true;
    if (before_commit(s)) {
        give_up(s, "the target has restarted");
        return false;
    }
    s->from_scratch = true;
    if (s->state == GW_SOURCE_ARRIVED)
        move(s, GW_SOURCE_YOURS);
    yours_forget(s);
    return true;
}

static void on_prepared(struct gw_source *s, const struct gw_source_event *e, uint64_t now_ns)
{
    if (s->link != LINK_GREETING || e->attempt != s->attempt || !wants_peer(s))
        return;
    s->unanswered_since_ns = now_ns;
    s->target_shares = e->prepared->shared_tier;
    enum gw_status st = (enum gw_status)e->prepared->status;
    if (gw_failed(st) && before_commit(s)) {
        give_up(s, e->prepared->text[0] ? e->prepared->text : gw_status_text(st));
        return;
    }
    if (st != GW_OK) /* not ready yet: ask again; behind the commit whatever it is */
        return;
    if (!target_known(s, e->prepared->incarnation))
        return;
    s->link = LINK_READY;
    s->connect = (struct repeat){0};
    if (s->state != GW_SOURCE_PREPARING)
        return;
    bool sampling = s->can_sample && !(s->job.options.flags & GW_JOB_NO_SAMPLING);
    move(s, sampling ? GW_SOURCE_SAMPLING : GW_SOURCE_ASKING);
}

static void on_sampled(struct gw_source *s)
{
    if (s->gathering)
        s->sample_until_ns = 0;
}

static void on_cut_passed(struct gw_source *s, struct gw_source_actions *out)
{
    if (s->state == GW_SOURCE_CUTTING) {
        move(s, GW_SOURCE_SECURING);
        act(out, GW_SOURCE_DO_SECURE);
    } else if (s->state == GW_SOURCE_SETTLING) {
        move(s, GW_SOURCE_CLOSED);
    }
}

static void on_secured(struct gw_source *s, struct gw_source_actions *out)
{
    if (s->state != GW_SOURCE_SECURING)
        return;
    move(s, GW_SOURCE_COLLECTING);
    act(out, GW_SOURCE_DO_COLLECT_APPLIED);
}

static void on_applied(struct gw_source *s, const struct gw_source_event *e)
{
    if (s->state != GW_SOURCE_COLLECTING)
        return;
    size_t count = e->applied.count;
    uint32_t parts = count == 0 ? 1 : (uint32_t)((count + PART_ENTRIES - 1) / PART_ENTRIES);
    struct gw_applied *applied = malloc(count == 0 ? 1 : count * sizeof *applied);
    uint8_t *part_acked = calloc(parts, 1);
    if (!applied || !part_acked) {
        free(applied);
        free(part_acked);
        s->collect_again = true;
        return;
    }
    if (count > 0)
        memcpy(applied, e->applied.entries, count * sizeof *applied);
    s->applied = applied;
    s->applied_count = count;
    s->version_highest = e->applied.version_highest;
    s->parts = parts;
    s->part_acked = part_acked;
    move(s, GW_SOURCE_YOURS);
}

static void on_yours_ack(struct gw_source *s, const struct gw_source_event *e)
{
    if (s->state != GW_SOURCE_YOURS || e->attempt != s->attempt || e->part >= s->parts ||
        s->part_acked[e->part])
        return;
    s->part_acked[e->part] = 1;
    s->parts_acked++;
}

static void on_all_acked(struct gw_source *s, const struct gw_source_event *e)
{
    if (s->state == GW_SOURCE_SHIPPING && e->attempt == s->attempt)
        s->all_acked = true;
}

static void on_target_secured(struct gw_source *s, const struct gw_source_event *e)
{
    /* It may come before the acks: a target that had everything says so at once. */
    if ((s->state == GW_SOURCE_YOURS || s->state == GW_SOURCE_SHIPPING) && s->link == LINK_READY &&
        e->attempt == s->attempt && e->incarnation == s->target_incarnation)
        s->target_secured = true;
}

static void on_unlinked(struct gw_source *s, struct gw_source_actions *out)
{
    if (s->state != GW_SOURCE_UNLINKING)
        return;
    move(s, GW_SOURCE_SETTLING);
    act_cut(out, GW_RANGE_FOREIGN);
}

/* ---- driving ------------------------------------------------------------------------------- */

static void drive_link(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    if (!wants_peer(s))
        return;
    if (s->link == LINK_DOWN && due(&s->connect, now_ns, CONNECT_FIRST_NS)) {
        s->link = LINK_CONNECTING;
        act(out, GW_SOURCE_DO_CONNECT_PEER);
    }
    if (s->link == LINK_GREETING && due(&s->greet, now_ns, REPEAT_FIRST_NS))
        send_prepare(s, out);
    bool patient = s->state >= GW_SOURCE_PREPARING && s->state <= GW_SOURCE_ASKING;
    if (patient && s->link != LINK_READY && now_ns - s->unanswered_since_ns >= PREPARE_MAX_NS)
        give_up(s, s->link == LINK_GREETING ? "the target does not answer"
                                            : "the target cannot be reached");
}

static void drive_yours(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    if (s->link != LINK_READY)
        return;
    if (s->parts_acked == s->parts) {
        struct gw_source_action *a =
            act(out, s->shipped ? GW_SOURCE_DO_RESTART_SHIPPING : GW_SOURCE_DO_START_SHIPPING);
        a->attempt = s->attempt;
        a->indirection =
            s->can_share && s->target_shares && !(s->job.options.flags & GW_JOB_NO_INDIRECTION);
        a->from_scratch = s->shipped && s->from_scratch;
        s->shipped = true;
        s->from_scratch = false;
        move(s, GW_SOURCE_SHIPPING);
        return;
    }
    /* The target merges parts in order and acknowledges each: some are in flight, and when acks
     * stay away they are sent again. */
    uint32_t first = 0;
    while (s->part_acked[first])
        first++;
    if (due(&s->yours, now_ns, REPEAT_FIRST_NS))
        s->parts_sent = first;
    while (s->parts_sent < s->parts && s->parts_sent < first + PARTS_IN_FLIGHT)
        send_part(s, out, s->parts_sent++);
}

/* Rule 6. */
static void drive_sampling(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    bool wanted = s->state == GW_SOURCE_SAMPLING && !s->job.paused;
    if (wanted && !s->gathering && !s->sampled) {
        uint64_t ms = s->job.options.sample_ms;
        s->gathering = true;
        s->sample_until_ns = now_ns + (ms ? ms * MS : SAMPLE_NS);
        s->wait_until_ns = s->sample_until_ns + DURABLE_NS_MAX;
        act(out, GW_SOURCE_DO_BEGIN_SAMPLING);
    } else if (wanted && now_ns >= s->sample_until_ns) {
        s->sampled = true;
    }
    if (!wanted || s->sampled)
        end_gathering(s, out);
    if (wanted && s->sampled && (s->durable || now_ns >= s->wait_until_ns))
        move(s, GW_SOURCE_ASKING);
}

static void drive_events(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    switch (s->state) {
    case GW_SOURCE_SAMPLING:
        if (due(&s->tell, now_ns, PROGRESS_NS))
            act_event(s, out, GW_JOB_PROGRESS, s->job.paused ? "paused" : "sampling");
        break;
    case GW_SOURCE_ASKING:
        if (s->job.paused) { /* it may have been cancelled meanwhile: that is what we are told */
            if (due(&s->tell, now_ns, PROGRESS_NS))
                act_event(s, out, GW_JOB_PROGRESS, "paused");
        } else if (s->link == LINK_READY && due(&s->tell, now_ns, REPEAT_FIRST_NS)) {
            act_event(s, out, GW_JOB_ASK_COMMIT, ""); /* rule 2 */
        }
        break;
    case GW_SOURCE_GIVING_UP:
        if (due(&s->tell, now_ns, REPEAT_FIRST_NS))
            act_event(s, out, GW_JOB_GAVE_UP, s->reason);
        break;
    case GW_SOURCE_ARRIVED:
        if (due(&s->tell, now_ns, REPEAT_FIRST_NS))
            act_event(s, out, GW_JOB_ARRIVED, "");
        break;
    case GW_SOURCE_CLOSED:
        if (due(&s->tell, now_ns, REPEAT_FIRST_NS))
            act_event(s, out, GW_JOB_CLOSED, "");
        break;
    case GW_SOURCE_DONE:
    case GW_SOURCE_CANCELLED:
    case GW_SOURCE_REVIVED:
    case GW_SOURCE_NEW:
        break;
    default:
        if (due(&s->tell, now_ns, PROGRESS_NS))
            act_event(s, out, GW_JOB_PROGRESS, states[s->state].name);
        break;
    }
}

static void drive(struct gw_source *s, uint64_t now_ns, struct gw_source_actions *out)
{
    drive_link(s, now_ns, out);
    drive_sampling(s, now_ns, out);
    if (s->state == GW_SOURCE_COLLECTING && s->collect_again) {
        s->collect_again = false;
        act(out, GW_SOURCE_DO_COLLECT_APPLIED);
    }
    if (s->state == GW_SOURCE_YOURS)
        drive_yours(s, now_ns, out);
    if (s->state == GW_SOURCE_SHIPPING && s->all_acked && s->target_secured) { /* rule 7 */
        move(s, GW_SOURCE_ARRIVED);
        if (s->job.state == GW_JOB_CLOSING)
            begin_unlink(s, out);
    }
    drive_events(s, now_ns, out);
}

void gw_source_step(struct gw_source *s, const struct gw_source_event *e, uint64_t now_ns,
                    struct gw_source_actions *out)
{
    out->count = 0;
    s->arena_used = 0;
    switch (e->kind) {
    case GW_SOURCE_ON_START:
        on_start(s, now_ns, out);
        break;
    case GW_SOURCE_ON_JOB:
        on_job(s, e->job, out);
        break;
    case GW_SOURCE_ON_PEER_UP:
        on_peer_up(s);
        break;
    case GW_SOURCE_ON_PEER_DOWN:
        on_peer_down(s, now_ns);
        break;
    case GW_SOURCE_ON_PREPARED:
        on_prepared(s, e, now_ns);
        break;
    case GW_SOURCE_ON_SAMPLED:
        on_sampled(s);
        break;
    case GW_SOURCE_ON_CUT_PASSED:
        on_cut_passed(s, out);
        break;
    case GW_SOURCE_ON_SECURED:
        on_secured(s, out);
        break;
    case GW_SOURCE_ON_APPLIED_COLLECTED:
        on_applied(s, e);
        break;
    case GW_SOURCE_ON_YOURS_ACK:
        on_yours_ack(s, e);
        break;
    case GW_SOURCE_ON_ALL_CHUNKS_ACKED:
        on_all_acked(s, e);
        break;
    case GW_SOURCE_ON_TARGET_SECURED:
        on_target_secured(s, e);
        break;
    case GW_SOURCE_ON_UNLINKED:
        on_unlinked(s, out);
        break;
    case GW_SOURCE_ON_TICK:
        break;
    }
    drive(s, now_ns, out);
    frames_point(s, out);
}

enum gw_source_state gw_source_state(const struct gw_source *s)
{
    return s->state;
}
const struct gw_job *gw_source_job(const struct gw_source *s)
{
    return &s->job;
}
uint8_t gw_source_chunk_bits(const struct gw_source *s)
{
    return s->chunk_bits;
}
uint64_t gw_source_attempt(const struct gw_source *s)
{
    return s->attempt;
}
bool gw_source_sampled(const struct gw_source *s)
{
    return s->sampled;
}
