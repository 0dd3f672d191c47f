/* options.c - the flags of godwit-torture; see run.h. */
#include <inttypes.h>
#include <string.h>

#include "index/base/rand.h"
#include "index/base/text.h"
#include "tests/godwit_torture/run.h"

static const char help[] =
    "usage: godwit-torture [flags]\n"
    "\n"
    "Starts a cluster on this machine, lets clients work on it that know what must come of it, "
    "and\n"
    "makes trouble meanwhile. Exit code 0: nothing was wrong; 1: something was, and is told; 2: a\n"
    "wrong flag; 3: it could not run.\n"
    "\n"
    "  --seconds S       how long (60)\n"
    "  --seed N          decides every choice (a random one, which is printed)\n"
    "  --durability M    none, memory or commit (commit); with none no server is killed\n"
    "  --servers K       1 to 15 (3)\n"
    "  --clients C       1 to 64 (6); every fourth one only reads\n"
    "  --keys N          counters; the other families go by it (400)\n"
    "  --threads N       of each server (2)\n"
    "  --memory SIZE     of each server (64MiB; 160MiB with none)\n"
    "  --disk SIZE       of each server (1GiB; 0 with none)\n"
    "  --blob dir        a directory is the shared tier of all servers; memory and disk are tiny\n"
    "                    then (56MiB and 64MiB), so that most of what there is lies in it\n"
    "  --values N        values of up to some 10 KiB, all written at the start with --blob (8 a\n"
    "                    counter; 120 with --blob)\n"
    "  --moves N         end when so many moves are done; fewer within --seconds are a violation\n"
    "  --no-kill --no-stop --no-cut --no-fill --no-migrate --no-drain --no-outage --no-join\n"
    "                    leave out that trouble: SIGKILL and restart; SIGSTOP; cut connections; a\n"
    "                    full disk; migrations; and with --blob servers that are drained and get\n"
    "                    slots again; a shared tier that cannot be reached; a drained server that\n"
    "                    is removed, with a new one in its place\n"
    "  --dir DIR         where data and logs go (a new directory in TMPDIR)\n"
    "  --keep            leave that directory; it also stays after a violation\n"
    "  --history FILE    write every operation there, one a line\n"
    "  --programs DIR    where godwit-server and godwit-coordinator are (beside this program)\n"
    "  --verbose         tell every trouble as it is made\n";

static int refuse(const char *flag, const char *why)
{
    fprintf(stderr, "godwit-torture: %s: %s (see --help)\n", flag, why);
    return 2;
}

struct number {
    const char *name;
    uint64_t *to, min, max;
    bool size;
};

static int take_number(const struct number *number, const char *text)
{
    char why[120];
    uint64_t value;
    bool good = number->size ? gw_parse_size(text, &value) == GW_OK && value >= number->min &&
                                   value <= number->max
                             : gw_parse_u64(text, number->min, number->max, &value) == GW_OK;
    if (good) {
        *number->to = value;
        return -1;
    }
    snprintf(why, sizeof why, "'%.40s' is not a %s from %" PRIu64 " to %" PRIu64, text,
             number->size ? "size" : "number", number->min, number->max);
    return refuse(number->name, why);
}

static int take_mode(const char *text, enum torture_durability *mode)
{
    for (int m = TORTURE_MODE_NONE; m <= TORTURE_MODE_COMMIT; m++)
        if (strcmp(text, torture_mode_name((enum torture_durability)m)) == 0) {
            *mode = (enum torture_durability)m;
            return -1;
        }
    return refuse("--durability", "it is none, memory or commit");
}

