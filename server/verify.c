/* verify.c - the offline check of a data directory; see verify.h. */
#include "server/verify.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/base/checksum.h"
#include "index/base/text.h"
#include "index/store_recover.h"
#include "server/manifest.h"
#include "server/offline.h"
#include "server/offline_tier.h"
#include "server/state_file.h"
#include "tiering/commit_read.h"
#include "tiering/ssd.h"

#define PATH_BYTES GWI_OFFLINE_PATH_BYTES

struct verify {
    const char *dir;
    const char *blob; /* URL of the shared tier; NULL: it is not looked at */
    bool json, quick;
    json_t *files;     /* owned */
    json_t *elsewhere; /* owned; what was not looked at */
    uint64_t good, bad, bytes;
    uint64_t store_id, checkpoint; /* of the directory that is being checked */
    char server[GW_ID_BYTES_MAX + 1];
};

static void note(struct verify *v, const char *file, uint64_t bytes, const char *wrong)
{
    if (wrong[0])
        v->bad++;
    else
        v->good++;
    v->bytes += bytes;
    if (v->json)
        json_array_append_new(v->files,
                              json_pack("{s:s, s:I, s:b, s:s}", "file", file, "bytes",
                                        (json_int_t)bytes, "good", wrong[0] == 0, "wrong", wrong));
    else if (wrong[0])
        printf("DAMAGED  %s: %s\n", file, wrong);
    else
        printf("good     %s  %" PRIu64 " bytes\n", file, bytes);
}

static void note_manifest(void *ctx, const char *file, uint64_t bytes, const char *wrong)
{
    struct verify *v = ctx;
    /* A file's own check says that it is good; here only what the manifest finds wrong counts. */
    if (wrong[0] || strcmp(file, "manifest.json") == 0)
        note(v, file, bytes, wrong);
}

static bool read_identity(struct verify *v)
{
    uint64_t bytes;
    bool good = gwi_offline_identity(v->dir, &v->store_id, v->server, &v->checkpoint, &bytes);
    note(v, "store.json", bytes,
         good         ? ""
         : bytes == 0 ? "missing, or it cannot be read"
                      : "damaged: server or store is missing in it");
    return good;
}

static void check_index(struct verify *v, const struct gwi_state *state)
{
    char name[64], file[100], path[PATH_BYTES];
    const char *wrong = "";
    size_t bytes = 0;
    if (state->index.number == 0)
        return;
    snprintf(file, sizeof file, "checkpoints/%s", gwi_index_name(state->index.number, name));
    snprintf(path, sizeof path, "%s/%s", v->dir, file);
    uint8_t *all = gwi_offline_read(path, &bytes, &wrong);
    if (all)
        wrong = bytes != state->index.blocks * GW_SNAPSHOT_BLOCK
                    ? "shorter or longer than the checkpoint says"
                : gw_crc32c(0, all, bytes) != state->index.crc ? "its checksum differs"
                                                               : "";
    free(all);
    note(v, file, bytes, wrong);
}

static void note_elsewhere(void *ctx, const char *file, uint64_t bytes, const char *wrong)
{
    note(ctx, file, bytes, wrong);
}

struct segments {
    struct verify *v;
};

static void segment_noted(void *ctx, const char *file, uint64_t bytes, const char *wrong)
{
    struct segments *s = ctx;
    char name[200];
    snprintf(name, sizeof name, "log/%s", file);
    /* The reason names the file once more: it is written for who sees only the reason. */
    const char *text = wrong;
    size_t n = strlen(file);
    if (strncmp(wrong, file, n) == 0 && wrong[n] == ':')
        text = wrong + n + 1 + strspn(wrong + n + 1, " ");
    note(s->v, name, bytes, text);
}

