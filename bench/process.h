/* process.h - programs as children: started, listened to, ended by their id. A child gets SIGKILL
 * when the thread that started it ends, however it ends, so nothing is left behind.
 * One thread. Layer: bench (also used by tests/cluster). */
#ifndef GW_BENCH_PROCESS_H
#define GW_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GW_PROCESS_ARGS_MAX 40

struct gw_process {
    pid_t pid;  /* 0: not running */
    int out_fd; /* its stdout; -1: none */
    char buffer[1024];
    size_t buffered;
};

/* Starts argv[0] (a path), NULL-terminated. stderr goes to the end of the file `log`, NULL: ours.
 * False: errno says why. */
bool gw_process_start(struct gw_process *process, const char *const *argv, const char *log);
/* The next line of its stdout without its end; false: it ended, or timeout_ms passed. */
bool gw_process_line(struct gw_process *process, char *room, size_t room_bytes, int timeout_ms);
/* Waits for its end. Exit code, 128 + signal, or -1 after timeout_ms (it still runs). */
int gw_process_wait(struct gw_process *process, int timeout_ms);
/* Sends the signal and waits; after timeout_ms SIGKILL ends it. As gw_process_wait. */
int gw_process_stop(struct gw_process *process, int signal, int timeout_ms);

/* The value behind " name=" in a line of words, up to the next blank; false: not there. */
bool gw_process_word(const char *line, const char *name, char *room, size_t room_bytes);
/* Directory of the running program, without a slash at its end. False: cannot be known. */
bool gw_process_own_directory(char *room, size_t room_bytes);
/* Removes a directory and all that is in it. */
void gw_process_remove_tree(const char *directory);

uint64_t gw_process_resident_bytes(pid_t pid); /* VmRSS; 0 when it has ended */
uint64_t gw_process_processor_ms(pid_t pid);   /* user and system time so far */
#endif
