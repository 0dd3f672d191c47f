/* tier_files.c - the names in the object store, owner.json there, and tier.json beside the
 * segments.
 *
 * tier.json, one line of JSON: {"format":1,"cluster":"..","store":"..","local_from":N,"shared":N,
 * "used":N,"objects":[[first,bytes,count,incarnation],..],"crc32c":".."}; a run is `count` objects
 * of `bytes` addresses that follow one another; the checksum is of all before its comma. It says
 * what may be missing on the disk and where it is then: without it, or with an older one, a dropped
 * segment would be a lost one. So it is written to a file of its own, synced, renamed, and the
 * directory synced, before the first file goes; and `shared` is raised only when it says so, hence
 * an object that it does not know of was never promised to anybody. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/checksum.h"
#include "index/base/log_line.h"
#include "tiering/tier_internal.h"

#define STATE_NAME  "tier.json"
#define STATE_TEMP  "tier.json.tmp"
#define STATE_MAX   (64u << 20)
#define FORMAT      1u
#define CRC_BEGIN   ",\"crc32c\":\""
#define CRC_END     "\"}\n"
#define CRC_BYTES   (sizeof CRC_BEGIN - 1 + 8 + sizeof CRC_END - 1)
#define RUN_BYTES   96u
#define OBJECTS_MAX (1u << 24)

/* ---- names ---- */

void gwi_tier_prefix(uint64_t cluster, uint64_t log_id, char name[GWI_TIER_NAME_BYTES])
{
    snprintf(name, GWI_TIER_NAME_BYTES, "%016" PRIx64 "/%016" PRIx64 "/", cluster, log_id);
}

void gwi_tier_object_name(uint64_t cluster, uint64_t log_id, uint64_t first, uint32_t incarnation,
                          char name[GWI_TIER_NAME_BYTES])
{
    snprintf(name, GWI_TIER_NAME_BYTES, "%016" PRIx64 "/%016" PRIx64 "/%016" PRIx64 "-%08x.gwo",
             cluster, log_id, first, incarnation);
}

