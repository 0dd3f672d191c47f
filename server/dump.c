/* dump.c - the records of a data directory as a stream; see dump.h. The newest checkpoint is opened
 * as a server would, with a device that writes nothing; commit logs behind it are not replayed, for
 * a backup has none. */
#include "server/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/peer.h"
#include "index/base/clock.h"
#include "index/indirection.h"
#include "index/store_recover.h"
#include "server/manifest.h"
#include "server/offline.h"
#include "server/offline_tier.h"
#include "server/state_file.h"
#include "tiering/tier.h"

#define PATH_BYTES    GWI_OFFLINE_PATH_BYTES
#define FRAMES        16u /* of memory for the log: nothing is written to it */
#define BUCKETS       256u
#define INDEX_LEAST   ((uint64_t)32 << 20)
#define BYTES_A_KEY   32u
#define INDEX_TRIES   8u
#define OUTPUT_BUFFER ((size_t)1 << 20)
#define AWAY_MS       60000u

struct dump {
    const char *dir;
    struct gwi_state state;
    uint8_t *state_bytes; /* owned; what state borrows */
    const char *blob;     /* URL of the shared tier; NULL: none was given */
    struct gw_device *device;
    struct gw_tier *tier; /* the same device's other face, with `blob` */
    struct gw_store *store;
    struct gw_thread *thread;
    const struct gw_slots *slots; /* NULL: all */
    FILE *index;
    uint8_t *room;
    size_t room_bytes;
    uint64_t records;
    bool failed;
};

static int failed(const char *dir, const char *what, const char *why)
{
    fprintf(stderr, "godwit-server dump %s: %s%s%s\n", dir, what, why[0] ? ": " : "", why);
    return 1;
}

static int load_state(struct dump *d)
{
    uint64_t numbers[GWI_OFFLINE_STATES_MAX];
    char path[PATH_BYTES], name[64], why[GWI_STATE_WHY] = "";
    const char *wrong = "";
    size_t bytes = 0;
    uint32_t count = gwi_offline_states(d->dir, numbers);
    if (count == 0)
        return failed(d->dir, "has no checkpoint", "");
    snprintf(path, sizeof path, "%s/checkpoints/%s", d->dir, gwi_state_name(numbers[0], name));
    d->state_bytes = gwi_offline_read(path, &bytes, &wrong);
    if (!d->state_bytes)
        return failed(path, wrong, "");
    if (gwi_state_decode(d->state_bytes, bytes, &d->state, why) != GW_OK) {
        free(d->state_bytes);
        d->state_bytes = NULL;
        return failed(path, why, "");
    }
    return 0;
}

/* Without the shared tier a dump of what is on the disk alone would look like all there is. */
static int check_whole(const struct dump *d)
{
    struct gwi_offline_tier tier;
    const char *wrong = "";
    uint64_t to;
    uint32_t objects;
    if (!gwi_offline_tier(d->dir, &tier, &wrong))
        return failed(d->dir, "log/tier.json", wrong);
    int code = 0;
    if (!d->blob && gwi_offline_tier_part(&tier, &d->state, &to, &objects)) {
        fprintf(stderr,
                "godwit-server dump %s: the records of addresses %#" PRIx64 " to %#" PRIx64
                " lie in the shared tier %s only (%u objects): give --blob URL\n",
                d->dir, d->state.image.begin.v, to, tier.url, objects);
        code = 1;
    }
    gwi_offline_tier_fini(&tier);
    return code;
}

static int open_device(struct dump *d)
{
    char path[PATH_BYTES], error[GW_SSD_TEXT_BYTES] = "";
    struct gw_ssd_report report = {0};
    const struct gwi_state *s = &d->state;
    int code = check_whole(d);
    if (code != 0)
        return code;
    snprintf(path, sizeof path, "%s/log", d->dir);
    struct gw_tier_options o = {.ssd = {.dir = path,
                                        .page_bits = s->page_bits,
                                        .segment_bytes = s->segment_bytes,
                                        .store_id = s->store_id,
                                        .incarnation = UINT32_MAX,
                                        .hash_seed_check = s->hash_seed_check,
                                        .keep_earlier = true,
                                        .read_only = true,
                                        .queues = 4,
                                        .buffered = true},
                                .blob_url = d->blob,
                                .cluster = s->cluster};
    size_t id = strlen(s->server_id);
    memcpy(o.ssd.server_id, s->server_id,
           id < sizeof o.ssd.server_id ? id : sizeof o.ssd.server_id);
    snprintf(o.server_id, sizeof o.server_id, "%s", s->server_id);
    enum gw_status st = d->blob ? gw_tier_open(&o, &d->device, &d->tier, &report)
                                : gw_ssd_open(&o.ssd, &d->device, &report);
    if (st != GW_OK)
        return failed(d->dir, "log/ cannot be opened", report.error);
    st = d->tier ? gw_tier_adopt(d->tier, s->image.begin, s->image.end, s->image.gaps,
                                 s->image.gaps_count, error, sizeof error)
                 : gw_ssd_adopt(d->device, s->image.begin, s->image.end, s->image.gaps,
                                s->image.gaps_count, error, sizeof error);
    return st == GW_OK ? 0 : failed(d->dir, "the log is damaged", error);
}

