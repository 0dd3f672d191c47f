/* migrate.h - the parts of `godwit-bench migrate`: what is asked for, what is recorded of a run in
 * rows of 100 ms, and who makes pictures and JSON of it.
 *
 * A run: a cluster of its own is started, keys are loaded, client threads ask for them; in the
 * middle a part of the slots moves from the first server to the second. Nothing is smoothed: a row
 * has what ended in its 100 ms, its percentiles are those of all of these operations.
 * "Inside" are operations on slots of the moving part, before and after the move too; "outside" all
 * others. Times are ns since the load's start, taken by this process, but for those that the
 * coordinator wrote down (in whole ms of the same machine's clock).
 * Main thread only, but for gw_migrate_load's own threads. Layer: bench. */
#ifndef GW_BENCH_MIGRATE_H
#define GW_BENCH_MIGRATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/spawn.h"
#include "bench/workload.h"
#include "client/include/godwit.h"
#include "index/base/histogram.h"
#include "index/base/slots.h"

#define GW_MIGRATE_ROW_NS     100000000ull
#define GW_MIGRATE_FLAGS_MAX  16u
#define GW_MIGRATE_LOOPBACK_S 2u
#define GW_MIGRATE_BULK_FRAME (32u << 10) /* bytes of a usual CHUNK frame */

/* What a job can leave out. */
enum gw_migrate_ablation {
    GW_ABLATE_SAMPLING,
    GW_ABLATE_INDIRECTION,
    GW_ABLATE_PULLS,
    GW_ABLATIONS
};

struct gw_migrate_settings {
    /* the cluster */
    uint64_t servers, server_threads, memory, disk;
    const char *blob; /* NULL: none; "dir": a directory beside the servers' own; else a URL */
    const char *server_flags[GW_MIGRATE_FLAGS_MAX + 1];
    uint32_t server_flags_count;
    bool apart; /* clients on the first processor, everything else on the others */
    int client_cpu;
    bool target_serves; /* the target has an even share of the slots before anything moves */
    double part;        /* of the source's slots, 0..1 */
    /* the load */
    uint64_t threads, keys, key_bytes, value_bytes, batch, depth;
    double rate; /* operations a second in all; 0: closed loop */
    struct gw_workload_options workload;
    bool idle;                                        /* no load while the slots move */
    uint64_t warm_up_s, before_s, after_s, timeout_s; /* timeout: of the job */
    uint64_t settle_s; /* after loading, at most: until the source has uploaded what is closed */
    /* the job */
    bool without[GW_ABLATIONS];
    uint64_t job_rate_bytes, max_impact_us;
    /* the tool */
    uint64_t rounds;
    bool ablate[GW_ABLATIONS], verify, loopback, json;
    const char *out; /* directory of JSON, tables and pictures */
};

enum gw_migrate_owner { GW_OWNER_SOURCE, GW_OWNER_TARGET, GW_OWNER_OTHER, GW_OWNERS };
enum { GW_OUTSIDE, GW_INSIDE, GW_SIDES };

/* Moments of a run; 0: was not seen. */
struct gw_migrate_marks {
    uint64_t measured;     /* the warm-up is over */
    uint64_t asked;        /* the job was asked for */
    uint64_t committed;    /* the coordinator's map names the new owner */
    uint64_t first_served; /* first answer of the target to an operation inside */
    uint64_t last_chunk;   /* the target has everything */
    uint64_t done;
    uint64_t ended; /* of the load */
};

extern const char *const gw_migrate_ablation_names[GW_ABLATIONS]; /* as in a job's options */

/* ---- load (migrate_load.c) ------------------------------------------------------------------ */

struct gw_migrate_load;

/* One thread's 100 ms. */
struct gw_migrate_row {
    uint64_t done[GW_OWNERS]; /* by the owner that the client's map names when the answer comes */
    uint32_t waiting_max,
        waiting_end;           /* issued and unanswered inside: most, and at the row's end */
    uint64_t latest_answer_ns; /* of the operations inside that were issued in this row */
    struct gw_histogram latency_ns[GW_SIDES];
};

struct gw_migrate_load_totals {
    uint64_t operations, errors, wrong, late_rows;
    enum gw_status error;
    uint64_t first_served_ns;
    uint64_t gap_longest_ns[GW_SIDES]; /* without any answer, after the job was asked for */
    struct gw_session_stats stats;     /* sums, wait_longest_ns the most */
};

