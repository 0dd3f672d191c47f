/* wire_samples.c - see wire_samples.h. Every field has a value of its own, so that two that were
 * exchanged differ. */
#include "wire_samples.h"

#include <stdlib.h>
#include <string.h>

#define BYTES(text) ((const uint8_t *)(text))

const struct gw_hello sample_hello = {.incarnation = 0x1122334455667788,
                                      .window = 16384,
                                      .index = 3,
                                      .role = GW_ROLE_PEER_PULL,
                                      .flags = GW_HELLO_RESUME,
                                      .id = "server-1.example_A"};
const struct gw_welcome sample_welcome = {.incarnation = 0x0123456789abcdef,
                                          .cluster = 0xfedcba9876543210,
                                          .window = 4096,
                                          .frame_bytes_max = 4325376,
                                          .value_bytes_max = 4190000,
                                          .flags = GW_WELCOME_KNOWN,
                                          .durability = GW_WIRE_DURABILITY_COMMIT,
                                          .durable = 0x0a0b0c0d0e0f1011,
                                          .forgotten = 3,
                                          .id = "a"};
const struct gw_join sample_join = {.incarnation = 5,
                                    .cluster = 6,
                                    .id = "b-2",
                                    .address = "[::1]:7402"};
const struct gw_heartbeat sample_heartbeat = {.incarnation = 1,
                                              .map_version = 2,
                                              .operations = 3,
                                              .keys = 4,
                                              .memory_used = 5,
                                              .memory_total = UINT64_MAX,
                                              .sessions = 7,
                                              .disk_used = 8,
                                              .disk_total = 9,
                                              .live_bytes = 10,
                                              .cold_reads = 11,
                                              .evicted = 12,
                                              .expired = 13,
                                              .compacted = 14,
                                              .compacted_live = 15,
                                              .durability = 2,
                                              .checkpoint = 17,
                                              .checkpoint_age_ms = 18,
                                              .checkpoint_ns = 19,
                                              .log_bytes = 20,
                                              .checkpoints = 21,
                                              .checkpoints_failed = 22,
                                              .recovered = 23,
                                              .recovery_ms = 24,
                                              .recovered_entries = 25,
                                              .sessions_forgotten = 26,
                                              .log_id = 27,
                                              .round = 28,
                                              .shared_used = 29,
                                              .shared_lag = 30,
                                              .foreign_reads = 31,
                                              .indirections = 32,
                                              .orphan_done = 33,
                                              .needs = 2,
                                              .loads = 2,
                                              .flags = GW_HEARTBEAT_NEEDS_ALL,
                                              .need = {{34, 35}, {36, UINT64_MAX}},
                                              .load = {{0, 99, 37}, {100, 16383, 38}},
                                              .trouble = "no room on the device"};
const struct gw_job_event sample_job_event = {.job = 12,
                                              .bytes_moved = 1,
                                              .records_moved = 2,
                                              .chunks_done = 3,
                                              .chunks = 4,
                                              .pulls = 5,
                                              .pause_ns = 6,
                                              .bytes_left = 7,
                                              .records_left = 8,
                                              .rate = 9,
                                              .indirections = 10,
                                              .hot_records = 11,
                                              .retries = 13,
                                              .source_p99_us = 14,
                                              .target_p99_us = UINT64_MAX,
                                              .pull_leads = 15,
                                              .event = GW_JOB_GAVE_UP,
                                              .text = "the target is full: \xc3\xa9t\xc3\xa9"};
const struct gw_prepared sample_prepared = {.incarnation = 0x8877665544332211,
                                            .status = GW_E_FULL,
                                            .shared_tier = 1,
                                            .text = "no room"};
const struct gw_yours sample_yours = {.commit_version = 42, .version_highest = 7, .last = 1};
const struct gw_applied sample_applied[SAMPLE_APPLIED] = {
    {.session = 1,
     .serial = 2,
     .number = -3,
     .version = 4,
     .slot = 16383,
     .status = GW_OK,
     .flags = GW_WIRE_COUNTER},
    {.session = 5, .serial = UINT64_MAX, .version = 6, .slot = 0, .status = GW_MISMATCH},
    {.session = 7, .serial = 8, .number = 12, .version = 9, .slot = 3, .flags = GW_WIRE_VALUE},
    {.session = 7,
     .serial = 8,
     .number = 0x0807060504030201,
     .version = 1,
     .slot = 3,
     .flags = GW_APPLIED_PIECE},
    {.session = 7, .serial = 9, .number = UINT32_MAX, .slot = 3, .flags = GW_WIRE_LENGTH},
    {.session = 7, .serial = 10, .slot = 3, .flags = GW_WIRE_FORGOTTEN}};
