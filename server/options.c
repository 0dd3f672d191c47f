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

static const char usage_text[] =
    "usage: godwit-server --id NAME --listen HOST:PORT --coordinator HOST:PORT --data DIR\n"
    "                     --threads N --memory SIZE [--index-memory SIZE] [--advertise HOST:PORT]\n"
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
    "  --memory SIZE        memory for index, log and buffers (64MiB, 2GiB, ...; default 1GiB)\n"
    "  --index-memory SIZE  part of it for the index (default: a quarter)\n"
    "  --pin                pin dispatcher i to the i-th CPU (default when there are as many as "
    "CPUs)\n";

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

static int check(struct gwi_options *o, bool pin_given)
{
    if (o->id[0] == 0)
        return refuse("--id is missing");
    if (o->data[0] == 0)
        return refuse("--data is missing");
    if (o->memory_bytes < GWI_MEMORY_MIN || o->memory_bytes > (1ull << 44))
        return refuse("--memory %llu: must lie between 32MiB and 16TiB",
                      (unsigned long long)o->memory_bytes);
    if (o->index_bytes == 0)
        o->index_bytes = o->memory_bytes / 4;
    if (o->index_bytes < (1ull << 20) || o->index_bytes > o->memory_bytes / 4 * 3)
        return refuse("--index-memory %llu: must lie between 1MiB and three quarters of --memory",
                      (unsigned long long)o->index_bytes);
    if (!pin_given)
        o->pin = o->threads == cpus_allowed();
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
                                          {"pin", 0, 0, PIN},
                                          {"help", 0, 0, HELP},
                                          {"version", 0, 0, VERSION},
                                          {0, 0, 0, 0}};
    memset(o, 0, sizeof *o);
    strcpy(o->listen, "127.0.0.1:7401");
    strcpy(o->coordinator, "127.0.0.1:7400");
    o->threads = cpus_allowed() < GWI_THREADS_MAX ? cpus_allowed() : GWI_THREADS_MAX;
    o->memory_bytes = 1ull << 30;
    bool pin_given = false;
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
            if (gw_parse_size(optarg, &o->memory_bytes) != GW_OK)
                return refuse("--memory %s: not a size (64MiB, 2GiB, ...)", optarg);
            break;
        case INDEX:
            if (gw_parse_size(optarg, &o->index_bytes) != GW_OK || o->index_bytes == 0)
                return refuse("--index-memory %s: not a size (64MiB, 2GiB, ...)", optarg);
            break;
        case PIN:
            o->pin = pin_given = true;
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
    return check(o, pin_given);
}