/* Opens sessions, loads all keys; says on stderr what failed. NULL: failed. `inside` and the
 * settings are borrowed until gw_migrate_load_free. */
struct gw_migrate_load *gw_migrate_load_open(const struct gw_migrate_settings *s,
                                             struct gw_cluster *cluster,
                                             const struct gw_slots *inside, const char *source,
                                             const char *target);
/* Begins the load; the moment that all times count from. */
uint64_t gw_migrate_load_start(struct gw_migrate_load *load);
/* From now on gaps between answers are looked for. */
void gw_migrate_load_asked(struct gw_migrate_load *load);
/* Some thread has ended because a call was refused. */
bool gw_migrate_load_failed(const struct gw_migrate_load *load);
/* Ends the load: every operation has its answer, or is counted as an error. */
void gw_migrate_load_stop(struct gw_migrate_load *load, struct gw_migrate_load_totals *totals);
/* After stop: row `n` of all threads together, into *row. */
void gw_migrate_load_row(const struct gw_migrate_load *load, uint64_t n,
                         struct gw_migrate_row *row);
void gw_migrate_load_free(struct gw_migrate_load *load); /* NULL is ignored */

/* How often each key was written, 1 after loading: known after stop. Borrowed. */
const uint32_t *gw_migrate_load_generations(const struct gw_migrate_load *load);

/* ---- keys and values (migrate_verify.c) ------------------------------------------------------ */

/* The key of a number, settings->key_bytes of it. */
void gwi_migrate_key(const struct gw_migrate_settings *s, uint64_t number, uint8_t *key);
/* Its value when it was written for the generation-th time: bytes that follow from these alone, do
 * not compress, and begin with the number. Counters have the generation itself. */
void gwi_migrate_value(uint8_t *value, uint64_t bytes, uint64_t key, uint32_t generation);

/* Reads every key of `slots` and compares it with what was written last. */
struct gw_migrate_verified {
    uint64_t keys, missing, wrong, failed;
    double seconds;
};
void gw_migrate_verify(const struct gw_migrate_settings *s, const uint32_t *generations,
                       struct gw_cluster *cluster, const struct gw_slots *slots,
                       struct gw_migrate_verified *out);

/* ---- what the cluster says meanwhile (migrate_watch.c, migrate_wire.c) ---------------------- */

struct gw_migrate_job_sample {
    uint64_t at_ns, bytes, records, chunks_done, chunks, pulls, indirections, hot_records;
    uint64_t pull_leads, bytes_left;
};
struct gw_migrate_server_sample {
    uint64_t at_ns;
    uint64_t operations[2], parked[2]; /* source, target */
};
/* Bytes that the kernel has sent: from the source over connections that it opened to the target
 * (chunks, hand-over), and from the source in answer to the target's (pulls). */
struct gw_migrate_wire_sample {
    uint64_t at_ns, bulk, pulled;
};

struct gwi_asker;
struct gw_migrate_watch {
    const char *coordinator, *source, *target; /* addresses */
    uint64_t start_ns;
    int64_t wall_offset_ns; /* wall time - start's clock */
    uint64_t job;
    bool idle; /* no load: looked at more often */
    uint64_t looked_ns;
    char state[24], error[256];
    uint64_t pause_us;
    json_t *last; /* the job as it was seen last; owned */
    uint64_t last_chunk_ns, committed_ns, done_ns;
    /* Arrays of *_max elements, allocated at the start. */
    struct gw_migrate_job_sample *jobs;
    struct gw_migrate_server_sample *servers;
    struct gw_migrate_wire_sample *wires;
    uint32_t jobs_count, servers_count, wires_count, jobs_max, servers_max, wires_max;
    struct gw_migrate_wire *wire;
    struct gwi_asker *asker[3]; /* of coordinator, source, target; NULL: a connection a question */
};

bool gw_migrate_watch_open(struct gw_migrate_watch *w, uint64_t seconds);
void gw_migrate_watch_close(struct gw_migrate_watch *w);
/* Asks for the job. False: refused, said on stderr. */
bool gw_migrate_watch_ask(struct gw_migrate_watch *w, const struct gw_migrate_settings *s,
                          const struct gw_slots *slots, const char *from, const char *to);
