/* counters.c - see counters.h. Virtual machines often have no hardware counters at all, and
 * perf_event_paranoid may forbid them: then there are none, which is said and is no failure. */
#include "bench/counters.h"

#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "index/base/clock.h"

#define CALIBRATION_NS 20000000u

static const struct {
    const char *name;
    uint32_t type;
    uint64_t config;
} events[GW_COUNTS] = {
    [GW_COUNT_CYCLES] = {"cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    [GW_COUNT_INSTRUCTIONS] = {"instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    [GW_COUNT_CACHE_MISSES] = {"cache_misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
    [GW_COUNT_TLB_MISSES] = {"tlb_misses", PERF_TYPE_HW_CACHE,
                             PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_READ << 8 |
                                 PERF_COUNT_HW_CACHE_RESULT_MISS << 16},
};

void gw_bench_counters_start(struct gw_bench_counters *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < GW_COUNTS; i++) {
        struct perf_event_attr attributes = {.size = sizeof attributes,
                                             .type = events[i].type,
                                             .config = events[i].config,
                                             .disabled = 1,
                                             .exclude_kernel = 1,
                                             .exclude_hv = 1};
        c->fd[i] = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
        if (c->fd[i] >= 0)
            (void)ioctl(c->fd[i], PERF_EVENT_IOC_ENABLE, 0);
    }
}

void gw_bench_counters_stop(struct gw_bench_counters *c)
{
    for (int i = 0; i < GW_COUNTS; i++) {
        if (c->fd[i] < 0)
            continue;
        (void)ioctl(c->fd[i], PERF_EVENT_IOC_DISABLE, 0);
        c->present[i] = read(c->fd[i], &c->value[i], sizeof c->value[i]) == sizeof c->value[i];
        close(c->fd[i]);
        c->fd[i] = -1;
    }
}

const char *gw_bench_counter_name(enum gw_bench_counter counter)
{
    return events[counter].name;
}

uint64_t gw_bench_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* The number behind `field` in a file of the kind of /proc/meminfo, in bytes; 0: not there. */
static uint64_t field_bytes(const char *path, const char *field)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    char line[256];
    uint64_t kib = 0;
    size_t length = strlen(field);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && sscanf(line + length, ": %" SCNu64, &kib) == 1)
            break;
    fclose(file);
    return kib << 10;
}

uint64_t gw_bench_rss_bytes(void)
{
    return field_bytes("/proc/self/status", "VmRSS") +
           field_bytes("/proc/self/status", "HugetlbPages");
}

uint64_t gw_bench_memory_free(void)
{
    return field_bytes("/proc/meminfo", "MemAvailable");
}

double gw_bench_ticks_per_ns(void)
{
    const struct gw_clock *clock = gw_clock_system();
    uint64_t ns = gw_clock_now_ns(clock), ticks = gw_bench_ticks(), now;
    do
        now = gw_clock_now_ns(clock);
    while (now - ns < CALIBRATION_NS);
    return (double)(gw_bench_ticks() - ticks) / (double)(now - ns);
}