static bool take_hex(const char **at, uint32_t digits, uint64_t *out)
{
    uint64_t v = 0;
    for (uint32_t i = 0; i < digits; i++, (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

bool gwi_tier_object_name_read(const char *name, uint64_t *first, uint32_t *incarnation)
{
    uint64_t number;
    if (!take_hex(&name, 16, first) || *name++ != '-' || !take_hex(&name, 8, &number) ||
        strcmp(name, ".gwo") != 0)
        return false;
    *incarnation = (uint32_t)number;
    return true;
}

/* ---- a reader of our own JSON: what we have not written is refused ---- */

struct scan {
    const char *at, *end;
    bool bad;
};

static void take(struct scan *s, const char *text)
{
    size_t n = strlen(text);
    if (s->bad || (size_t)(s->end - s->at) < n || memcmp(s->at, text, n) != 0)
        s->bad = true;
    else
        s->at += n;
}

static bool next_is(struct scan *s, char c)
{
    if (s->bad || s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static uint64_t take_number(struct scan *s)
{
    uint64_t v = 0;
    const char *from = s->at;
    while (!s->bad && s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        uint64_t digit = (uint64_t)(*s->at++ - '0');
        if (v > (UINT64_MAX - digit) / 10)
            s->bad = true;
        v = v * 10 + digit;
    }
    s->bad |= s->at == from;
    return v;
}

static uint64_t take_id(struct scan *s)
{
    uint64_t v = 0;
    if (s->bad || s->end - s->at < 16 || !take_hex(&s->at, 16, &v))
        s->bad = true;
    return v;
}

/* ---- owner.json ---- */

void gwi_tier_owner_name(const struct gw_tier *tier, char name[GWI_TIER_NAME_BYTES])
{
    snprintf(name, GWI_TIER_NAME_BYTES, "%016" PRIx64 "/%016" PRIx64 "/owner.json", tier->cluster,
             tier->store_id);
}

size_t gwi_tier_owner_write(const struct gw_tier *tier, char *room, size_t bytes)
{
    int n = snprintf(room, bytes,
                     "{\"format\":%u,\"cluster\":\"%016" PRIx64 "\",\"store\":\"%016" PRIx64
                     "\",\"incarnation\":%u,\"process\":\"%016" PRIx64 "\",\"server\":\"%s\"}\n",
                     FORMAT, tier->cluster, tier->store_id, tier->incarnation, tier->process,
                     tier->server_id);
    GW_ASSERT(n > 0 && (size_t)n < bytes);
    return (size_t)n;
}

enum gw_status gwi_tier_owner_read(const struct gw_tier *tier, const uint8_t *data, size_t bytes,
                                   enum tier_owner *owner, bool *stale, char *why, size_t why_bytes)
{
    struct scan s = {.at = (const char *)data, .end = (const char *)data + bytes};
    char server[sizeof tier->server_id];
    take(&s, "{\"format\":1,\"cluster\":\"");
    uint64_t cluster = take_id(&s);
    take(&s, "\",\"store\":\"");
    uint64_t store = take_id(&s);
    take(&s, "\",\"incarnation\":");
    uint64_t incarnation = take_number(&s);
    take(&s, ",\"process\":\"");
    uint64_t process = take_id(&s);
    take(&s, "\",\"server\":\"");
    size_t n = 0;
    while (!s.bad && s.at < s.end && *s.at != '"' && n + 1 < sizeof server)
        server[n++] = *s.at++;
    server[n] = 0;
    take(&s, "\"}\n");
    if (s.bad || s.at != s.end)
        return GW_E_CORRUPT;
    *owner = TIER_OWNER_OTHER;
    *stale = incarnation < tier->incarnation;
    if (cluster != tier->cluster || store != tier->store_id)
        snprintf(why, why_bytes, "belongs to another cluster or store: the prefix is used twice");
    else if (strcmp(server, tier->server_id) != 0)
        snprintf(why, why_bytes, "belongs to server \"%s\": two servers use one data directory",
                 server);
    else if (incarnation > tier->incarnation)
        snprintf(why, why_bytes,
                 "names incarnation %" PRIu64 ", we are %u: a copy of our data directory runs",
                 incarnation, tier->incarnation);
    else if (incarnation == tier->incarnation && process != tier->process)
        snprintf(why, why_bytes,
                 "names another process of incarnation %u: our data directory was "
                 "copied, and both copies run",
                 tier->incarnation);
    else
        *owner = TIER_OWNER_US;
    return GW_OK;
}

/* ---- tier.json ---- */

/* How many of the objects from `i` on make a run. */
static uint32_t run_of(const struct tier_object *o, uint32_t count, uint32_t i)
{
    uint32_t n = 1;
    while (i + n < count && o[i + n].first == o[i + n - 1].first + o[i].bytes &&
           o[i + n].bytes == o[i].bytes && o[i + n].incarnation == o[i].incarnation)
        n++;
    return n;
}

char *gwi_tier_state_write(uint64_t cluster, uint64_t store_id, const struct tier_state *state,
                           size_t *bytes)
{
    uint32_t runs = 0;
    for (uint32_t i = 0; i < state->count; i += run_of(state->objects, state->count, i))
        runs++;
    size_t room = 512 + (size_t)runs * RUN_BYTES;
    char *text = malloc(room);
    if (!text)
        return NULL;
    size_t n =
        (size_t)snprintf(text, room,
                         "{\"format\":%u,\"cluster\":\"%016" PRIx64 "\",\"store\":\"%016" PRIx64
                         "\",\"local_from\":%" PRIu64 ",\"shared\":%" PRIu64 ",\"used\":%" PRIu64
                         ",\"objects\":[",
                         FORMAT, cluster, store_id, state->local_from, state->shared, state->used);
    for (uint32_t i = 0; i < state->count;) {
        const struct tier_object *o = &state->objects[i];
        uint32_t run = run_of(state->objects, state->count, i);
        n += (size_t)snprintf(text + n, room - n, "%s[%" PRIu64 ",%" PRIu64 ",%u,%u]", i ? "," : "",
                              o->first, o->bytes, run, o->incarnation);
        i += run;
    }
    n += (size_t)snprintf(text + n, room - n, "]");
    uint32_t crc = gw_crc32c(0, text, n);
    n += (size_t)snprintf(text + n, room - n, CRC_BEGIN "%08x" CRC_END, crc);
    GW_ASSERT(n < room);
    *bytes = n;
    return text;
}

/* Adds a run. False: it does not fit what came before, or there is no memory. */
static enum gw_status add_run(struct tier_state *state, const uint64_t run[4])
{
    uint64_t first = run[0], bytes = run[1], count = run[2];
    uint64_t after = state->count ? state->objects[state->count - 1].first +
                                        state->objects[state->count - 1].bytes
                                  : 0;
    if (first < after || bytes == 0 || bytes > GW_OBJECT_EXTENT_MAX || count == 0 ||
        count > OBJECTS_MAX - state->count || first > UINT64_MAX / 2 || run[3] > UINT32_MAX)
        return GW_E_CORRUPT;
    struct tier_object *more =
        realloc(state->objects, (state->count + (size_t)count) * sizeof *more);
    if (!more)
        return GW_E_NOMEM;
    state->objects = more;
    for (uint64_t i = 0; i < count; i++)
        more[state->count++] = (struct tier_object){.first = first + i * bytes,
                                                    .bytes = bytes,
                                                    .incarnation = (uint32_t)run[3]};
    return GW_OK;
}

enum gw_status gwi_tier_state_read(uint64_t cluster, uint64_t store_id, const char *text,
                                   size_t bytes, struct tier_state *state)
{
    *state = (struct tier_state){0};
    if (bytes <= CRC_BYTES)
        return GW_E_CORRUPT;
    size_t body = bytes - CRC_BYTES;
    char tail[CRC_BYTES + 1];
    snprintf(tail, sizeof tail, CRC_BEGIN "%08x" CRC_END, gw_crc32c(0, text, body));
    if (memcmp(text + body, tail, CRC_BYTES) != 0)
        return GW_E_CORRUPT;
    struct scan s = {.at = text, .end = text + body};
    take(&s, "{\"format\":");
    uint64_t format = take_number(&s);
    if (!s.bad && format != FORMAT)
        return GW_E_VERSION;
    take(&s, ",\"cluster\":\"");
    uint64_t of_cluster = take_id(&s);
    take(&s, "\",\"store\":\"");
    uint64_t of_store = take_id(&s);
    take(&s, "\",\"local_from\":");
    state->local_from = take_number(&s);
    take(&s, ",\"shared\":");
    state->shared = take_number(&s);
    take(&s, ",\"used\":");
    state->used = take_number(&s);
    take(&s, ",\"objects\":[");
    enum gw_status status = s.bad ? GW_E_CORRUPT : GW_OK;
    while (status == GW_OK && next_is(&s, '[')) {
        uint64_t run[4] = {0};
        for (uint32_t i = 0; i < 4; i++) {
            run[i] = take_number(&s);
            take(&s, i < 3 ? "," : "]");
        }
        status = s.bad ? GW_E_CORRUPT : add_run(state, run);
        if (!next_is(&s, ','))
            break;
    }
    take(&s, "]");
    if (status == GW_OK && (s.bad || s.at != s.end))
        status = GW_E_CORRUPT;
    if (status == GW_OK && (of_cluster != cluster || of_store != store_id))
        status = GW_E_REFUSED;
    if (status != GW_OK) {
        free(state->objects);
        *state = (struct tier_state){0};
    }
    return status;
}

/* All of a file; *text is the caller's. GW_NOT_FOUND. */
static enum gw_status read_all(const struct ssd *ssd, const char *name, char **text, size_t *bytes)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    int fd = calls->open(calls->ctx, ssd->dir_fd, name, O_RDONLY | O_NOFOLLOW);
    if (fd == -ENOENT)
        return GW_NOT_FOUND;
    if (fd < 0)
        return GW_E_IO;
    enum gw_status status = GW_OK;
    size_t room = 4096, n = 0;
    char *data = malloc(room);
    for (uint32_t tries = 0; data && status == GW_OK;) {
        ssize_t got = calls->pread(calls->ctx, fd, data + n, room - n, n);
        if (got == 0)
            break;
        if (got < 0) {
            status = got == -EINTR && ++tries < GWI_SSD_TRIES_MAX ? GW_OK : GW_E_IO;
            continue;
        }
        n += (size_t)got;
        if (n == room) {
            char *more = room < STATE_MAX ? realloc(data, 2 * room) : NULL;
            if (!more)
                status = GW_E_NOMEM;
            else
                data = more;
            room *= 2;
        }
    }
    (void)calls->close(calls->ctx, fd);
    if (!data)
        status = GW_E_NOMEM;
    if (status != GW_OK) {
        free(data);
        return status;
    }
    *text = data;
    *bytes = n;
    return GW_OK;
}

enum gw_status gwi_tier_state_load(const struct gw_tier *tier, struct tier_state *state,
                                   char *error, size_t error_bytes)
{
    char *text = NULL;
    size_t bytes = 0;
    *state = (struct tier_state){0};
    enum gw_status status = read_all(tier->ssd, STATE_NAME, &text, &bytes);
    if (status == GW_NOT_FOUND)
        return GW_OK;
    if (status == GW_OK)
        status = gwi_tier_state_read(tier->cluster, tier->store_id, text, bytes, state);
    free(text);
    state->found = status == GW_OK;
    if (status != GW_OK)
        snprintf(error, error_bytes,
                 STATE_NAME ": %s: it says which segments are in the object store only",
                 status == GW_E_CORRUPT   ? "damaged"
                 : status == GW_E_REFUSED ? "of another store or cluster"
                 : status == GW_E_VERSION ? "another version's format"
                                          : "cannot be read");
    return status;
}

enum gw_status gwi_tier_state_save(const struct gw_tier *tier, const struct tier_state *state)
{
    const struct ssd *ssd = tier->ssd;
    const struct gw_ssd_calls *calls = &ssd->calls;
    size_t bytes = 0, done = 0;
    char *text = gwi_tier_state_write(tier->cluster, tier->store_id, state, &bytes);
    if (!text)
        return GW_E_NOMEM;
    int fd = calls->open(calls->ctx, ssd->dir_fd, STATE_TEMP, O_WRONLY | O_CREAT | O_TRUNC),
        rc = fd;
    for (uint32_t tries = 0; rc >= 0 && done < bytes;) {
        ssize_t n = calls->pwrite(calls->ctx, fd, text + done, bytes - done, done);
        if (n > 0)
            done += (size_t)n;
        else if ((n < 0 && n != -EINTR) || ++tries >= GWI_SSD_TRIES_MAX)
            rc = n < 0 ? (int)n : -EIO;
    }
    if (rc >= 0)
        rc = calls->sync(calls->ctx, fd);
    if (fd >= 0) {
        int closed = calls->close(calls->ctx, fd);
        rc = rc < 0 ? rc : closed;
    }
    if (rc >= 0)
        rc = calls->rename(calls->ctx, ssd->dir_fd, STATE_TEMP, STATE_NAME);
    if (rc >= 0)
        rc = calls->sync(calls->ctx, ssd->dir_fd);
    free(text);
    if (rc >= 0)
        return GW_OK;
    gw_debug("tiering.state", "file=" STATE_NAME " errno=%d", -rc);
    return gwi_ssd_status_of(rc, true);
}