int torture_options_parse(int argc, char **argv, struct torture_options *o)
{
    *o = (struct torture_options){.seconds = 60,
                                  .seed = gw_rand_system_seed() >> 32,
                                  .servers = 3,
                                  .clients = 6,
                                  .keys = 400,
                                  .threads = 2,
                                  .memory_bytes = UINT64_MAX,
                                  .disk_bytes = UINT64_MAX,
                                  .values = UINT64_MAX,
                                  .durability = TORTURE_MODE_COMMIT};
    const struct number numbers[] = {
        {"--seconds", &o->seconds, 1, 1000000, false},
        {"--seed", &o->seed, 0, UINT64_MAX, false},
        {"--servers", &o->servers, 1, TORTURE_SERVERS_MAX, false},
        {"--clients", &o->clients, 1, TORTURE_CLIENTS_MAX, false},
        {"--keys", &o->keys, 16, 1000000, false},
        {"--threads", &o->threads, 1, 64, false},
        {"--memory", &o->memory_bytes, 32u << 20, UINT64_C(1) << 40, true},
        {"--disk", &o->disk_bytes, 0, UINT64_C(1) << 40, true},
        {"--values", &o->values, 16, 10000000, false},
        {"--moves", &o->moves, 1, 100000, false},
    };
    const struct {
        const char *name;
        bool *to;
    } switches[] = {
        {"--no-kill", &o->no_kill},       {"--no-stop", &o->no_stop},
        {"--no-cut", &o->no_cut},         {"--no-fill", &o->no_fill},
        {"--no-migrate", &o->no_migrate}, {"--keep", &o->keep},
        {"--verbose", &o->verbose},       {"--no-drain", &o->no_drain},
        {"--no-outage", &o->no_outage},   {"--no-join", &o->no_join},
    };
    const struct {
        const char *name, **to;
    } texts[] = {{"--dir", &o->directory},
                 {"--blob", &o->blob},
                 {"--history", &o->history},
                 {"--programs", &o->programs}};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i];
        bool known = false;
        if (strcmp(flag, "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        for (size_t s = 0; s < sizeof switches / sizeof switches[0]; s++)
            if (strcmp(flag, switches[s].name) == 0)
                known = *switches[s].to = true;
        if (known)
            continue;
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        int code = -1;
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && !known; n++)
            if (strcmp(flag, numbers[n].name) == 0) {
                known = true;
                code = value ? take_number(&numbers[n], value) : code;
            }
        for (size_t t = 0; t < sizeof texts / sizeof texts[0] && !known; t++)
            if (strcmp(flag, texts[t].name) == 0) {
                known = true;
                *texts[t].to = value;
            }
        if (!known && strcmp(flag, "--durability") == 0) {
            known = true;
            code = value ? take_mode(value, &o->durability) : code;
        }
        if (!known)
            return refuse(flag, "no such flag");
        if (!value)
            return refuse(flag, "this flag needs a value");
        if (code != -1)
            return code;
        i++;
    }
    bool none = o->durability == TORTURE_MODE_NONE;
    if (o->blob && strcmp(o->blob, "dir") != 0)
        return refuse("--blob", "it is dir");
    if (o->blob && none)
        return refuse("--blob", "there is no shared tier without a disk");
    if (o->moves && o->no_migrate)
        return refuse("--moves", "there are none with --no-migrate");
    if (o->memory_bytes == UINT64_MAX)
        o->memory_bytes = (none ? UINT64_C(160) : o->blob ? 56 : 64) << 20;
    if (o->disk_bytes == UINT64_MAX)
        o->disk_bytes = none ? 0 : UINT64_C(1) << (o->blob ? 26 : 30);
    if (o->values == UINT64_MAX)
        o->values = o->keys * (o->blob ? 120 : 8);
    if (!none && o->disk_bytes == 0)
        return refuse("--disk", "nothing is durable without a disk");
    if (none)
        o->no_kill = true;
    return -1;
}

void torture_options_print(const struct torture_options *o, const char *program, FILE *out)
{
    fprintf(out,
            "%s --seconds %" PRIu64 " --seed %" PRIu64 " --durability %s --servers %" PRIu64
            " --clients %" PRIu64 " --keys %" PRIu64 " --threads %" PRIu64 " --memory %" PRIu64
            " --disk %" PRIu64 " --values %" PRIu64 "%s%s%s%s%s%s%s%s",
            program, o->seconds, o->seed, torture_mode_name(o->durability), o->servers, o->clients,
            o->keys, o->threads, o->memory_bytes, o->disk_bytes, o->values,
            o->no_kill && o->durability != TORTURE_MODE_NONE ? " --no-kill" : "",
            o->no_stop ? " --no-stop" : "", o->no_cut ? " --no-cut" : "",
            o->no_fill ? " --no-fill" : "", o->no_migrate ? " --no-migrate" : "",
            o->no_drain ? " --no-drain" : "", o->no_outage ? " --no-outage" : "",
            o->no_join ? " --no-join" : "");
    if (o->blob)
        fprintf(out, " --blob %s", o->blob);
    if (o->moves)
        fprintf(out, " --moves %" PRIu64, o->moves);
    if (o->programs)
        fprintf(out, " --programs %s", o->programs);
    if (o->directory)
        fprintf(out, " --dir %s", o->directory);
    fputc('\n', out);
}
