/* harness.c - clusters and the command line; see harness.h. */
#include "tests/cluster/harness.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS     60000
#define PATH_BYTES 800

uint64_t harness_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void harness_sleep_ms(uint64_t ms)
{
    struct timespec wait = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&wait, &wait) != 0 && errno == EINTR)
        continue;
}

uint64_t harness_scaled(uint64_t n)
{
    const char *scale = getenv("GODWIT_TEST_SCALE");
    uint64_t percent = scale && atoi(scale) > 0 ? (uint64_t)atoi(scale) : 100;
    uint64_t scaled = n * percent / 100;
    return scaled ? scaled : 1;
}

const char *harness_programs(void)
{
    static char directory[600];
    const char *given = getenv("GODWIT_BIN");
    char own[512];
    if (given && given[0])
        return given;
    cr_assert(gw_process_own_directory(own, sizeof own));
    snprintf(directory, sizeof directory, "%s/../bin", own);
    return directory;
}

uint16_t harness_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

void harness_start(struct gw_spawn *spawn, uint32_t servers)
{
    harness_start_with(spawn, servers, 128u << 20, NULL);
}

void harness_start_with(struct gw_spawn *spawn, uint32_t servers, uint64_t memory_bytes,
                        const char *const *server_flags)
{
    cr_assert(gw_spawn_open(spawn, harness_programs()), "%s", spawn->error);
    spawn->memory_bytes = memory_bytes;
    spawn->server_flags = server_flags;
    cr_assert(gw_spawn_coordinator(spawn), "%s", spawn->error);
    for (uint32_t i = 0; i < servers; i++) {
        char id[2] = {(char)('A' + i), '\0'};
        cr_assert(gw_spawn_server(spawn, id), "%s", spawn->error);
    }
}

void harness_stop(struct gw_spawn *spawn)
{
    gw_spawn_close(spawn);
}

/* ---- the command line ----------------------------------------------------------------------- */

static int open_scratch(void)
{
    char path[] = "/tmp/godwit-run-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0);
    unlink(path);
    return fd;
}

static char *read_all(int fd, size_t *bytes)
{
    struct stat about;
    cr_assert_eq(fstat(fd, &about), 0);
    char *text = malloc((size_t)about.st_size + 1);
    cr_assert(text);
    cr_assert_eq(pread(fd, text, (size_t)about.st_size, 0), about.st_size);
    text[about.st_size] = '\0';
    if (bytes)
        *bytes = (size_t)about.st_size;
    close(fd);
    return text;
}

static int wait_for(pid_t pid)
{
    uint64_t end = harness_now_ms() + RUN_MS;
    int status;
    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (harness_now_ms() >= end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        usleep(500);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct harness_run harness_run_program(const char *program, const char *const *words,
                                       const char *input, size_t input_bytes)
{
    char path[PATH_BYTES];
    const char *argv[GW_PROCESS_ARGS_MAX] = {path};
    snprintf(path, sizeof path, "%s/%s", harness_programs(), program);
    for (uint32_t i = 0; words[i]; i++) {
        cr_assert(i + 2 < GW_PROCESS_ARGS_MAX);
        argv[i + 1] = words[i];
    }
    int in = open_scratch(), out = open_scratch(), err = open_scratch();
    cr_assert_eq(write(in, input ? input : "", input_bytes), (ssize_t)input_bytes);
    lseek(in, 0, SEEK_SET);
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execv(path, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    struct harness_run run = {.code = wait_for(pid)};
    close(in);
    run.out = read_all(out, &run.out_bytes);
    run.err = read_all(err, NULL);
    return run;
}

struct harness_run harness_cli(struct gw_spawn *spawn, const char *input, const char *const *words)
{
    const char *all[GW_PROCESS_ARGS_MAX] = {"-c", spawn->coordinator_address};
    for (uint32_t i = 0; words[i]; i++) {
        cr_assert(i + 4 < GW_PROCESS_ARGS_MAX);
        all[i + 2] = words[i];
    }
    return harness_run_program("godwit", all, input, input ? strlen(input) : 0);
}

void harness_run_free(struct harness_run *run)
{
    free(run->out);
    free(run->err);
}

struct harness_run harness_expect(struct gw_spawn *spawn, int code, const char *input,
                                  const char *const *words)
{
    struct harness_run run = harness_cli(spawn, input, words);
    cr_assert_eq(run.code, code,
                 "godwit %s %s: exit code %d, expected %d\nstdout: %.600s\nstderr: %.600s",
                 words[0], words[1] ? words[1] : "", run.code, code, run.out, run.err);
    return run;
}

void harness_check(struct gw_spawn *spawn, int code, const char *const *words)
{
    struct harness_run run = harness_expect(spawn, code, NULL, words);
    harness_run_free(&run);
}

void harness_until_healthy(struct gw_spawn *spawn)
{
    uint64_t end = harness_now_ms() + 10000;
    for (int code = -1; code != 0; harness_sleep_ms(10)) {
        cr_assert_lt(harness_now_ms(), end, "the cluster does not get healthy again");
        struct harness_run run = HARNESS_CLI(spawn, NULL, "status");
        code = run.code;
        harness_run_free(&run);
    }
}