static enum gw_status next_block(void *ctx, uint8_t *block)
{
    struct dump *d = ctx;
    size_t n = fread(block, 1, GW_SNAPSHOT_BLOCK, d->index);
    if (n == 0 && feof(d->index))
        return GW_END;
    return n == GW_SNAPSHOT_BLOCK ? GW_OK : GW_E_CORRUPT;
}

static enum gw_status recover(struct dump *d, uint64_t index_bytes, uint64_t seed, char *why,
                              size_t why_bytes)
{
    const struct gwi_state *s = &d->state;
    struct gw_store_options options = {.log_bytes = (uint64_t)FRAMES << s->page_bits,
                                       .index_bytes = index_bytes,
                                       .page_bits = s->page_bits,
                                       .threads_max = 4,
                                       .hash_seed = seed,
                                       .device = d->device};
    struct gw_recovery recovery = {.image = s->image,
                                   .snapshot_start = s->image.begin,
                                   .resume = d->tier ? gw_tier_resume(d->tier, s->image.end)
                                                     : gw_ssd_resume(d->device, s->image.end),
                                   .threads = 2,
                                   .mixed = s->mixed,
                                   .mixed_count = s->mixed_count};
    if (s->index.number) {
        char path[PATH_BYTES], name[64];
        snprintf(path, sizeof path, "%s/checkpoints/%s", d->dir,
                 gwi_index_name(s->index.number, name));
        d->index = fopen(path, "rb");
        if (!d->index) {
            snprintf(why, why_bytes, "checkpoints/%s cannot be opened", name);
            return GW_E_IO;
        }
        recovery.next_block = next_block;
        recovery.next_ctx = d;
        recovery.snapshot_start = s->index.start;
    }
    enum gw_status st = gw_store_recover(&options, &recovery, &d->store, why, why_bytes);
    if (d->index)
        fclose(d->index);
    d->index = NULL;
    return st;
}

static int open_store(struct dump *d, uint64_t seed)
{
    char why[512] = "";
    uint64_t keys = d->state.image.keys > 0 ? (uint64_t)d->state.image.keys : 0;
    uint64_t bytes = keys * BYTES_A_KEY > INDEX_LEAST ? keys * BYTES_A_KEY : INDEX_LEAST;
    enum gw_status st = GW_E_INVALID;
    for (uint32_t i = 0; st == GW_E_INVALID && i < INDEX_TRIES; i++, bytes *= 2)
        st = recover(d, bytes, seed, why, sizeof why);
    if (st != GW_OK)
        return failed(d->dir, "cannot be recovered", why);
    if (gw_store_thread_open(d->store, &d->thread) != GW_OK)
        return failed(d->dir, "out of memory", "");
    return 0;
}

/* What such a reference leads to is not here. */
static int check_resolved(const struct dump *d)
{
    uint32_t logs = gw_store_foreign(d->store, NULL, 0);
    if (logs == 0)
        return 0;
    fprintf(
        stderr,
        "godwit-server dump %s: some of its keys lie in the logs of %u other servers only; start "
        "the server and use `godwit backup`, which waits until they have come\n",
        d->dir, logs);
    return 1;
}

static bool put(struct dump *d, const void *bytes, size_t n)
{
    if (fwrite(bytes, 1, n, stdout) == n)
        return true;
    d->failed = true;
    return false;
}

static bool record(void *ctx, const struct gw_record_view *view)
{
    struct dump *d = ctx;
    struct gw_peer_record r = {.key = view->key,
                               .key_bytes = view->key_bytes,
                               .value = view->value,
                               .value_bytes = view->value_bytes,
                               .number = view->number,
                               .expiry_ms = view->expiry_ms,
                               .version = view->version,
                               .kind = view->kind};
    size_t need = gw_peer_record_bytes(&r);
    if (need > d->room_bytes) {
        uint8_t *room = realloc(d->room, need);
        if (!room) {
            d->failed = true;
            return false;
        }
        d->room = room;
        d->room_bytes = need;
    }
    struct gw_writer w = gw_writer_of(d->room, need);
    gw_peer_record_encode(&r, &w);
    uint8_t length[4];
    gw_store32(length, (uint32_t)gw_writer_used(&w));
    d->records++;
    return put(d, length, sizeof length) && put(d, d->room, gw_writer_used(&w));
}