/* What is not on the disk; *from rises to where the disk begins. */
static void check_elsewhere(struct verify *v, const struct gwi_state *state, gw_addr *from)
{
    struct gwi_offline_tier tier;
    const char *wrong = "";
    char why[GW_BLOB_TEXT_BYTES] = "", size[32];
    uint64_t to;
    uint32_t objects;
    if (!gwi_offline_tier(v->dir, &tier, &wrong)) {
        note(v, "log/tier.json", 0, wrong);
        return;
    }
    if (tier.there && (tier.store_id != v->store_id || tier.cluster != state->cluster)) {
        note(v, "log/tier.json", 0, "it is another store's or cluster's");
    } else if (gwi_offline_tier_part(&tier, state, &to, &objects)) {
        if (!gwi_offline_tier_check(&tier, state, v->blob, v->quick, note_elsewhere, v, why))
            note(v, v->blob, 0, why);
        if (!v->blob) {
            gw_format_size(to - state->image.begin.v, size, sizeof size);
            json_array_append_new(v->elsewhere,
                                  json_pack("{s:s, s:I, s:I, s:I}", "url", tier.url, "from",
                                            (json_int_t)state->image.begin.v, "to", (json_int_t)to,
                                            "objects", (json_int_t)objects));
            if (!v->json)
                printf("not looked at: addresses %#" PRIx64 " to %#" PRIx64
                       ", %s in %u objects, lie "
                       "in the shared tier %s only; --blob URL looks there, too\n",
                       state->image.begin.v, to, size, objects, tier.url);
        }
        from->v = to;
    }
    gwi_offline_tier_fini(&tier);
}

/* Those that store.json says were written (data.h), unless a later incarnation has replayed them.
 */
static void check_missing_logs(struct verify *v, const struct gw_commit_logs *logs,
                               uint32_t state_incarnation)
{
    char path[PATH_BYTES], name[100];
    snprintf(path, sizeof path, "%s/store.json", v->dir);
    json_t *root = json_load_file(path, 0, NULL);
    uint32_t count = (uint32_t)json_integer_value(json_object_get(root, "logs"));
    uint32_t of = (uint32_t)json_integer_value(json_object_get(root, "logs_incarnation"));
    json_decref(root);
    for (uint32_t d = 0; d < count && state_incarnation <= of; d++) {
        bool there = false;
        for (uint32_t i = 0; logs && i < gw_commit_logs_count(logs); i++) {
            struct gw_commit_log_info info;
            gw_commit_logs_info(logs, i, &info);
            there |= info.incarnation == of && info.dispatcher == d;
        }
        snprintf(name, sizeof name, "commit/c%u-%u-*.gwl", d, of);
        if (!there)
            note(v, name, 0, "missing: this dispatcher has written a commit log");
    }
}

static void check_commit_logs(struct verify *v, uint64_t interval, uint32_t state_incarnation)
{
    char path[PATH_BYTES], error[GW_COMMIT_TEXT_BYTES] = "";
    struct gw_commit_logs *logs = NULL;
    struct stat about;
    snprintf(path, sizeof path, "%s/commit", v->dir);
    if (stat(path, &about) != 0) {
        check_missing_logs(v, NULL, state_incarnation);
        return;
    }
    if (gw_commit_logs_open(path, v->store_id, interval, false, &logs, error) != GW_OK) {
        note(v, "commit/", 0, error);
        return;
    }
    for (uint32_t i = 0; i < gw_commit_logs_count(logs); i++) {
        struct gw_commit_log_info info;
        char name[100];
        gw_commit_logs_info(logs, i, &info);
        snprintf(name, sizeof name, "commit/c%u-%u-*.gwl", info.dispatcher, info.incarnation);
        note(v, name, info.bytes, "");
    }
    check_missing_logs(v, logs, state_incarnation);
    gw_commit_logs_close(logs);
}

