/* Goal: every body survives the trip field by field, is refused when cut, prolonged or given what
 * does not exist, and no flipped bit makes a decoder read what is not there.
 * How: wire_recode decodes from a buffer of the exact size and aborts when what was decoded does
 * not encode to the same bytes. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/wire_recode.h"
#include "wire_samples.h"

#define SAMPLES_MAX 32
static struct wire_sample sample[SAMPLES_MAX];

static size_t load(void)
{
    size_t n = wire_samples(sample, SAMPLES_MAX);
    cr_assert_leq(n, SAMPLES_MAX);
    return n;
}

Test(bodies, there_is_a_sample_of_every_codec)
{
    const struct {
        const struct wire_codec *codec;
        size_t count;
    } table[] = {{wire_ops_codecs + 2, wire_ops_codecs_count - 2}, /* ops, replies: test_ops.c */
                 {wire_peer_codecs, wire_peer_codecs_count},
                 {wire_map_control_codecs, wire_map_control_codecs_count}};
    size_t n = load();
    for (size_t t = 0; t < 3; t++)
        for (size_t c = 0; c < table[t].count; c++) {
            bool found = false;
            for (size_t i = 0; i < n; i++)
                found |= strcmp(sample[i].codec, table[t].codec[c].name) == 0;
            cr_expect(found, "%s", table[t].codec[c].name);
        }
}

Test(bodies, whole_ones_are_taken_and_cut_or_prolonged_ones_refused)
{
    size_t n = load();
    for (size_t i = 0; i < n; i++) {
        struct wire_sample *s = &sample[i];
        const struct wire_codec *codec = wire_codec_find(s->codec);
        size_t good;
        cr_expect_eq(wire_recode(codec, s->body, s->bytes, NULL), GW_OK, "%s", s->codec);
        for (size_t cut = 0; cut < s->bytes; cut++) {
            enum gw_status st = wire_recode(codec, s->body, cut, &good);
            cr_expect(st == GW_E_PROTOCOL || (codec->list && good == cut), "%s cut at %zu",
                      s->codec, cut);
        }
        s->body[s->bytes] = 0xfb; /* no status, kind or length of one byte */
        cr_expect_eq(wire_recode(codec, s->body, s->bytes + 1, NULL), GW_E_PROTOCOL, "%s",
                     s->codec);
    }
}

Test(bodies, flipped_bits_and_bytes_are_refused_or_mean_what_they_say)
{
    static const uint8_t flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 255, 127};
    size_t n = load();
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < sample[i].bytes; at++)
            for (size_t f = 0; f < sizeof flips; f++) {
                sample[i].body[at] ^= flips[f];
                (void)wire_recode(wire_codec_find(sample[i].codec), sample[i].body, sample[i].bytes,
                                  NULL);
                sample[i].body[at] ^= flips[f];
            }
}