/* A shared tier that is away is waited for, but not for ever. */
static bool is_away(const struct dump *d)
{
    struct gw_tier_stats t;
    if (!d->tier)
        return false;
    gw_tier_stats(d->tier, &t);
    uint64_t now_ms = gw_clock_wall_ms(gw_clock_system());
    if (t.blob.unhealthy_since_ms == 0 || now_ms < t.blob.unhealthy_since_ms + AWAY_MS)
        return false;
    (void)failed(d->dir, "the shared tier does not answer; the dump is cut off", t.blob.trouble);
    return true;
}

static int write_out(struct dump *d)
{
    struct gw_cursor cursor = {0};
    uint64_t ready[64];
    setvbuf(stdout, NULL, _IOFBF, OUTPUT_BUFFER);
    (void)put(d, "GWDUMP1\n", 8);
    while (!cursor.done && !d->failed) {
        gw_store_enter(d->thread);
        gw_store_walk(d->thread, &cursor, UINT64_MAX, d->slots, false, BUCKETS, record, d);
        gw_store_exit(d->thread);
        (void)gw_store_poll(d->thread);
        while (gw_store_ready(d->thread, ready, 64) != 0)
            continue;
        if (is_away(d))
            return 1;
    }
    struct gw_store_stats stats;
    gw_store_stats(d->store, &stats);
    if (stats.corrupt)
        return failed(d->dir, "records could not be read: damaged blocks; the dump is cut off", "");
    uint8_t end[12] = {0};
    gw_store64(end + 4, d->records);
    (void)put(d, end, sizeof end);
    if (fflush(stdout) != 0 || d->failed)
        return failed(d->dir, "the output could not be written", "");
    fprintf(stderr, "%" PRIu64 " records\n", d->records);
    return 0;
}

static int usage(const char *what)
{
    fprintf(stderr,
            "godwit-server dump: %s\n"
            "usage: godwit-server dump DIR --hash-seed N [--slots A-B,...] [--blob URL]\n",
            what);
    return 2;
}

int gwi_dump_main(int argc, char **argv)
{
    struct dump d = {0};
    struct gw_slots slots;
    char error[160];
    uint64_t seed = 0;
    bool seed_given = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--hash-seed") == 0 && i + 1 < argc) {
            char *end;
            seed = strtoull(argv[++i], &end, 0);
            seed_given = *end == 0;
        } else if (strcmp(argv[i], "--slots") == 0 && i + 1 < argc) {
            if (gw_slots_parse(argv[++i], &slots, error, sizeof error) != GW_OK)
                return usage(error);
            d.slots = &slots;
        } else if (strcmp(argv[i], "--blob") == 0 && i + 1 < argc) {
            d.blob = argv[++i];
        } else if (argv[i][0] == '-' || d.dir) {
            return usage("unknown argument");
        } else {
            d.dir = argv[i];
        }
    }
    if (!d.dir)
        return usage("the directory is missing");
    int code = load_state(&d);
    if (code != 0)
        return code;
    if (!seed_given) {
        struct gwi_manifest m;
        if (gwi_manifest_read(d.dir, &m) == GW_OK) {
            seed = m.hash_seed;
            gw_slots_clear(&slots);
            if (!d.slots && gw_slots_parse(m.slots, &slots, error, sizeof error) == GW_OK)
                d.slots = &slots;
            gwi_manifest_fini(&m);
            seed_given = true;
        }
    }
    if (!seed_given)
        code = usage("--hash-seed is missing: a data directory does not have it, a backup does");
    if (code == 0 && (uint32_t)(seed ^ seed >> 32) != d.state.hash_seed_check)
        code = failed(d.dir, "the hash seed is not that of this store", "");
    if (code == 0)
        code = open_device(&d);
    if (code == 0)
        code = open_store(&d, seed);
    if (code == 0)
        code = check_resolved(&d);
    if (code == 0)
        code = write_out(&d);
    gw_store_thread_close(d.thread);
    gw_store_close(d.store);
    if (d.tier)
        gw_tier_close(d.tier);
    else
        gw_ssd_close(d.device);
    gwi_state_fini(&d.state);
    free(d.state_bytes);
    free(d.room);
    return code;
}
