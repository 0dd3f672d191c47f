/* main.c - the program `godwit-bench`: its first argument names the benchmark (bench.h). */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} benches[] = {
    {"cluster", gw_bench_cluster, "operations per second and latency of a cluster"},
    {"engine", gw_bench_engine, "the store alone, without a network"},
    {"churn", gw_bench_churn, "memory, disk and pauses of the store while all of it changes"},
    {"profile", gw_bench_profile, "where the time of an operation goes, stage by stage"},
    {"hash", gw_bench_hash, "what hashing a key costs"},
    {"dram", gw_bench_dram, "this machine's random cache lines per second: the ceiling"},
    {"ssd", gw_bench_ssd, "the SSD tier alone: random reads per second and what they cost"},
    {"fsync", gw_bench_fsync, "what the device takes to make a block durable, and the commit log"},
    {"recover", gw_bench_recover, "how long a store takes to come back from its log"},
    {"migrate", gw_bench_migrate, "what clients see while slots move: timelines and pictures"},
    {"loopback", gw_bench_loopback, "bytes a second between two processes: the measure for bulk"},
};
#define BENCHES (sizeof benches / sizeof benches[0])

static void usage(FILE *to)
{
    fputs("usage: godwit-bench NAME [FLAGS] [--json]\n\n", to);
    for (size_t i = 0; i < BENCHES; i++)
        fprintf(to, "  %-9s %s\n", benches[i].name, benches[i].summary);
    fputs("\ngodwit-bench NAME --help shows the flags.\n", to);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; argc >= 2 && i < BENCHES; i++)
        if (strcmp(argv[1], benches[i].name) == 0)
            return benches[i].run(argc - 1, argv + 1);
    if (argc >= 2)
        fprintf(stderr, "godwit-bench: %s: no such benchmark\n", argv[1]);
    usage(stderr);
    return 2;
}