/* Looks at job, servers and wire, whatever is due; sleeps until the next look. */
void gw_migrate_watch_turn(struct gw_migrate_watch *w);
bool gw_migrate_watch_ended(const struct gw_migrate_watch *w); /* done, failed, cancelled */
/* A server's `stats`; new reference, NULL: it did not answer. */
json_t *gw_migrate_ask_stats(const char *server);
/* Waits until the server has uploaded every closed part of its log to the shared tier, or so long.
 * False: something was left. At once without a shared tier. */
bool gw_migrate_settle(const char *server, uint64_t seconds);

struct gw_migrate_wire;
struct gw_migrate_wire *gw_migrate_wire_open(const char *source, const char *target);
void gw_migrate_wire_close(struct gw_migrate_wire *wire);
/* False: the kernel does not tell. */
bool gw_migrate_wire_look(struct gw_migrate_wire *wire, uint64_t *bulk, uint64_t *pulled);

/* ---- one run, and what is made of it -------------------------------------------------------- */

/* A row of all threads, small enough to keep. Latencies in us. */
struct gw_migrate_point {
    uint64_t done[GW_OWNERS], all, count[GW_SIDES];
    uint64_t waiting_max, waiting_end, latest_answer_ns;
    double p50[GW_SIDES], p99[GW_SIDES], p999[GW_SIDES], max[GW_SIDES];
};

struct gw_migrate_span { /* of several rows */
    uint64_t rows, all_median, all_least;
    double p50[GW_SIDES], p99[GW_SIDES], p999[GW_SIDES], max[GW_SIDES];
};

struct gw_migrate_run {
    const struct gw_migrate_settings *settings;
    const char *variant; /* "all on", "sampling off", ... */
    uint64_t round;
    bool sound; /* the job is done, no errors, no wrong answers */
    struct gw_slots slots;
    struct gw_migrate_marks marks;
    struct gw_migrate_load_totals totals;
    struct gw_migrate_watch watch;
    struct gw_migrate_point *points;
    uint64_t points_count;
    struct gw_migrate_span before, during, after;
    struct gw_migrate_verified verified;
    bool has_verified;
    double loopback_mb; /* MB/s; 0: not measured */
    double load_s, settle_s;
    json_t *stats_before[2], *stats_after[2]; /* source, target; NULL: no answer */
    /* figures, NAN: not known */
    double complete_ms, transfer_ms, first_served_ms, waiting_ms, pause_ms, kept_least, bulk_mb,
        payload_mb, wire_mb;
    uint64_t resident_bytes; /* of the part, as the source said after the commit */
};

/* The whole run; false: it failed, which was said on stderr. *run is to be freed in any case. */
bool gw_migrate_run(struct gw_migrate_run *run);
void gw_migrate_run_free(struct gw_migrate_run *run);

/* Fills before, during, after and the figures from points and marks (migrate_sums.c). */
void gw_migrate_sum_up(struct gw_migrate_run *run, const struct gw_migrate_load *load);

struct gw_migrate_check {
    const char *name;
    bool known, pass;
    double measured, limit;
    const char *unit, *relation; /* "at least", "at most" */
};
#define GW_MIGRATE_CHECKS_MAX 12u
uint32_t gw_migrate_checks(const struct gw_migrate_run *run, struct gw_migrate_check *out);

/* JSON of one run (migrate_report.c); new reference. */
json_t *gw_migrate_run_json(const struct gw_migrate_run *run);
json_t *gw_migrate_settings_json(const struct gw_migrate_settings *s);
void gw_migrate_run_print(const struct gw_migrate_run *run);
/* Medians over the rounds of each variant: printed and as JSON; new reference. */
json_t *gw_migrate_summary(const struct gw_migrate_run *runs, uint32_t count, bool print);

/* Tables and PNGs in settings->out, their names beginning with `prefix`. The names of the PNGs are
 * appended to `names` (an array). False: not all were made, said on stderr (migrate_plot.c). */
bool gw_migrate_plot(const struct gw_migrate_run *run, const char *prefix, json_t *names);

/* ---- loopback.c ----------------------------------------------------------------------------- */

/* MB/s (10^6) from one process to another over TCP on 127.0.0.1 with writes of frame_bytes; 0:
 * could not be measured. */
double gw_loopback_measure(uint32_t frame_bytes, uint32_t seconds);
#endif
