/* counters.h - what a run costs besides time: misses and instructions of a thread, if the machine
 * has hardware counters and lets us read them; processor time and memory of the process.
 * A struct gw_bench_counters belongs to one thread. Layer: bench. */
#ifndef GW_BENCH_COUNTERS_H
#define GW_BENCH_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

enum gw_bench_counter {
    GW_COUNT_CYCLES,
    GW_COUNT_INSTRUCTIONS,
    GW_COUNT_CACHE_MISSES,
    GW_COUNT_TLB_MISSES,
    GW_COUNTS,
};

struct gw_bench_counters {
    int fd[GW_COUNTS];         /* -1: this one cannot be had */
    uint64_t value[GW_COUNTS]; /* after stop */
    bool present[GW_COUNTS];
};

/* Counts what the calling thread does in user mode from here to stop. */
void gw_bench_counters_start(struct gw_bench_counters *c);
void gw_bench_counters_stop(struct gw_bench_counters *c);
const char *gw_bench_counter_name(enum gw_bench_counter counter);

uint64_t gw_bench_cpu_ns(void);      /* of the process so far, user and system, all threads */
uint64_t gw_bench_rss_bytes(void);   /* now, huge pages of MAP_HUGETLB included */
uint64_t gw_bench_memory_free(void); /* what the system could still give */

/* The time stamp counter, and how fast it runs. */
static inline uint64_t gw_bench_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
#error "no time stamp counter known for this processor"
#endif
}
double gw_bench_ticks_per_ns(void); /* measured once, 20 ms */
#endif