const struct gw_peer_record sample_peer_record[SAMPLE_PEER_RECORDS] = {
    {.key = (const uint8_t *)"k", .key_bytes = 1, .version = 9},
    {.key = (const uint8_t *)"counter1",
     .key_bytes = 8,
     .version = 10,
     .kind = GW_PEER_COUNTER,
     .number = -5,
     .value_bytes = 8},
    {.key = (const uint8_t *)"gone", .key_bytes = 4, .version = 11, .tombstone = 1},
    {.key = (const uint8_t *)"name",
     .key_bytes = 4,
     .version = 12,
     .value = (const uint8_t *)"godwit",
     .value_bytes = 6},
    {.key = (const uint8_t *)"short",
     .key_bytes = 5,
     .version = 13,
     .expiry_ms = 1700000000001,
     .value = (const uint8_t *)"life",
     .value_bytes = 4}};
const struct gw_peer_indirection sample_peer_indirection = {.log_id = 0xfedcba9876543210,
                                                            .address = 0xabcdef012345,
                                                            .hash_prefix = UINT64_C(0xabd) << 52,
                                                            .map_version = 0x1122334455667788,
                                                            .begin = 0x987600000000,
                                                            .slot = 16383,
                                                            .prefix_bits = 12};
const struct gw_scan_reply sample_scan_reply = {.cursor = 0x0102030405060708, .status = GW_END};
const struct gw_scan_record sample_scan_record[SAMPLE_SCAN_RECORDS] = {
    {.key = (const uint8_t *)"k", .key_bytes = 1, .version = 9},
    {.key = (const uint8_t *)"counter1",
     .key_bytes = 8,
     .version = 10,
     .kind = GW_SCAN_COUNTER,
     .number = INT64_MAX,
     .value_bytes = 8},
    {.key = (const uint8_t *)"name",
     .key_bytes = 4,
     .version = 12,
     .value = (const uint8_t *)"godwit",
     .value_bytes = 6},
    {.key = (const uint8_t *)"hits",
     .key_bytes = 4,
     .version = 13,
     .expiry_ms = 1700000000002,
     .kind = GW_SCAN_COUNTER,
     .number = 3,
     .value_bytes = 8}};

struct gw_slots sample_slots(void)
{
    struct gw_slots slots;
    gw_slots_clear(&slots);
    gw_slots_add_range(&slots, 0, 99);
    gw_slots_add(&slots, 200);
    gw_slots_add(&slots, 16383);
    return slots;
}

struct gw_job sample_job(void)
{
    return (struct gw_job){.id = 77,
                           .commit_version = 9,
                           .state = GW_JOB_CLOSING,
                           .options = {.rate_bytes = 100000000,
                                       .sample_bytes = 0x0102030405060708,
                                       .max_impact_us = 2000,
                                       .sample_ms = 500,
                                       .flags = GW_JOB_NO_SAMPLING | GW_JOB_NO_PULLS},
                           .from = "a",
                           .to = "b",
                           .from_address = "10.0.0.1:7401",
                           .to_address = "",
                           .error = "connection lost",
                           .slots = sample_slots()};
}

struct gw_prepare sample_prepare(void)
{
    return (struct gw_prepare){.incarnation = 0x0a0b0c0d0e0f1011,
                               .chunk_bits = GW_CHUNK_BITS_MAX,
                               .flags = GW_JOB_NO_PULLS | GW_JOB_NO_SAMPLING,
                               .from = "a",
                               .from_address = "10.0.0.1:7401",
                               .slots = sample_slots()};
}

struct gw_scan sample_scan(void)
{
    return (struct gw_scan){.cursor = 1ull << 63, .bytes_max = 65536, .slots = sample_slots()};
}

struct gw_map *sample_map(void)
{
    static const struct gw_map_server server[3] = {
        {.id = "a", .address = "127.0.0.1:7401", .view = 4, .incarnation = 100},
        {.id = "b", .address = "127.0.0.1:7402", .view = 3, .incarnation = 200},
        {.id = "c", .address = "", .view = 4, .incarnation = 300}};
    struct gw_map *map = gw_map_create();
    map->version = 4;
    map->cluster = 0xc0ffee;
    map->hash_seed = 0x5eed;
    map->servers = 3;
    map->server = malloc(sizeof server);
    memcpy(map->server, server, sizeof server);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        map->owner[slot] = slot < 8000 || slot == 16383   ? 0
                           : slot >= 9000 && slot < 10000 ? GW_NO_SERVER
                                                          : 2;
        /* Two tenures of one server that touch, and slots of nobody. */
        map->since[slot] = map->owner[slot] == GW_NO_SERVER ? 0 : slot < 4000 ? 1 : 4;
    }
    return map;
}

