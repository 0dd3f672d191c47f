/* options.c - parses and checks the flags of godwit-server; every refusal names the flag, what was
 * given and the limit. */
#define _GNU_SOURCE
#include "server/options.h"

#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/text.h"
#include "index/store.h"
#include "server/memory.h"
#include "tiering/tier.h"

static const char usage_text[] =
    "usage: godwit-server --id NAME --listen HOST:PORT --coordinator HOST:PORT --data DIR\n"
    "                     --threads N --memory SIZE [--disk SIZE] [--evict] [...]\n"
    "\n"
    "  --id NAME            identity in the cluster, 1 to 63 of [A-Za-z0-9._-]; the address may "
    "change\n"
    "  --listen HOST:PORT   where clients and servers connect (default 127.0.0.1:7401; port 0: "
    "any)\n"
    "  --advertise H:P      the address told to others, if it differs from --listen\n"
    "  --coordinator H:P    the cluster's coordinator (default 127.0.0.1:7400)\n"
    "  --data DIR           directory of this server, made if it is not there; one process at a "
    "time\n"
    "  --threads N          dispatchers, one a vCPU (default: the CPUs this process may use; up to "
    "128)\n"
    "  --pin                pin dispatcher i to the i-th CPU (default when there are as many as "
    "CPUs)\n"
    "\n"
    "  --memory SIZE        all memory of the process: index, log, buffers, connections (64MiB, "
    "2GiB,\n"
    "                       ...; default 1GiB)\n"
    "  --index-memory SIZE  part of it that the index has at the start (default: a 16th); it grows "
    "to\n"
    "                       60 % of what buffers and connections leave\n"
    "  --page-size SIZE     a page of the log, 1MiB to 64MiB, power of two; no record is larger "
    "(default\n"
    "                       4MiB, 2MiB below 1GiB of memory, 1MiB below 64MiB)\n"
    "\n"
    "  --disk SIZE          records beyond memory go to segment files under DIR/log, up to this "
    "size\n"
    "                       (default: none, what does not fit into memory is refused)\n"
    "  --segment-size SIZE  of those files (default: 256MiB, less when --disk is small)\n"
    "  --io WAY             auto (default), direct (O_DIRECT or refuse to start), buffered\n"
    "  --evict              a cache: when memory (and disk) are used up drop the oldest records "
    "instead\n"
    "                       of refusing writes\n"
    "\n"
    "  --blob URL           a shared tier beyond --disk: what was not touched for longest lies "
    "there "
    "only.\n"
    "                       dir:PATH (a directory that all servers share) or\n"
    "                       s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT&region=REGION]; "
    "credentials come\n"
    "                       from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or\n"
    "                       ~/.aws/credentials. Once given to a directory it is needed at every "
    "start\n"
    "  --blob-limit SIZE    of the log, on disk and beyond (default: no bound)\n"
    "  --blob-cache SIZE    of memory for what was read from there (default: a 32nd of --memory, "
    "up to\n"
    "                       64MiB)\n"
    "  --blob-level N       of compression, 1 (default) to 19\n"
    "\n"
    "  --durability MODE    with --disk: memory (default; what a restart finds is the last "
    "checkpoint) or\n"
    "                       commit (an answer is durable; not with --evict)\n"
    "  --checkpoint-interval SECONDS  between checkpoints (default 60; 0: only when they are "
    "needed)\n"
    "  --commit-log SIZE    of all commit logs, above it a checkpoint is taken (default: half of "
    "--memory,\n"
    "                       up to 1GiB; at least 64MiB)\n"
    "  --recover=salvage    start although files are missing or damaged, from what is left; says "
    "what that\n"
    "                       leaves out\n";

static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int refuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("godwit-server: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    return 2;
}

static uint32_t cpus_allowed(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (uint32_t)n : 1;
}

static int take_address(const char *flag, const char *text, char *out)
{
    char host[256];
    uint16_t port;
    if (strlen(text) > GW_ADDRESS_BYTES_MAX)
        return refuse("%s %s: an address has at most %u bytes", flag, text, GW_ADDRESS_BYTES_MAX);
    if (gw_parse_address(text, host, sizeof host, &port) != GW_OK)
        return refuse("%s %s: not HOST:PORT with a port from 0 to 65535", flag, text);
    strcpy(out, text);
    return -1;
}