/* One good body, and what must not be in it at one place. */
Test(bodies, what_does_not_exist_is_refused)
{
    static const struct {
        const char *codec;
        size_t at;
        uint8_t byte;
    } cases[] = {
        {"hello", 0, 0},         {"hello", 0, 5},
        {"hello", 1, 2},         {"hello", 2, 1},
        {"hello", 3, 1},         {"hello", 20, 0},
        {"hello", 20, 64},       {"hello", 21, ' '},
        {"hello", 21, '/'},      {"hello", 21, 0},
        {"welcome", 12, 2},      {"welcome", 13, 3},
        {"welcome", 14, 1},      {"welcome", 15, 1},
        {"welcome", 49, ':'},    {"welcome", 13, 255},
        {"error", 0, 0},         {"error", 0, 2},
        {"error", 0, 0x80},      {"error", 3, '\n'},
        {"error", 3, 0x7f},      {"error", 3, 0},
        {"join", 16, 0},         {"join", 17, '\\'},
        {"join", 20, 0},         {"join", 20, 64},
        {"join", 21, ' '},       {"join", 21, 0x80},
        {"job", 8, 0},           {"job", 8, 8},
        {"job", 8, 1},           {"job", 9, 2},
        {"job", 11, 1},          {"job", 12, 0},
        {"heartbeat", 264, 65},  {"heartbeat", 265, 65},
        {"heartbeat", 266, 2},   {"heartbeat", 267, 1},
        {"heartbeat", 272, 36}, /* the second one's log */
        {"heartbeat", 304, 100}, {"heartbeat", 307, 64},
        {"heartbeat", 312, 99},  {"job", 44, 8},
        {"job", 44, 0x80},       {"job", 45, 1},
        {"job", 51, 1},          {"job_event", 8, 0},
        {"job_event", 8, 6},     {"job_event", 9, 1},
        {"job_event", 132, 1},   {"job_event", 134, '\r'},
        {"prepare", 8, 13},      {"prepare", 8, 255},
        {"prepare", 9, 8},       {"prepare", 11, 1},
        {"prepare", 12, 0},      {"prepare", 14, 0},
        {"prepared", 0, 100},    {"prepared", 1, 2},
        {"prepared", 2, 1},      {"prepared", 12, 200},
        {"yours", 0, 2},         {"yours", 1, 1},
        {"yours", 3, 1},         {"yours", 16 + 29, 0x40},
        {"yours", 16 + 30, 100}, {"yours", 16 + 31, 0},
        {"yours", 16 + 31, 2},   {"yours", 48 + 16, 1},
        {"chunk", 4, 0},         {"chunk", 6, 2},
        {"chunk", 6, 1},         {"chunk", 7, 2},
        {"chunk", 13 + 8, 7},    {"chunk", 13 + 8, 9},
        {"chunk", 13 + 7, 1},    {"chunk", 41 + 8, 1},
        {"pull", 0, 0},          {"pull", 1, 1},
        {"pull_answer", 0, 4},   {"pull_answer", 0, 1},
        {"scan", 12, 1},         {"scan", 15, 0x80},
        {"scan_reply", 0, 16},   {"scan_reply", 1, 1},
        {"scan_reply", 3, 1},    {"scan_reply", 12, 0},
        {"scan_reply", 14, 2},   {"scan_reply", 14, 1},
        {"scan_reply", 15, 1},
    };
    size_t n = load();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t i = 0;
        while (i < n && strcmp(sample[i].codec, cases[c].codec) != 0)
            i++;
        cr_assert_lt(i, n);
        struct wire_sample bad = sample[i];
        cr_assert_neq(bad.body[cases[c].at], cases[c].byte, "%s byte %zu: no change",
                      cases[c].codec, cases[c].at);
        bad.body[cases[c].at] = cases[c].byte;
        cr_expect_eq(wire_recode(wire_codec_find(bad.codec), bad.body, bad.bytes, NULL),
                     GW_E_PROTOCOL, "%s byte %zu as %u", bad.codec, cases[c].at, cases[c].byte);
    }
}