size_t wire_samples(struct wire_sample *out, size_t max)
{
    size_t n = 0;
#define SAMPLE(name, ...)                                                                          \
    if (n < max) {                                                                                 \
        struct gw_writer w = gw_writer_of(out[n].body, sizeof out[n].body);                        \
        __VA_ARGS__;                                                                               \
        if (w.bad)                                                                                 \
            abort();                                                                               \
        out[n].codec = name;                                                                       \
        out[n].bytes = gw_writer_used(&w);                                                         \
    }                                                                                              \
    n++;
    const struct gw_job job = sample_job();
    const struct gw_prepare prepare = sample_prepare();
    const struct gw_scan scan = sample_scan();
    struct gw_map *map = sample_map(), *empty = gw_map_create();
    SAMPLE("hello", gw_hello_encode(&sample_hello, &w));
    SAMPLE("hello", gw_hello_encode(&(struct gw_hello){.role = GW_ROLE_CLIENT}, &w));
    SAMPLE("welcome", gw_welcome_encode(&sample_welcome, &w));
    SAMPLE("error", gw_write8(&w, (uint8_t)GW_E_LIMIT), gw_write16(&w, 4),
           gw_write_bytes(&w, "full", 4));
    SAMPLE("join", gw_join_encode(&sample_join, &w));
    SAMPLE("heartbeat", gw_heartbeat_encode(&sample_heartbeat, &w));
    SAMPLE("job", gw_job_encode(&job, &w));
    SAMPLE("needs",
           gw_needs_encode(&(struct gw_needs){.round = 3, .keep_from = UINT64_MAX, .orphan = 5},
                           &w));
    SAMPLE("job_event", gw_job_event_encode(&sample_job_event, &w));
    SAMPLE("map", gw_map_encode(map, &w));
    SAMPLE("map", gw_map_encode(empty, &w));
    SAMPLE("prepare", gw_prepare_encode(&prepare, &w));
    SAMPLE("prepared", gw_prepared_encode(&sample_prepared, &w));
    SAMPLE("secured", gw_secured_encode(&(struct gw_secured){.incarnation = 7}, &w));
    SAMPLE("yours", gw_yours_encode(&sample_yours, &w);
           for (size_t i = 0; i < SAMPLE_APPLIED; i++) gw_applied_encode(&sample_applied[i], &w));
    SAMPLE("chunk", for (size_t i = 0; i < SAMPLE_PEER_RECORDS; i++)
                        gw_peer_record_encode(&sample_peer_record[i], &w));
    SAMPLE("chunk", uint8_t value[GW_PEER_INDIRECTION_BYTES];
           const struct gw_peer_record in =
               gw_peer_indirection_record(&sample_peer_indirection, value);
           gw_peer_record_encode(&sample_peer_record[1], &w); gw_peer_record_encode(&in, &w));
    SAMPLE("pull", gw_pull_key_encode(BYTES("k"), 1, &w), gw_pull_key_encode(BYTES("key"), 3, &w));
    SAMPLE("pull_answer", gw_pull_answer_encode(GW_PULL_ABSENT, NULL, &w),
           gw_pull_answer_encode(GW_PULL_RECORD, &sample_peer_record[1], &w),
           gw_pull_answer_encode(GW_PULL_RECORD, &sample_peer_record[3], &w),
           gw_pull_answer_encode(GW_PULL_RECORD, &sample_peer_record[4], &w),
           gw_pull_answer_encode(GW_PULL_ELSEWHERE, NULL, &w),
           gw_pull_answer_encode(GW_PULL_UNREACHABLE, NULL, &w),
           gw_pull_answer_encode(GW_PULL_UNREADABLE, NULL, &w),
           gw_pull_answer_encode(GW_PULL_ASK_AGAIN, NULL, &w));
    SAMPLE("pull_answer", uint8_t value[GW_PEER_INDIRECTION_BYTES];
           const struct gw_peer_record in =
               gw_peer_indirection_record(&sample_peer_indirection, value);
           gw_pull_answer_encode(GW_PULL_LEAD, &in, &w));
    SAMPLE("scan", gw_scan_encode(&scan, &w));
    SAMPLE("scan_reply", gw_scan_reply_encode(&sample_scan_reply, &w);
           for (size_t i = 0; i < SAMPLE_SCAN_RECORDS; i++)
               gw_scan_record_encode(&sample_scan_record[i], &w));
#undef SAMPLE
    gw_map_destroy(map);
    gw_map_destroy(empty);
    return n;
}