/* One data directory. False: it is none. */
static bool check_directory(struct verify *v)
{
    uint64_t numbers[GWI_OFFLINE_STATES_MAX];
    if (!read_identity(v))
        return false;
    uint32_t count = gwi_offline_states(v->dir, numbers);
    bool segments_seen = false;
    uint32_t incarnation = 0; /* that wrote the newest good state */
    if ((count ? numbers[0] : 0) < v->checkpoint) {
        char name[64], file[100];
        snprintf(file, sizeof file, "checkpoints/%s", gwi_state_name(v->checkpoint, name));
        note(v, file, 0, "missing: store.json knows of it");
    }
    for (uint32_t i = 0; i < count; i++) {
        char name[64], file[100], path[PATH_BYTES], why[GWI_STATE_WHY] = "";
        const char *wrong = "";
        size_t bytes = 0;
        struct gwi_state state = {0};
        snprintf(file, sizeof file, "checkpoints/%s", gwi_state_name(numbers[i], name));
        snprintf(path, sizeof path, "%s/%s", v->dir, file);
        uint8_t *all = gwi_offline_read(path, &bytes, &wrong);
        enum gw_status st = all ? gwi_state_decode(all, bytes, &state, why) : GW_E_IO;
        if (st == GW_OK && state.store_id != v->store_id) {
            wrong = "it is another store's";
        } else if (st == GW_OK && state.image.number != numbers[i]) {
            wrong = "its number is not that of its name";
        } else {
            wrong = all ? why : wrong;
        }
        note(v, file, bytes, wrong);
        if (st == GW_OK && wrong[0] == 0) {
            check_index(v, &state);
            struct gw_ssd_expected expected = {.store_id = v->store_id,
                                               .page_bits = state.page_bits,
                                               .hash_seed_check = state.hash_seed_check,
                                               .begin = state.image.begin,
                                               .end = state.image.end,
                                               .gaps = state.image.gaps,
                                               .gaps_count = state.image.gaps_count};
            struct segments segments = {v};
            snprintf(path, sizeof path, "%s/log", v->dir);
            if (!segments_seen) { /* of the newest that is good: what recovery would read */
                segments_seen = true;
                incarnation = state.incarnation;
                check_elsewhere(v, &state, &expected.begin);
                st = gw_ssd_verify(path, &expected, !v->quick, segment_noted, &segments);
                if (st != GW_OK && st != GW_E_CORRUPT)
                    note(v, "log/", 0, gw_status_text(st));
            }
        }
        gwi_state_fini(&state);
        free(all);
    }
    check_commit_logs(v, count ? numbers[0] : 0, incarnation);
    return true;
}

static int usage(const char *what)
{
    fprintf(stderr,
            "godwit-server verify: %s\n"
            "usage: godwit-server verify DIR [--json] [--quick] [--blob URL]\n"
            "  DIR         a data directory, a backup, or one server's part of a backup\n"
            "  --quick     checkpoints, tables and logs only: segments and objects are not read "
            "whole\n"
            "  --blob URL  looks into the shared tier, too, for what is not on the disk\n",
            what);
    return 2;
}

int gwi_verify_main(int argc, char **argv)
{
    struct verify v = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            v.json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            v.quick = true;
        else if (strcmp(argv[i], "--blob") == 0 && i + 1 < argc)
            v.blob = argv[++i];
        else if (argv[i][0] == '-')
            return usage("unknown flag, or its value is missing");
        else if (v.dir)
            return usage("one directory only");
        else
            v.dir = argv[i];
    }
    if (!v.dir)
        return usage("the directory is missing");
    struct stat about;
    if (stat(v.dir, &about) != 0 || !S_ISDIR(about.st_mode)) {
        fprintf(stderr, "godwit-server verify: %s is no directory that can be read\n", v.dir);
        return 3;
    }
    v.files = json_array();
    v.elsewhere = json_array();
    const char *top = v.dir;
    static struct gwi_manifest_list parts;
    if (gwi_manifest_parts(top, &parts)) { /* a backup of several servers */
        for (uint32_t i = 0; i < parts.count; i++) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "%s/%s", top, parts.name[i]);
            v.dir = path;
            if (!v.json)
                printf("%s\n", path);
            gwi_manifest_check(path, note_manifest, &v);
            check_directory(&v);
        }
        v.dir = top;
    } else {
        gwi_manifest_check(top, note_manifest, &v);
        check_directory(&v);
    }
    char size[32];
    gw_format_size(v.bytes, size, sizeof size);
    if (v.json) {
        json_t *all =
            json_pack("{s:s, s:I, s:I, s:I, s:O, s:O}", "directory", top, "good",
                      (json_int_t)v.good, "damaged", (json_int_t)v.bad, "bytes",
                      (json_int_t)v.bytes, "files", v.files, "not_looked_at", v.elsewhere);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else if (v.bad) {
        printf("%" PRIu64 " of %" PRIu64 " damaged or missing\n", v.bad, v.good + v.bad);
    } else {
        printf("all good%s: %" PRIu64 " files, %s\n",
               json_array_size(v.elsewhere) ? ", as far as it was looked at" : "", v.good, size);
    }
    json_decref(v.files);
    json_decref(v.elsewhere);
    return v.bad ? 1 : 0;
}
