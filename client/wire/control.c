/* control.c - bodies of what a server and the coordinator say to each other. Each decode fills a
 * local value and hands it out only when the whole body was good. */
#include "client/wire/control.h"

#include "client/wire/names.h"

const char *gw_job_state_name(enum gw_job_state state)
{
    switch (state) {
    case GW_JOB_CREATED:
        return "created";
    case GW_JOB_COMMITTED:
        return "committed";
    case GW_JOB_CLOSING:
        return "closing";
    case GW_JOB_DONE:
        return "done";
    case GW_JOB_CANCELLED:
        return "cancelled";
    case GW_JOB_FAILED:
        return "failed";
    case GW_JOB_REVIVED:
        return "revived";
    case GW_JOB_STATES:
        break;
    }
    return "unknown";
}

void gw_join_encode(const struct gw_join *m, struct gw_writer *w)
{
    gw_write64(w, m->incarnation);
    gw_write64(w, m->cluster);
    gwi_id_encode(m->id, w);
    gwi_address_encode(m->address, w);
}

enum gw_status gw_join_decode(struct gw_reader *r, struct gw_join *out)
{
    struct gw_join m = {0};
    m.incarnation = gw_read64(r);
    m.cluster = gw_read64(r);
    gwi_id_decode(r, m.id, GWI_REQUIRED);
    gwi_address_decode(r, m.address, GWI_REQUIRED);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_heartbeat_encode(const struct gw_heartbeat *m, struct gw_writer *w)
{
    gw_write64(w, m->incarnation);
    gw_write64(w, m->map_version);
    gw_write64(w, m->operations);
    gw_write64(w, m->keys);
    gw_write64(w, m->memory_used);
    gw_write64(w, m->memory_total);
    gw_write64(w, m->sessions);
    gw_write64(w, m->disk_used);
    gw_write64(w, m->disk_total);
    gw_write64(w, m->live_bytes);
    gw_write64(w, m->cold_reads);
    gw_write64(w, m->evicted);
    gw_write64(w, m->expired);
    gw_write64(w, m->compacted);
    gw_write64(w, m->compacted_live);
    gw_write64(w, m->durability);
    gw_write64(w, m->checkpoint);
    gw_write64(w, m->checkpoint_age_ms);
    gw_write64(w, m->checkpoint_ns);
    gw_write64(w, m->log_bytes);
    gw_write64(w, m->checkpoints);
    gw_write64(w, m->checkpoints_failed);
    gw_write64(w, m->recovered);
    gw_write64(w, m->recovery_ms);
    gw_write64(w, m->recovered_entries);
    gw_write64(w, m->sessions_forgotten);
    gw_write64(w, m->log_id);
    gw_write64(w, m->round);
    gw_write64(w, m->shared_used);
    gw_write64(w, m->shared_lag);
    gw_write64(w, m->foreign_reads);
    gw_write64(w, m->indirections);
    gw_write64(w, m->orphan_done);
    gw_write8(w, (uint8_t)m->needs);
    gw_write8(w, (uint8_t)m->loads);
    gw_write8(w, (uint8_t)m->flags);
    gwi_zero_encode(w, 5);
    for (uint32_t i = 0; i < m->needs && i < GW_HEARTBEAT_NEEDS_MAX; i++) {
        gw_write64(w, m->need[i].log_id);
        gw_write64(w, m->need[i].lowest);
    }
    for (uint32_t i = 0; i < m->loads && i < GW_HEARTBEAT_LOADS_MAX; i++) {
        gw_write16(w, m->load[i].first);
        gw_write16(w, m->load[i].last);
        gw_write32(w, m->load[i].operations);
    }
    gwi_text_encode(m->trouble, sizeof m->trouble - 1, w);
}

static void needs_and_loads_decode(struct gw_reader *r, struct gw_heartbeat *m)
{
    m->needs = gw_read8(r);
    m->loads = gw_read8(r);
    m->flags = gw_read8(r);
    gwi_zero_decode(r, 5);
    gwi_expect(r, m->needs <= GW_HEARTBEAT_NEEDS_MAX && m->loads <= GW_HEARTBEAT_LOADS_MAX);
    gwi_expect(r, (m->flags & ~(uint64_t)GW_HEARTBEAT_NEEDS_ALL) == 0);
    for (uint32_t i = 0; i < m->needs && !r->bad; i++) {
        m->need[i].log_id = gw_read64(r);
        m->need[i].lowest = gw_read64(r);
        gwi_expect(r, m->need[i].log_id != 0);
        for (uint32_t j = 0; j < i; j++)
            gwi_expect(r, m->need[j].log_id != m->need[i].log_id);
    }
    for (uint32_t i = 0; i < m->loads && !r->bad; i++) {
        struct gw_load *load = &m->load[i];
        load->first = gw_read16(r);
        load->last = gw_read16(r);
        load->operations = gw_read32(r);
        gwi_expect(r, load->first <= load->last && load->last < GW_SLOTS);
        gwi_expect(r, i == 0 || m->load[i - 1].last < load->first);
    }
}

enum gw_status gw_heartbeat_decode(struct gw_reader *r, struct gw_heartbeat *out)
{
    struct gw_heartbeat m = {0};
    m.incarnation = gw_read64(r);
    m.map_version = gw_read64(r);
    m.operations = gw_read64(r);
    m.keys = gw_read64(r);
    m.memory_used = gw_read64(r);
    m.memory_total = gw_read64(r);
    m.sessions = gw_read64(r);
    m.disk_used = gw_read64(r);
    m.disk_total = gw_read64(r);
    m.live_bytes = gw_read64(r);
    m.cold_reads = gw_read64(r);
    m.evicted = gw_read64(r);
    m.expired = gw_read64(r);
    m.compacted = gw_read64(r);
    m.compacted_live = gw_read64(r);
    m.durability = gw_read64(r);
    m.checkpoint = gw_read64(r);
    m.checkpoint_age_ms = gw_read64(r);
    m.checkpoint_ns = gw_read64(r);
    m.log_bytes = gw_read64(r);
    m.checkpoints = gw_read64(r);
    m.checkpoints_failed = gw_read64(r);
    m.recovered = gw_read64(r);
    m.recovery_ms = gw_read64(r);
    m.recovered_entries = gw_read64(r);
    m.sessions_forgotten = gw_read64(r);
    m.log_id = gw_read64(r);
    m.round = gw_read64(r);
    m.shared_used = gw_read64(r);
    m.shared_lag = gw_read64(r);
    m.foreign_reads = gw_read64(r);
    m.indirections = gw_read64(r);
    m.orphan_done = gw_read64(r);
    needs_and_loads_decode(r, &m);
    gwi_text_decode(r, m.trouble, sizeof m.trouble);
    gwi_expect(r, m.durability <= 2);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_needs_encode(const struct gw_needs *m, struct gw_writer *w)
{
    gw_write64(w, m->round);
    gw_write64(w, m->keep_from);
    gw_write64(w, m->orphan);
}

enum gw_status gw_needs_decode(struct gw_reader *r, struct gw_needs *out)
{
    struct gw_needs m = {0};
    m.round = gw_read64(r);
    m.keep_from = gw_read64(r);
    m.orphan = gw_read64(r);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

static bool state_after_commit(uint8_t state)
{
    return state == GW_JOB_COMMITTED || state == GW_JOB_CLOSING || state == GW_JOB_DONE ||
           state == GW_JOB_REVIVED;
}

static void options_encode(const struct gw_job_options *m, struct gw_writer *w)
{
    gw_write64(w, m->rate_bytes);
    gw_write64(w, m->sample_bytes);
    gw_write32(w, m->max_impact_us);
    gw_write32(w, m->sample_ms);
    gw_write8(w, m->flags);
    gwi_zero_encode(w, 7);
}

static void options_decode(struct gw_reader *r, struct gw_job_options *m)
{
    m->rate_bytes = gw_read64(r);
    m->sample_bytes = gw_read64(r);
    m->max_impact_us = gw_read32(r);
    m->sample_ms = gw_read32(r);
    m->flags = gw_read8(r);
    gwi_zero_decode(r, 7);
    gwi_expect(r,
               (m->flags & ~(GW_JOB_NO_SAMPLING | GW_JOB_NO_INDIRECTION | GW_JOB_NO_PULLS)) == 0);
}

void gw_job_encode(const struct gw_job *m, struct gw_writer *w)
{
    gw_write64(w, m->id);
    gw_write8(w, (uint8_t)m->state);
    gw_write8(w, m->paused);
    gwi_zero_encode(w, 2);
    gw_write64(w, m->commit_version);
    options_encode(&m->options, w);
    gwi_id_encode(m->from, w);
    gwi_id_encode(m->to, w);
    gwi_address_encode(m->from_address, w);
    gwi_address_encode(m->to_address, w);
    gw_slots_encode(&m->slots, w);
    gwi_text_encode(m->error, sizeof m->error - 1, w);
}

enum gw_status gw_job_decode(struct gw_reader *r, struct gw_job *out)
{
    struct gw_job m = {0};
    m.id = gw_read64(r);
    uint8_t state = gw_read8(r);
    uint8_t paused = gw_read8(r);
    gwi_zero_decode(r, 2);
    m.commit_version = gw_read64(r);
    options_decode(r, &m.options);
    gwi_id_decode(r, m.from, GWI_REQUIRED);
    gwi_id_decode(r, m.to, GWI_REQUIRED);
    gwi_address_decode(r, m.from_address, GWI_OPTIONAL);
    gwi_address_decode(r, m.to_address, GWI_OPTIONAL);
    gw_slots_decode(r, &m.slots);
    gwi_text_decode(r, m.error, sizeof m.error);
    gwi_expect(r, state >= GW_JOB_CREATED && state < GW_JOB_STATES);
    gwi_expect(r, paused <= 1);
    gwi_expect(r, state_after_commit(state) == (m.commit_version != 0));
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK) {
        m.state = (enum gw_job_state)state;
        m.paused = paused != 0;
        *out = m;
    }
    return st;
}

void gw_job_event_encode(const struct gw_job_event *m, struct gw_writer *w)
{
    gw_write64(w, m->job);
    gw_write8(w, (uint8_t)m->event);
    gwi_zero_encode(w, 3);
    gw_write64(w, m->bytes_moved);
    gw_write64(w, m->records_moved);
    gw_write64(w, m->chunks_done);
    gw_write64(w, m->chunks);
    gw_write64(w, m->pulls);
    gw_write64(w, m->pause_ns);
    gw_write64(w, m->bytes_left);
    gw_write64(w, m->records_left);
    gw_write64(w, m->rate);
    gw_write64(w, m->indirections);
    gw_write64(w, m->hot_records);
    gw_write64(w, m->retries);
    gw_write64(w, m->source_p99_us);
    gw_write64(w, m->target_p99_us);
    gw_write64(w, m->pull_leads);
    gwi_text_encode(m->text, sizeof m->text - 1, w);
}

enum gw_status gw_job_event_decode(struct gw_reader *r, struct gw_job_event *out)
{
    struct gw_job_event m = {0};
    m.job = gw_read64(r);
    uint8_t event = gw_read8(r);
    gwi_zero_decode(r, 3);
    m.bytes_moved = gw_read64(r);
    m.records_moved = gw_read64(r);
    m.chunks_done = gw_read64(r);
    m.chunks = gw_read64(r);
    m.pulls = gw_read64(r);
    m.pause_ns = gw_read64(r);
    m.bytes_left = gw_read64(r);
    m.records_left = gw_read64(r);
    m.rate = gw_read64(r);
    m.indirections = gw_read64(r);
    m.hot_records = gw_read64(r);
    m.retries = gw_read64(r);
    m.source_p99_us = gw_read64(r);
    m.target_p99_us = gw_read64(r);
    m.pull_leads = gw_read64(r);
    gwi_text_decode(r, m.text, sizeof m.text);
    gwi_expect(r, event >= GW_JOB_PROGRESS && event <= GW_JOB_GAVE_UP);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK) {
        m.event = (enum gw_job_event_kind)event;
        *out = m;
    }
    return st;
}