static bool id_is_good(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= GW_ID_BYTES_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static const char *size_text(uint64_t bytes, char *room)
{
    gw_format_size(bytes, room, 32);
    return room;
}

static int check_disk(const struct gwi_options *o)
{
    char a[32], b[32], c[32];
    if (!o->disk_bytes) {
        if (o->segment_bytes)
            return refuse("--segment-size %s: there are no segments without --disk; give both",
                          size_text(o->segment_bytes, a));
        if (o->io != GWI_IO_AUTO)
            return refuse("--io %s: nothing is read or written without --disk; give both",
                          o->io == GWI_IO_DIRECT ? "direct" : "buffered");
        return -1;
    }
    if (o->disk_bytes > GWI_DISK_MAX)
        return refuse("--disk %s: must be at most 16TiB", size_text(o->disk_bytes, a));
    if (o->disk_bytes < o->memory_bytes)
        return refuse(
            "--disk %s is smaller than --memory %s: records go there when memory is full, "
            "so it must be larger; give more, or leave --disk out",
            size_text(o->disk_bytes, a), size_text(o->memory_bytes, b));
    if (o->segment_bytes > o->disk_bytes / GW_SSD_SEGMENTS_LEAST)
        return refuse("--disk %s holds fewer than %u segments of --segment-size %s, with which "
                      "nothing can be compacted; give at least --disk %s, or smaller segments",
                      size_text(o->disk_bytes, a), GW_SSD_SEGMENTS_LEAST,
                      size_text(o->segment_bytes, b),
                      size_text(GW_SSD_SEGMENTS_LEAST * o->segment_bytes, c));
    return -1;
}

/* The form; whether anybody answers there is seen later. NULL: good. */
static const char *wrong_with_url(const char *url)
{
    for (const char *at = url; *at; at++)
        if (*at <= ' ' || *at > '~') /* it is written into JSON and log lines */
            return "blanks, control characters and bytes above 127 are not allowed";
    if (strncmp(url, "dir:", 4) == 0)
        return url[4] == '/' ? NULL : "dir: is followed by an absolute path";
    if (strncmp(url, "s3://", 5) != 0)
        return "must be dir:PATH or s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT&region=REGION]";
    if (strchr(url, '@'))
        return "credentials do not belong there, where every user of the machine can read them; "
               "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials";
    size_t bucket = strcspn(url + 5, "/?");
    if (bucket < 3 || bucket > 63 ||
        strspn(url + 5, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") <
            bucket)
        return "s3:// is followed by the name of a bucket, 3 to 63 of [A-Za-z0-9._-]";
    const char *query = strchr(url, '?');
    for (const char *at = query; at; at = strchr(at + 1, '&')) {
        if (strncmp(at + 1, "endpoint=", 9) != 0 && strncmp(at + 1, "region=", 7) != 0)
            return "behind the ? come endpoint= and region=, with & between them, and nothing else";
        if (strncmp(at + 1, "endpoint=", 9) == 0 && strncmp(at + 10, "http://", 7) != 0 &&
            strncmp(at + 10, "https://", 8) != 0)
            return "endpoint= is followed by http://HOST:PORT or https://HOST[:PORT]";
    }
    return NULL;
}

static int take_url(const char *text, char *out)
{
    if (strlen(text) > GW_BLOB_URL_MAX)
        return refuse("--blob: a URL has at most %u bytes", GW_BLOB_URL_MAX);
    const char *wrong = wrong_with_url(text);
    if (wrong) /* not repeated: it may hold a secret */
        return refuse("--blob %.*s...: %s", (int)strcspn(text, ":"), text, wrong);
    strcpy(out, text);
    return -1;
}

static int check_blob(const struct gwi_options *o, bool level_given)
{
    char a[32], b[32];
    if (!o->blob_url[0]) {
        const char *flag = o->blob_limit_bytes   ? "--blob-limit"
                           : o->blob_cache_bytes ? "--blob-cache"
                           : level_given         ? "--blob-level"
                                                 : NULL;
        return flag ? refuse("%s: there is no shared tier without --blob; give both", flag) : -1;
    }
    if (!o->disk_bytes)
        return refuse("--blob: records go there by way of the disk; give --disk, too");
    if (o->evict)
        return refuse("--blob: a cache drops what does not fit instead of keeping it elsewhere; "
                      "leave --evict out, or --blob");
    if (o->blob_limit_bytes && o->blob_limit_bytes < o->disk_bytes)
        return refuse("--blob-limit %s is smaller than --disk %s: it bounds the whole log, on disk "
                      "and beyond; give more, or leave it out",
                      size_text(o->blob_limit_bytes, a), size_text(o->disk_bytes, b));
    if (o->blob_limit_bytes > GWI_BLOB_LIMIT_MAX)
        return refuse("--blob-limit %s: must be at most 32TiB", size_text(o->blob_limit_bytes, a));
    if (o->blob_cache_bytes && o->blob_cache_bytes < GWI_BLOB_CACHE_MIN)
        return refuse("--blob-cache %s: must be at least 1MiB", size_text(o->blob_cache_bytes, a));
    return -1;
}

/* What was given, where the value alone does not say it. */
struct given {
    bool pin, durability, interval, commit_log, level;
};

static int check_durability(struct gwi_options *o, const struct given *given)
{
    char a[32], b[32];
    if (!o->disk_bytes) {
        if (given->durability)
            return refuse("--durability %s: nothing is durable without --disk; give both",
                          o->durability == GWI_DURABILITY_COMMIT ? "commit" : "memory");
        if (given->interval)
            return refuse("--checkpoint-interval %u: there are no checkpoints without --disk; give "
                          "both",
                          o->checkpoint_interval_s);
        if (o->salvage)
            return refuse("--recover=salvage: there is nothing to recover without --disk; give "
                          "both");
    } else if (!given->durability)
        o->durability = GWI_DURABILITY_MEMORY;
    if (o->durability == GWI_DURABILITY_COMMIT && o->evict)
        return refuse(
            "--durability commit: a cache forgets keys, so that no order of their changes "
            "can be recovered; leave --evict out, or give --durability memory");
    if (given->commit_log && o->durability != GWI_DURABILITY_COMMIT)
        return refuse("--commit-log %s: there is no commit log without --durability commit; give "
                      "both",
                      size_text(o->commit_log_bytes, a));
    if (!given->commit_log) {
        o->commit_log_bytes = o->memory_bytes / 2 < GWI_COMMIT_LOG_DEFAULT_MAX
                                  ? o->memory_bytes / 2
                                  : GWI_COMMIT_LOG_DEFAULT_MAX;
        if (o->commit_log_bytes < GWI_COMMIT_LOG_MIN)
            o->commit_log_bytes = GWI_COMMIT_LOG_MIN;
    }
    if (o->commit_log_bytes < GWI_COMMIT_LOG_MIN || o->commit_log_bytes > GWI_DISK_MAX)
        return refuse("--commit-log %s: must lie between %s and 16TiB",
                      size_text(o->commit_log_bytes, a), size_text(GWI_COMMIT_LOG_MIN, b));
    return -1;
}

static int check(struct gwi_options *o, const struct given *given)
{
    char a[32], why[512];
    if (o->id[0] == 0)
        return refuse("--id is missing");
    if (o->data[0] == 0)
        return refuse("--data is missing");
    if (o->memory_bytes < GWI_MEMORY_MIN || o->memory_bytes > (1ull << 44))
        return refuse("--memory %s: must lie between 32MiB and 16TiB",
                      size_text(o->memory_bytes, a));
    if (o->index_bytes &&
        (o->index_bytes < (1ull << 20) || o->index_bytes > o->memory_bytes / 4 * 3))
        return refuse("--index-memory %s: must lie between 1MiB and three quarters of --memory",
                      size_text(o->index_bytes, a));
    int code = check_disk(o);
    if (code == -1)
        code = check_blob(o, given->level);
    if (code == -1)
        code = check_durability(o, given);
    if (code != -1)
        return code;
    struct gwi_memory plan;
    if (gwi_memory_plan(o, &plan, why, sizeof why) != GW_OK)
        return refuse("%s", why);
    if (o->blob_url[0] && UINT64_C(1) << plan.page_bits > GW_TIER_EXTENT_BYTES)
        return refuse("--page-size %u MiB: with --blob at most %u MiB, for no object is larger",
                      1u << (plan.page_bits - 20), GW_TIER_EXTENT_BYTES >> 20);
    if (o->segment_bytes && o->segment_bytes % (UINT64_C(1) << plan.page_bits) != 0)
        return refuse("--segment-size %s: must be a whole number of pages of %u MiB",
                      size_text(o->segment_bytes, a), 1u << (plan.page_bits - 20));
    if (!given->pin)
        o->pin = o->threads == cpus_allowed();
    return -1;
}

static int take_size(const char *flag, const char *text, uint64_t *out)
{
    if (gw_parse_size(text, out) != GW_OK || *out == 0)
        return refuse("%s %s: not a size (64MiB, 2GiB, ...)", flag, text);
    return -1;
}

static int take_page_size(const char *text, uint32_t *bits)
{
    uint64_t bytes;
    if (gw_parse_size(text, &bytes) != GW_OK || (bytes & (bytes - 1)) || bytes < (1ull << 20) ||
        bytes > (1ull << GW_STORE_PAGE_BITS_MAX))
        return refuse("--page-size %s: must be a power of two from 1MiB to 64MiB", text);
    *bits = (uint32_t)__builtin_ctzll(bytes);
    return -1;
}

static int take_io(const char *text, enum gwi_io *io)
{
    static const char *const names[] = {"auto", "direct", "buffered"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *io = (enum gwi_io)i;
            return -1;
        }
    return refuse("--io %s: must be auto, direct or buffered", text);
}

static int take_durability(const char *text, enum gwi_durability *mode)
{
    if (strcmp(text, "memory") == 0)
        *mode = GWI_DURABILITY_MEMORY;
    else if (strcmp(text, "commit") == 0)
        *mode = GWI_DURABILITY_COMMIT;
    else
        return refuse("--durability %s: must be memory or commit (neither: leave --disk out)",
                      text);
    return -1;
}

int gwi_options_parse(int argc, char **argv, struct gwi_options *o)
{
    enum {
        ID = 256,
        LISTEN,
        ADVERTISE,
        COORDINATOR,
        DATA,
        THREADS,
        MEMORY,
        INDEX,
        PAGE,
        DISK,
        SEGMENT,
        IO,
        EVICT,
        BLOB,
        BLOB_LIMIT,
        BLOB_CACHE,
        BLOB_LEVEL,
        DURABILITY,
        INTERVAL,
        COMMIT_LOG,
        RECOVER,
        PIN,
        HELP,
        VERSION
    };
    static const struct option flags[] = {{"id", 1, 0, ID},
                                          {"listen", 1, 0, LISTEN},
                                          {"advertise", 1, 0, ADVERTISE},
                                          {"coordinator", 1, 0, COORDINATOR},
                                          {"data", 1, 0, DATA},
                                          {"threads", 1, 0, THREADS},
                                          {"memory", 1, 0, MEMORY},
                                          {"index-memory", 1, 0, INDEX},
                                          {"page-size", 1, 0, PAGE},
                                          {"disk", 1, 0, DISK},
                                          {"segment-size", 1, 0, SEGMENT},
                                          {"io", 1, 0, IO},
                                          {"evict", 0, 0, EVICT},
                                          {"blob", 1, 0, BLOB},
                                          {"blob-limit", 1, 0, BLOB_LIMIT},
                                          {"blob-cache", 1, 0, BLOB_CACHE},
                                          {"blob-level", 1, 0, BLOB_LEVEL},
                                          {"durability", 1, 0, DURABILITY},
                                          {"checkpoint-interval", 1, 0, INTERVAL},
                                          {"commit-log", 1, 0, COMMIT_LOG},
                                          {"recover", 1, 0, RECOVER},
                                          {"pin", 0, 0, PIN},
                                          {"help", 0, 0, HELP},
                                          {"version", 0, 0, VERSION},
                                          {0, 0, 0, 0}};
    memset(o, 0, sizeof *o);
    strcpy(o->listen, "127.0.0.1:7401");
    strcpy(o->coordinator, "127.0.0.1:7400");
    o->threads = cpus_allowed() < GWI_THREADS_MAX ? cpus_allowed() : GWI_THREADS_MAX;
    o->memory_bytes = 1ull << 30;
    o->checkpoint_interval_s = GWI_CHECKPOINT_INTERVAL;
    o->blob_level = 1;
    struct given given = {false};
    int flag, code = -1;
    uint64_t number;
    while (code == -1 && (flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case ID:
            if (!id_is_good(optarg))
                return refuse("--id %s: must be 1 to 63 of [A-Za-z0-9._-]", optarg);
            strcpy(o->id, optarg);
            break;
        case LISTEN:
            code = take_address("--listen", optarg, o->listen);
            break;
        case ADVERTISE:
            code = take_address("--advertise", optarg, o->advertise);
            break;
        case COORDINATOR:
            code = take_address("--coordinator", optarg, o->coordinator);
            break;
        case DATA:
            if (strlen(optarg) == 0 || strlen(optarg) >= sizeof o->data)
                return refuse("--data: a path has 1 to %zu bytes", sizeof o->data - 1);
            strcpy(o->data, optarg);
            break;
        case THREADS:
            if (gw_parse_u64(optarg, 1, GWI_THREADS_MAX, &number) != GW_OK)
                return refuse("--threads %s: must be a number from 1 to %u", optarg,
                              GWI_THREADS_MAX);
            o->threads = (uint32_t)number;
            break;
        case MEMORY:
            code = take_size("--memory", optarg, &o->memory_bytes);
            break;
        case INDEX:
            code = take_size("--index-memory", optarg, &o->index_bytes);
            break;
        case PAGE:
            code = take_page_size(optarg, &o->page_bits);
            break;
        case DISK:
            code = take_size("--disk", optarg, &o->disk_bytes);
            break;
        case SEGMENT:
            code = take_size("--segment-size", optarg, &o->segment_bytes);
            break;
        case IO:
            code = take_io(optarg, &o->io);
            break;
        case EVICT:
            o->evict = true;
            break;
        case BLOB:
            code = take_url(optarg, o->blob_url);
            break;
        case BLOB_LIMIT:
            code = take_size("--blob-limit", optarg, &o->blob_limit_bytes);
            break;
        case BLOB_CACHE:
            code = take_size("--blob-cache", optarg, &o->blob_cache_bytes);
            break;
        case BLOB_LEVEL:
            if (gw_parse_u64(optarg, 1, GWI_BLOB_LEVEL_MAX, &number) != GW_OK)
                return refuse("--blob-level %s: must be a number from 1 to %u", optarg,
                              GWI_BLOB_LEVEL_MAX);
            o->blob_level = (uint32_t)number;
            given.level = true;
            break;
        case DURABILITY:
            code = take_durability(optarg, &o->durability);
            given.durability = true;
            break;
        case INTERVAL:
            if (gw_parse_u64(optarg, 0, GWI_CHECKPOINT_INTERVAL_MAX, &number) != GW_OK)
                return refuse("--checkpoint-interval %s: must be a number of seconds from 0 to %u",
                              optarg, GWI_CHECKPOINT_INTERVAL_MAX);
            o->checkpoint_interval_s = (uint32_t)number;
            given.interval = true;
            break;
        case COMMIT_LOG:
            code = take_size("--commit-log", optarg, &o->commit_log_bytes);
            given.commit_log = true;
            break;
        case RECOVER:
            if (strcmp(optarg, "salvage") != 0)
                return refuse("--recover %s: must be salvage", optarg);
            o->salvage = true;
            break;
        case PIN:
            o->pin = given.pin = true;
            break;
        case HELP:
            fputs(usage_text, stdout);
            return 0;
        case VERSION:
            puts("godwit-server " GODWIT_VERSION);
            return 0;
        default:
            fputs(usage_text, stderr);
            return 2;
        }
    }
    if (code != -1)
        return code;
    if (optind < argc)
        return refuse("%s: not a flag", argv[optind]);
    return check(o, &given);
}
