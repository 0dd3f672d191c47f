/* commit_log.c - what tests of the commit log share (commit_log.h). */
#include "tests/support/commit_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/clock.h"

#define WAIT_NS ((uint64_t)20 * 1000000000)

struct gw_commit_options commit_options(const char *dir, uint16_t dispatcher, uint32_t incarnation,
                                        uint64_t file_bytes)
{
    return (struct gw_commit_options){
        .dir = dir,
        .store_id = COMMIT_STORE,
        .incarnation = incarnation,
        .dispatcher = dispatcher,
        .file_bytes = file_bytes,
    };
}

static uint64_t mix(uint64_t n)
{
    n *= 0x9e3779b97f4a7c15u;
    return n ^ n >> 31;
}

/* Entry number n, its bytes in `room`. */
static void entry_of(uint64_t n, uint32_t value_bytes, uint8_t *room, struct gw_commit_entry *out)
{
    uint8_t op = value_bytes ? GW_COMMIT_SET : (uint8_t)(1 + n % 4);
    uint16_t key_bytes = (uint16_t)(8 + mix(n) % 25);
    if (op == GW_COMMIT_SET && !value_bytes)
        value_bytes = (uint32_t)(mix(n) >> 8) % 200;
    for (uint32_t i = 0; i < key_bytes + value_bytes; i++)
        room[i] = (uint8_t)(n + i * 7);
    memcpy(room, &n, 8);
    *out = (struct gw_commit_entry){
        .key = room,
        .value = room + key_bytes,
        .number = -(int64_t)n,
        .expiry_ms = n % 3 == 0 ? n + 1 : 0,
        .serial = n,
        .version = (uint32_t)(n * 3),
        .value_bytes = op == GW_COMMIT_SET       ? value_bytes
                       : op == GW_COMMIT_COUNTER ? 8
                                                 : 0,
        .key_bytes = key_bytes,
        .op = op,
        .flags = (uint8_t)((n % 5 == 0 ? GW_COMMIT_START : 0) | (n % 7 == 0 ? GW_COMMIT_FIRST : 0)),
        .status = (int8_t)(n % 11) - 5,
        .reply = (uint8_t)(n % 13),
    };
}

static bool is_entry(const struct gw_commit_entry *e, uint64_t n, uint8_t *room)
{
    struct gw_commit_entry w;
    bool large = e->op == GW_COMMIT_SET && e->value_bytes >= 200;
    if (e->serial != n || e->key_bytes < 8)
        return false;
    entry_of(n, large ? e->value_bytes : 0, room, &w);
    return e->op == (large ? GW_COMMIT_SET : w.op) && e->version == w.version &&
           e->key_bytes == w.key_bytes && e->value_bytes == w.value_bytes &&
           e->expiry_ms == w.expiry_ms && e->status == w.status && e->reply == w.reply &&
           e->flags == (w.flags | (w.expiry_ms ? GW_COMMIT_EXPIRES : 0)) &&
           (e->op != GW_COMMIT_COUNTER || e->number == w.number) &&
           memcmp(e->key, w.key, w.key_bytes) == 0 &&
           (e->op != GW_COMMIT_SET || memcmp(e->value, w.value, w.value_bytes) == 0);
}

enum gw_status commit_append(struct gw_commit *log, uint64_t n, uint32_t value_bytes)
{
    struct gw_commit_entry entry;
    uint8_t small[512], *room = value_bytes ? malloc(value_bytes + 64) : small;
    GW_ASSERT(room && (value_bytes == 0 || value_bytes >= 200));
    entry_of(n, value_bytes, room, &entry);
    enum gw_status status = GW_OK;
    if (n == 1 || n % 10 == 0)
        status = gw_commit_group(log, 7, n - 1, n);
    if (status == GW_OK)
        status = gw_commit_append(log, &entry);
    if (room != small)
        free(room);
    return status;
}

enum gw_status commit_wait(struct gw_commit *log)
{
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + WAIT_NS;
    for (;;) {
        enum gw_status status = gw_commit_poll(log);
        if (status != GW_PENDING)
            return status;
        GW_ASSERT(gw_clock_now_ns(gw_clock_system()) < end);
        usleep(20);
    }
}

enum gw_status commit_flush_whole(struct gw_commit *log, uint64_t interval, uint64_t view)
{
    enum gw_status status = gw_commit_flush(log, interval, view);
    return status == GW_PENDING ? commit_wait(log) : status;
}

struct seeing {
    struct commit_seen *seen;
    uint8_t *room;
    uint64_t sequence;
};

static bool see_block(void *ctx, const struct gw_commit_block *block, const uint8_t *payload)
{
    struct seeing *s = ctx;
    struct commit_seen *seen = s->seen;
    uint32_t at = 0, groups = 0;
    struct gw_commit_group group;
    const uint8_t *entries;
    bool bad = false;
    seen->wrong |= (s->sequence && block->sequence != s->sequence + 1) ||
                   block->view != block->interval + 100 || block->store_id != COMMIT_STORE;
    s->sequence = block->sequence;
    while (gw_commit_next_group(payload, block->payload_bytes, &at, &group, &entries, &bad)) {
        uint32_t in = 0, count = 0;
        struct gw_commit_entry entry;
        groups++;
        seen->wrong |= group.session != 7 || group.confirmed + 1 != group.first_serial;
        while (gw_commit_next_entry(&group, entries, &in, &entry, &bad)) {
            uint64_t n = seen->count ? seen->last + 1 : entry.serial;
            s->room = realloc(s->room, entry.value_bytes + 512);
            GW_ASSERT(s->room);
            seen->wrong |= !is_entry(&entry, n, s->room);
            if (seen->count++ == 0)
                seen->first = n;
            seen->last = n;
            count++;
        }
        seen->wrong |= bad || count != group.entries;
    }
    seen->wrong |= bad || groups != block->groups;
    return true;
}

void commit_see(const char *dir, uint64_t interval, bool salvage, struct commit_seen *out)
{
    *out = (struct commit_seen){0};
    struct gw_commit_logs *logs = NULL;
    /* The log may be open: a file that is given back between listing and reading is not there. */
    for (uint32_t tries = 0; tries < 20; tries++) {
        out->status = gw_commit_logs_open(dir, COMMIT_STORE, interval, salvage, &logs, out->error);
        if (out->status != GW_E_IO || !strstr(out->error, "No such file"))
            break;
        usleep(1000);
    }
    if (out->status != GW_OK)
        return;
    out->logs = gw_commit_logs_count(logs);
    if (out->logs > 0) {
        struct gw_commit_log_info info;
        struct seeing s = {.seen = out};
        gw_commit_logs_info(logs, 0, &info);
        out->blocks = info.blocks;
        out->torn_bytes = info.torn_bytes;
        out->interval_last = info.interval_last;
        GW_ASSERT(gw_commit_logs_each(logs, 0, see_block, &s) == GW_OK);
        free(s.room);
    }
    gw_commit_logs_close(logs);
}
