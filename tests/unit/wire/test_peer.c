/* Goal: an indirection goes over the wire as it is, and one that says what none can say is refused.
 * How: the codec alone; each field that has a bound is put beyond it. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/wire/peer.h"
#include "wire_samples.h"

#define RECORD_BYTES (12u + GW_PEER_INDIRECTION_BYTES)

static size_t encode(uint8_t *room, const struct gw_peer_indirection *m)
{
    uint8_t value[GW_PEER_INDIRECTION_BYTES];
    struct gw_writer w = gw_writer_of(room, RECORD_BYTES);
    const struct gw_peer_record record = gw_peer_indirection_record(m, value);
    cr_assert_eq(gw_peer_record_bytes(&record), RECORD_BYTES);
    gw_peer_record_encode(&record, &w);
    cr_assert_not(w.bad);
    return gw_writer_used(&w);
}

static bool decodes(const uint8_t *room)
{
    struct gw_reader r = gw_reader_of(room, RECORD_BYTES);
    struct gw_peer_record record;
    bool good = gw_peer_record_decode(&r, &record);
    cr_assert_eq(good, !r.bad);
    return good;
}

Test(peer, an_indirection_comes_out_as_it_went_in)
{
    uint8_t room[RECORD_BYTES];
    const struct gw_peer_indirection none = {0}, whole = {.hash_prefix = 1, .prefix_bits = 64};
    const struct gw_peer_indirection *all[] = {&sample_peer_indirection, &none, &whole};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(encode(room, all[i]), RECORD_BYTES);
        struct gw_reader r = gw_reader_of(room, RECORD_BYTES);
        struct gw_peer_record record;
        cr_assert(gw_peer_record_decode(&r, &record));
        struct gw_peer_indirection got;
        cr_assert(gw_peer_indirection_of(&record, &got));
        cr_expect_eq(got.log_id, all[i]->log_id);
        cr_expect_eq(got.address, all[i]->address);
        cr_expect_eq(got.hash_prefix, all[i]->hash_prefix);
        cr_expect_eq(got.map_version, all[i]->map_version);
        cr_expect_eq(got.begin, all[i]->begin);
        cr_expect_eq(got.slot, all[i]->slot);
        cr_expect_eq(got.prefix_bits, all[i]->prefix_bits);
    }
    cr_expect_not(gw_peer_indirection_of(&sample_peer_record[1], &(struct gw_peer_indirection){0}));
}

Test(peer, an_indirection_that_says_what_none_can_say_is_refused)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } bad[] = {
        {0, 1},               /* a version */
        {4, 1},               /* a key */
        {6, 3},               /* a kind that is none */
        {7, 1},     {7, 2},   /* a tombstone, an expiry */
        {8, 39},    {8, 41},  /* another length */
        {26, 1},              /* an address beyond what a log has */
        {28, 1},              /* a bit of the hash behind the prefix */
        {45, 0x40},           /* a slot that is none */
        {46, 65},   {46, 11}, /* more bits than a hash has; fewer than the prefix needs */
        {51, 1},              /* a begin beyond what a log has */
    };
    uint8_t room[RECORD_BYTES];
    encode(room, &sample_peer_indirection);
    cr_assert(decodes(room));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        encode(room, &sample_peer_indirection);
        cr_assert_neq(room[bad[i].at], bad[i].byte);
        room[bad[i].at] = bad[i].byte;
        cr_expect_not(decodes(room), "byte %zu is %u", bad[i].at, bad[i].byte);
    }
    /* A tombstone without a value and without a key. */
    encode(room, &sample_peer_indirection);
    room[7] = 1;
    room[8] = 0;
    struct gw_reader r = gw_reader_of(room, 12);
    cr_expect_not(gw_peer_record_decode(&r, &(struct gw_peer_record){0}));
    encode(room, &sample_peer_indirection);
    r = gw_reader_of(room, RECORD_BYTES - 1);
    cr_expect_not(gw_peer_record_decode(&r, &(struct gw_peer_record){0}));
}

Test(peer, rule_15_a_pull_says_where_a_key_lies_by_a_lead_and_by_nothing_else)
{
    uint8_t room[1 + 64];
    enum gw_pull_found found;
    struct gw_peer_record record;
    encode(room + 1, &sample_peer_indirection);
    room[0] = GW_PULL_LEAD;
    struct gw_reader r = gw_reader_of(room, 1 + RECORD_BYTES);
    cr_assert(gw_pull_answer_decode(&r, &found, &record));
    cr_expect_eq(found, GW_PULL_LEAD);
    struct gw_peer_indirection got;
    cr_assert(gw_peer_indirection_of(&record, &got));
    cr_expect_eq(got.address, sample_peer_indirection.address);
    room[0] = GW_PULL_RECORD;
    r = gw_reader_of(room, 1 + RECORD_BYTES);
    cr_expect_not(gw_pull_answer_decode(&r, &found, &record));
    cr_expect(r.bad);
    struct gw_writer w = gw_writer_of(room + 1, sizeof room - 1);
    gw_peer_record_encode(&sample_peer_record[1], &w);
    room[0] = GW_PULL_LEAD;
    r = gw_reader_of(room, 1 + gw_writer_used(&w));
    cr_expect_not(gw_pull_answer_decode(&r, &found, &record));
    cr_expect(r.bad);
    room[0] = GW_PULL_UNREADABLE + 1;
    r = gw_reader_of(room, 1);
    cr_expect_not(gw_pull_answer_decode(&r, &found, &record));
    cr_expect(r.bad);
}
