/* offline_tier.c - see offline_tier.h. */
#define _GNU_SOURCE
#include "server/offline_tier.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/base/checksum.h"
#include "server/backup_cold.h"
#include "server/objects.h"
#include "server/offline.h"

#define OBJECTS_MAX (1u << 24)
#define CRC_MARK    ",\"crc32c\":\""
#define WRONG_BYTES 128u

static bool read_hex(const json_t *root, const char *name, uint64_t *out)
{
    const char *text = json_string_value(json_object_get(root, name));
    char *end = NULL;
    *out = text && strlen(text) == 16 ? strtoull(text, &end, 16) : 0;
    return end && *end == 0;
}

static bool add_run(struct gwi_offline_tier *t, const json_t *run)
{
    uint64_t v[4];
    for (size_t i = 0; i < 4; i++) {
        const json_t *number = json_array_get(run, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return false;
        v[i] = (uint64_t)json_integer_value(number);
    }
    if (v[1] == 0 || v[1] > GW_OBJECT_EXTENT_MAX || v[2] == 0 || v[2] > OBJECTS_MAX - t->objects ||
        v[3] > UINT32_MAX)
        return false;
    struct gwi_offline_object *more =
        realloc(t->object, (t->objects + (size_t)v[2]) * sizeof *more);
    if (!more)
        return false;
    t->object = more;
    for (uint64_t i = 0; i < v[2]; i++)
        more[t->objects++] = (struct gwi_offline_object){.first = v[0] + i * v[1],
                                                         .bytes = v[1],
                                                         .incarnation = (uint32_t)v[3]};
    return true;
}

static const char *parse(const char *text, size_t n, struct gwi_offline_tier *t)
{
    const char *mark = memmem(text, n, CRC_MARK, strlen(CRC_MARK));
    json_t *root = json_loadb(text, n, 0, NULL);
    const char *wrong = NULL;
    if (!root || !mark ||
        strtoul(mark + strlen(CRC_MARK), NULL, 16) != gw_crc32c(0, text, (size_t)(mark - text)))
        wrong = "its checksum is wrong";
    else if (json_integer_value(json_object_get(root, "format")) != 1)
        wrong = "it has another version's format";
    else if (!read_hex(root, "cluster", &t->cluster) || !read_hex(root, "store", &t->store_id))
        wrong = "it does not say whose it is";
    const json_t *runs = json_object_get(root, "objects");
    for (size_t i = 0; !wrong && i < json_array_size(runs); i++)
        if (!add_run(t, json_array_get(runs, i)))
            wrong = "its list of objects is damaged";
    t->local_from = (uint64_t)json_integer_value(json_object_get(root, "local_from"));
    json_decref(root);
    return wrong;
}

bool gwi_offline_tier(const char *dir, struct gwi_offline_tier *out, const char **wrong)
{
    char path[GWI_OFFLINE_PATH_BYTES];
    struct gwi_offline_tier t = {.there = false};
    struct stat about;
    snprintf(path, sizeof path, "%s/store.json", dir);
    json_t *root = json_load_file(path, 0, NULL);
    const char *url = json_string_value(json_object_get(root, "blob"));
    snprintf(t.url, sizeof t.url, "%s", url ? url : "");
    json_decref(root);
    snprintf(path, sizeof path, "%s/log/tier.json", dir);
    *out = t;
    if (stat(path, &about) != 0)
        return true;
    size_t n = 0;
    char *text = (char *)gwi_offline_read(path, &n, wrong);
    if (!text)
        return false;
    const char *bad = parse(text, n, &t);
    free(text);
    if (bad) {
        gwi_offline_tier_fini(&t);
        *wrong = bad;
        return false;
    }
    t.there = true;
    *out = t;
    return true;
}

void gwi_offline_tier_fini(struct gwi_offline_tier *t)
{
    free(t->object);
    t->object = NULL;
    t->objects = 0;
}

static bool meets(const struct gwi_offline_object *o, uint64_t from, uint64_t to)
{
    return o->first < to && o->first + o->bytes > from;
}

bool gwi_offline_tier_part(const struct gwi_offline_tier *t, const struct gwi_state *s,
                           uint64_t *to, uint32_t *objects)
{
    *to = t->local_from < s->image.end.v ? t->local_from : s->image.end.v;
    *objects = 0;
    if (!t->there || *to <= s->image.begin.v)
        return false;
    for (uint32_t i = 0; i < t->objects; i++)
        *objects += meets(&t->object[i], s->image.begin.v, *to);
    return true;
}

/* A page that neither the disk nor an object has. */
static void check_covered(const struct gwi_offline_tier *t, const struct gwi_state *s, uint64_t to,
                          gwi_offline_tier_cb fn, void *ctx)
{
    const uint64_t page = UINT64_C(1) << s->page_bits;
    uint32_t at = 0;
    for (uint64_t a = s->image.begin.v / page * page; a < to; a += page) {
        if (!gwi_backup_page_wanted(s, a))
            continue;
        while (at < t->objects && t->object[at].first + t->object[at].bytes <= a)
            at++;
        if (at < t->objects && t->object[at].first <= a)
            continue;
        char wrong[WRONG_BYTES];
        snprintf(wrong, sizeof wrong, "no object holds address %#" PRIx64 ", nor does the disk", a);
        fn(ctx, "log/tier.json", 0, wrong);
        return;
    }
}

/* NULL: it is what the list says it is. */
static const char *check_head(const struct gwi_offline_tier *t, const struct gwi_state *s,
                              const struct gwi_offline_object *o, const struct gw_object_head *h)
{
    if (h->cluster != t->cluster)
        return "it belongs to another cluster";
    if (h->store_id != t->store_id || h->hash_seed_check != s->hash_seed_check)
        return "it belongs to another store";
    if (h->first_address != o->first || h->raw_bytes != o->bytes ||
        h->incarnation != o->incarnation || h->page_bits != s->page_bits)
        return "it is another object under this name";
    return NULL;
}

static bool check_object(struct gwi_objects *objects, const struct gwi_offline_tier *t,
                         const struct gwi_state *s, const struct gwi_offline_object *o,
                         gwi_offline_tier_cb fn, void *ctx, char *why)
{
    char name[GWI_OBJECTS_PREFIX_BYTES + 32], prefix[GWI_OBJECTS_PREFIX_BYTES], room[WRONG_BYTES];
    uint8_t *bytes = NULL;
    size_t n = 0;
    gwi_objects_prefix(t->cluster, t->store_id, prefix);
    snprintf(name, sizeof name, "%s%016" PRIx64 "-%08x.gwo", prefix, o->first, o->incarnation);
    enum gw_status st = gwi_objects_get(objects, name, &bytes, &n);
    if (st == GW_NOT_FOUND) {
        fn(ctx, name, 0, "missing in the shared tier");
        return true;
    }
    if (st != GW_OK) {
        const char *trouble = gwi_objects_trouble(objects);
        snprintf(why, GW_BLOB_TEXT_BYTES, "%s", trouble[0] ? trouble : gw_status_text(st));
        return false;
    }
    struct gw_object_head head;
    const char *wrong = gwi_objects_check(bytes, n, &head, room);
    free(bytes);
    if (!wrong)
        wrong = check_head(t, s, o, &head);
    fn(ctx, name, n, wrong ? wrong : "");
    return true;
}

struct listing {
    const struct gwi_offline_tier *tier;
    bool *seen; /* by object */
};

static bool listed(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *l = ctx;
    uint64_t first;
    uint32_t incarnation;
    if (!gwi_objects_name_read(name, &first, &incarnation) || bytes <= GW_OBJECT_HEADER)
        return true;
    for (uint32_t low = 0, high = l->tier->objects; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        const struct gwi_offline_object *o = &l->tier->object[middle];
        if (o->first == first) {
            l->seen[middle] |= o->incarnation == incarnation;
            break;
        }
        if (o->first < first)
            low = middle + 1;
        else
            high = middle;
    }
    return true;
}

static bool check_names(struct gwi_objects *objects, const struct gwi_offline_tier *t,
                        uint64_t from, uint64_t to, gwi_offline_tier_cb fn, void *ctx, char *why)
{
    char prefix[GWI_OBJECTS_PREFIX_BYTES], name[GWI_OBJECTS_PREFIX_BYTES + 32];
    struct listing l = {.tier = t, .seen = calloc(t->objects + 1, sizeof(bool))};
    gwi_objects_prefix(t->cluster, t->store_id, prefix);
    enum gw_status st = l.seen ? gwi_objects_each(objects, prefix, listed, &l) : GW_E_NOMEM;
    for (uint32_t i = 0; st == GW_OK && i < t->objects; i++) {
        const struct gwi_offline_object *o = &t->object[i];
        if (!meets(o, from, to))
            continue;
        snprintf(name, sizeof name, "%s%016" PRIx64 "-%08x.gwo", prefix, o->first, o->incarnation);
        fn(ctx, name, 0, l.seen[i] ? "" : "missing in the shared tier");
    }
    free(l.seen);
    if (st != GW_OK) {
        const char *trouble = gwi_objects_trouble(objects);
        snprintf(why, GW_BLOB_TEXT_BYTES, "%s", trouble[0] ? trouble : gw_status_text(st));
    }
    return st == GW_OK;
}

bool gwi_offline_tier_check(const struct gwi_offline_tier *t, const struct gwi_state *s,
                            const char *url, bool quick, gwi_offline_tier_cb fn, void *ctx,
                            char *why)
{
    uint64_t to;
    uint32_t count;
    if (!gwi_offline_tier_part(t, s, &to, &count))
        return true;
    check_covered(t, s, to, fn, ctx);
    struct gwi_objects *objects;
    if (!url)
        return true;
    if (gwi_objects_open(url, &objects, why) != GW_OK)
        return false;
    bool good = true;
    if (quick)
        good = check_names(objects, t, s->image.begin.v, to, fn, ctx, why);
    for (uint32_t i = 0; !quick && good && i < t->objects; i++)
        if (meets(&t->object[i], s->image.begin.v, to))
            good = check_object(objects, t, s, &t->object[i], fn, ctx, why);
    gwi_objects_close(objects);
    return good;
}