/* Recoding would not see two fields exchanged in both directions: here each is looked at. */
Test(bodies, every_field_comes_out_where_it_went_in)
{
    uint8_t room[1024];
    struct gw_writer w;
    struct gw_reader r;
#define TRIP(name, from, to)                                                                       \
    memset(&(to), 0xa5, sizeof(to));                                                               \
    w = gw_writer_of(room, sizeof room);                                                           \
    gw_##name##_encode(&(from), &w);                                                               \
    cr_assert_not(w.bad);                                                                          \
    r = gw_reader_of(room, gw_writer_used(&w));                                                    \
    cr_assert_eq(gw_##name##_decode(&r, &(to)), GW_OK, #name);
#define SAME(a, b, field)      cr_expect_eq((a).field, (b).field, #field)
#define SAME_TEXT(a, b, field) cr_expect_str_eq((a).field, (b).field, #field)

    struct gw_hello hello;
    TRIP(hello, sample_hello, hello);
    SAME(hello, sample_hello, role);
    SAME(hello, sample_hello, flags);
    SAME(hello, sample_hello, window);
    SAME(hello, sample_hello, index);
    SAME(hello, sample_hello, incarnation);
    SAME_TEXT(hello, sample_hello, id);

    struct gw_welcome welcome;
    TRIP(welcome, sample_welcome, welcome);
    SAME(welcome, sample_welcome, window);
    SAME(welcome, sample_welcome, frame_bytes_max);
    SAME(welcome, sample_welcome, value_bytes_max);
    SAME(welcome, sample_welcome, flags);
    SAME(welcome, sample_welcome, durability);
    SAME(welcome, sample_welcome, durable);
    SAME(welcome, sample_welcome, forgotten);
    SAME(welcome, sample_welcome, incarnation);
    SAME(welcome, sample_welcome, cluster);
    SAME_TEXT(welcome, sample_welcome, id);

    struct gw_join join;
    TRIP(join, sample_join, join);
    SAME(join, sample_join, incarnation);
    SAME(join, sample_join, cluster);
    SAME_TEXT(join, sample_join, id);
    SAME_TEXT(join, sample_join, address);

    struct gw_heartbeat beat;
    TRIP(heartbeat, sample_heartbeat, beat);
    cr_expect_arr_eq(&beat, &sample_heartbeat, sizeof beat);

    struct gw_needs needs;
    const struct gw_needs want_needs = {.round = 1, .keep_from = 2, .orphan = 3};
    TRIP(needs, want_needs, needs);
    cr_expect_arr_eq(&needs, &want_needs, sizeof needs);

    struct gw_job job, want_job = sample_job();
    TRIP(job, want_job, job);
    SAME(job, want_job, id);
    SAME(job, want_job, commit_version);
    SAME(job, want_job, state);
    SAME(job, want_job, options.rate_bytes);
    SAME(job, want_job, options.sample_bytes);
    SAME(job, want_job, options.max_impact_us);
    SAME(job, want_job, options.sample_ms);
    SAME(job, want_job, options.flags);
    SAME_TEXT(job, want_job, from);
    SAME_TEXT(job, want_job, to);
    SAME_TEXT(job, want_job, from_address);
    SAME_TEXT(job, want_job, to_address);
    SAME_TEXT(job, want_job, error);
    cr_expect_arr_eq(&job.slots, &want_job.slots, sizeof job.slots);

    struct gw_job_event event;
    TRIP(job_event, sample_job_event, event);
    SAME(event, sample_job_event, job);
    SAME(event, sample_job_event, event);
    SAME(event, sample_job_event, bytes_moved);
    SAME(event, sample_job_event, records_moved);
    SAME(event, sample_job_event, chunks_done);
    SAME(event, sample_job_event, chunks);
    SAME(event, sample_job_event, pulls);
    SAME(event, sample_job_event, pause_ns);
    SAME(event, sample_job_event, bytes_left);
    SAME(event, sample_job_event, records_left);
    SAME(event, sample_job_event, rate);
    SAME(event, sample_job_event, indirections);
    SAME(event, sample_job_event, hot_records);
    SAME(event, sample_job_event, retries);
    SAME(event, sample_job_event, source_p99_us);
    SAME(event, sample_job_event, target_p99_us);
    SAME(event, sample_job_event, pull_leads);
    SAME_TEXT(event, sample_job_event, text);

    struct gw_prepare prepare, want_prepare = sample_prepare();
    TRIP(prepare, want_prepare, prepare);
    SAME(prepare, want_prepare, incarnation);
    SAME(prepare, want_prepare, chunk_bits);
    SAME(prepare, want_prepare, flags);
    SAME_TEXT(prepare, want_prepare, from);
    SAME_TEXT(prepare, want_prepare, from_address);
    cr_expect_arr_eq(&prepare.slots, &want_prepare.slots, sizeof prepare.slots);

    struct gw_prepared prepared;
    TRIP(prepared, sample_prepared, prepared);
    SAME(prepared, sample_prepared, status);
    SAME(prepared, sample_prepared, shared_tier);
    SAME(prepared, sample_prepared, incarnation);
    SAME_TEXT(prepared, sample_prepared, text);

    struct gw_yours yours;
    TRIP(yours, sample_yours, yours);
    SAME(yours, sample_yours, last);
    SAME(yours, sample_yours, version_highest);
    SAME(yours, sample_yours, commit_version);

    struct gw_scan scan, want_scan = sample_scan();
    TRIP(scan, want_scan, scan);
    SAME(scan, want_scan, cursor);
    SAME(scan, want_scan, bytes_max);
    cr_expect_arr_eq(&scan.slots, &want_scan.slots, sizeof scan.slots);

    struct gw_scan_reply reply;
    TRIP(scan_reply, sample_scan_reply, reply);
    SAME(reply, sample_scan_reply, status);
    SAME(reply, sample_scan_reply, cursor);
}

Test(bodies, entries_of_lists_come_out_as_they_went_in)
{
    uint8_t room[1024];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    for (size_t i = 0; i < SAMPLE_APPLIED; i++)
        gw_applied_encode(&sample_applied[i], &w);
    cr_expect_eq(gw_writer_used(&w), SAMPLE_APPLIED * GW_APPLIED_BYTES);
    struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
    for (size_t i = 0; i < SAMPLE_APPLIED; i++) {
        struct gw_applied got;
        cr_assert(gw_applied_decode(&r, &got));
        SAME(got, sample_applied[i], session);
        SAME(got, sample_applied[i], serial);
        SAME(got, sample_applied[i], number);
        SAME(got, sample_applied[i], version);
        SAME(got, sample_applied[i], slot);
        SAME(got, sample_applied[i], status);
        SAME(got, sample_applied[i], flags);
    }
    cr_expect_not(gw_applied_decode(&r, &(struct gw_applied){0}));
    cr_expect_not(r.bad);

    w = gw_writer_of(room, sizeof room);
    for (size_t i = 0; i < SAMPLE_PEER_RECORDS; i++)
        gw_peer_record_encode(&sample_peer_record[i], &w);
    r = gw_reader_of(room, gw_writer_used(&w));
    for (size_t i = 0; i < SAMPLE_PEER_RECORDS; i++) {
        struct gw_peer_record got;
        const struct gw_peer_record *want = &sample_peer_record[i];
        memset(&got, 0xa5, sizeof got);
        cr_assert(gw_peer_record_decode(&r, &got));
        SAME(got, *want, version);
        SAME(got, *want, kind);
        SAME(got, *want, tombstone);
        SAME(got, *want, number);
        SAME(got, *want, expiry_ms);
        SAME(got, *want, value_bytes);
        SAME(got, *want, key_bytes);
        cr_expect_arr_eq(got.key, want->key, want->key_bytes);
        if (want->value)
            cr_expect_arr_eq(got.value, want->value, want->value_bytes);
    }

    w = gw_writer_of(room, sizeof room);
    for (size_t i = 0; i < SAMPLE_SCAN_RECORDS; i++)
        gw_scan_record_encode(&sample_scan_record[i], &w);
    r = gw_reader_of(room, gw_writer_used(&w));
    for (size_t i = 0; i < SAMPLE_SCAN_RECORDS; i++) {
        struct gw_scan_record got;
        const struct gw_scan_record *want = &sample_scan_record[i];
        memset(&got, 0xa5, sizeof got);
        cr_assert(gw_scan_record_decode(&r, &got));
        SAME(got, *want, version);
        SAME(got, *want, kind);
        SAME(got, *want, number);
        SAME(got, *want, expiry_ms);
        SAME(got, *want, value_bytes);
        SAME(got, *want, key_bytes);
        cr_expect_arr_eq(got.key, want->key, want->key_bytes);
        if (want->value)
            cr_expect_arr_eq(got.value, want->value, want->value_bytes);
    }

    w = gw_writer_of(room, sizeof room);
    gw_pull_key_encode((const uint8_t *)"key", 3, &w);
    gw_pull_answer_encode(GW_PULL_ASK_AGAIN, NULL, &w);
    gw_pull_answer_encode(GW_PULL_RECORD, &sample_peer_record[1], &w);
    r = gw_reader_of(room, gw_writer_used(&w));
    const uint8_t *key;
    uint16_t key_bytes;
    enum gw_pull_found found;
    struct gw_peer_record record;
    cr_assert(gw_pull_key_decode(&r, &key, &key_bytes));
    cr_expect_eq(key_bytes, 3);
    cr_expect_arr_eq(key, "key", 3);
    cr_assert(gw_pull_answer_decode(&r, &found, &record));
    cr_expect_eq(found, GW_PULL_ASK_AGAIN);
    cr_assert(gw_pull_answer_decode(&r, &found, &record));
    cr_expect_eq(found, GW_PULL_RECORD);
    cr_expect_eq(record.number, -5);
}

/* What may be said together, and how far numbers go. */
Test(bodies, applied_entries_that_contradict_themselves_are_refused)
{
    static const struct gw_applied good = {.session = 1, .serial = 2, .version = 1, .slot = 5};
    static const struct {
        uint8_t flags;
        uint64_t number;
        uint32_t version;
        bool exists;
    } cases[] = {
        {0, 0, 1, true},
        {0, 1, 1, false},
        {GW_WIRE_COUNTER, UINT64_MAX, 1, true},
        {GW_WIRE_VALUE, GW_APPLIED_VALUE_MAX, 1, true},
        {GW_WIRE_VALUE, GW_APPLIED_VALUE_MAX + 1, 1, false},
        {GW_WIRE_LENGTH, UINT32_MAX, 1, true},
        {GW_WIRE_LENGTH, (uint64_t)UINT32_MAX + 1, 1, false},
        {GW_WIRE_NONE, 0, 1, true},
        {GW_WIRE_NONE, 1, 1, false},
        {GW_WIRE_FORGOTTEN, 0, 1, true},
        {GW_APPLIED_PIECE, 99, 7, true},
        {GW_APPLIED_PIECE, 99, 8, false},
        {GW_WIRE_COUNTER | GW_WIRE_VALUE, 0, 1, false},
        {GW_WIRE_VALUE | GW_APPLIED_PIECE, 0, 1, false},
        {GW_WIRE_HAS_SERIAL, 0, 1, false},
        {GW_WIRE_EXPIRES, 0, 1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t room[GW_APPLIED_BYTES];
        struct gw_writer w = gw_writer_of(room, sizeof room);
        gw_applied_encode(&good, &w);
        gw_store64(room + 16, cases[i].number);
        gw_store32(room + 24, cases[i].version);
        room[31] = cases[i].flags;
        struct gw_reader r = gw_reader_of(room, sizeof room);
        struct gw_applied got;
        cr_expect_eq(gw_applied_decode(&r, &got), cases[i].exists, "case %zu", i);
    }
}

Test(bodies, a_record_that_expires_names_a_time)
{
    uint8_t room[128];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_peer_record_encode(&sample_peer_record[4], &w);
    cr_expect_eq(gw_writer_used(&w), 12 + 8 + 5 + 4);
    gw_store64(room + 12, 0);
    struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
    cr_expect_not(gw_peer_record_decode(&r, &(struct gw_peer_record){0}), "a time that is none");
    gw_store64(room + 12, 5);
    room[7] = 3;
    r = gw_reader_of(room, gw_writer_used(&w));
    cr_expect_not(gw_peer_record_decode(&r, &(struct gw_peer_record){0}), "deleted and expiring");

    w = gw_writer_of(room, sizeof room);
    gw_scan_record_encode(&sample_scan_record[3], &w);
    gw_store64(room + 12, 0);
    r = gw_reader_of(room, gw_writer_used(&w));
    cr_expect_not(gw_scan_record_decode(&r, &(struct gw_scan_record){0}));
}

Test(bodies, a_commit_version_goes_with_the_states_behind_the_commit)
{
    uint8_t room[1024];
    for (uint32_t state = GW_JOB_CREATED; state < GW_JOB_STATES; state++)
        for (uint64_t version = 0; version < 2; version++) {
            struct gw_job job = sample_job(), got;
            bool committed = state == GW_JOB_COMMITTED || state == GW_JOB_CLOSING ||
                             state == GW_JOB_DONE || state == GW_JOB_REVIVED;
            job.state = (enum gw_job_state)state;
            job.commit_version = version;
            struct gw_writer w = gw_writer_of(room, sizeof room);
            gw_job_encode(&job, &w);
            struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
            cr_expect_eq(gw_job_decode(&r, &got),
                         committed == (version != 0) ? GW_OK : GW_E_PROTOCOL, "%s",
                         gw_job_state_name(job.state));
        }
    cr_expect_str_eq(gw_job_state_name(GW_JOB_CLOSING), "closing");
    cr_expect_str_eq(gw_job_state_name((enum gw_job_state)99), "unknown");
}

Test(bodies, texts_are_cut_and_cleaned_by_the_encoder)
{
    uint8_t room[1024];
    struct gw_prepared m = {.status = GW_E_REFUSED}, got;
    memset(m.text, 'x', sizeof m.text); /* no zero at its end */
    memcpy(m.text, "a\tb\x1b[31m", 8);
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_prepared_encode(&m, &w);
    struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
    cr_assert_eq(gw_prepared_decode(&r, &got), GW_OK);
    cr_expect_eq(strlen(got.text), sizeof m.text - 1);
    cr_expect_eq(strncmp(got.text, "a b [31mxxx", 11), 0);
}

Test(bodies, encoding_into_too_little_room_is_told)
{
    struct gw_job job = sample_job();
    uint8_t room[1024];
    struct gw_writer whole = gw_writer_of(room, sizeof room);
    gw_job_encode(&job, &whole);
    for (size_t n = 0; n < gw_writer_used(&whole); n++) {
        struct gw_writer w = gw_writer_of(room, n);
        gw_job_encode(&job, &w);
        cr_expect(w.bad, "%zu bytes", n);
    }
}
