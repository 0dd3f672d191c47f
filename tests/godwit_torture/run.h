/* run.h - what the threads of a run share: what is wanted, the clock, what happened, and what was
 * found to be wrong. Layer: tests. */
#ifndef GW_TESTS_TORTURE_RUN_H
#define GW_TESTS_TORTURE_RUN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/godwit_torture/keys.h"

#define TORTURE_SERVERS_MAX 15u
#define TORTURE_CLIENTS_MAX 64u
#define TORTURE_DEADLINE_MS 10000u
#define TORTURE_NO_KEY      UINT32_MAX

enum torture_durability { TORTURE_MODE_NONE, TORTURE_MODE_MEMORY, TORTURE_MODE_COMMIT };
const char *torture_mode_name(enum torture_durability mode);

struct torture_options {
    uint64_t seconds, seed, servers, clients, keys, threads;
    uint64_t memory_bytes, disk_bytes, values;
    uint64_t moves; /* 0: until the time is over */
    enum torture_durability durability;
    bool no_kill, no_stop, no_cut, no_fill, no_migrate, no_drain, no_outage, no_join, keep, verbose;
    const char *directory, *history, *programs, *blob; /* NULL: not given */
};
/* -1: go on; else the exit code. What is wrong has been said. */
int torture_options_parse(int argc, char **argv, struct torture_options *out);
/* The command that repeats the run. */
void torture_options_print(const struct torture_options *options, const char *program, FILE *out);

struct torture_violation {
    uint32_t key; /* NO_KEY: of no key */
    uint64_t at_ns;
    char text[600];
};

struct torture_event {
    uint64_t at_ns;
    char text[160];
};

struct torture_run {
    struct torture_options options;
    struct torture_keys keys;
    uint64_t start_ns;
    char coordinator[64]; /* the address that clients use */
    atomic_bool stop;     /* no new operations, no more troubles */
    _Atomic uint64_t operations, in_doubt, not_done, sessions, kills, stops, cuts, fills, jobs,
        probes, outages, drains, joins;
    _Atomic uint32_t kill_wanted;                         /* this server, 1..., now; 0: none */
    _Atomic uint32_t generation[TORTURE_SERVERS_MAX + 1]; /* how many servers were there before */
    pthread_mutex_t lock;
    struct torture_violation *violations;
    size_t violations_count, violations_room;
    struct torture_event *events;
    size_t events_count, events_room;
};

void torture_run_init(struct torture_run *run, const struct torture_options *options);
void torture_run_free(struct torture_run *run);
uint64_t torture_now_ns(const struct torture_run *run); /* since the start */
void torture_sleep_ms(uint64_t ms);
/* The name of server i (1...) in its generation: A, B, ..., then A2, ... */
void torture_server_name(struct torture_run *run, uint32_t i, char *room, size_t room_bytes);
/* The server of that name, 1...; 0: none of now. */
uint32_t torture_server_of(struct torture_run *run, const char *name);
/* A generator's seed for one part of the run. */
uint64_t torture_seed(const struct torture_run *run, const char *part, uint64_t number);

/* Any thread. */
void torture_violation(struct torture_run *run, uint32_t key, uint64_t at_ns, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));
void torture_event(struct torture_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
size_t torture_violations(struct torture_run *run);
/* Prints the events between two times. */
void torture_events_print(struct torture_run *run, uint64_t from_ns, uint64_t to_ns, FILE *out);
#endif
