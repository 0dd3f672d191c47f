/* process.c - see process.h. */
#include "bench/process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The child's side of fork: never returns. */
static _Noreturn void become(const char *const *argv, int out_fd, const char *log, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it ended before we asked to be told */
        _exit(127);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(out_fd, STDOUT_FILENO);
    int in = open("/dev/null", O_RDONLY);
    if (in >= 0)
        dup2(in, STDIN_FILENO);
    int err = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (err >= 0)
        dup2(err, STDERR_FILENO);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

bool gw_process_start(struct gw_process *process, const char *const *argv, const char *log)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(argv, ends[1], log, parent);
    int error = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        errno = error;
        return false;
    }
    *process = (struct gw_process){.pid = pid, .out_fd = ends[0]};
    return true;
}

bool gw_process_line(struct gw_process *process, char *room, size_t room_bytes, int timeout_ms)
{
    uint64_t end = now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        char *newline = memchr(process->buffer, '\n', process->buffered);
        if (newline) {
            size_t len = (size_t)(newline - process->buffer);
            snprintf(room, room_bytes, "%.*s", (int)len, process->buffer);
            process->buffered -= len + 1;
            memmove(process->buffer, newline + 1, process->buffered);
            return true;
        }
        if (process->buffered == sizeof process->buffer)
            process->buffered = 0; /* a line that is longer than any that we wait for */
        uint64_t now = now_ms();
        struct pollfd wanted = {.fd = process->out_fd, .events = POLLIN};
        if (now >= end || process->out_fd < 0 || poll(&wanted, 1, (int)(end - now)) <= 0)
            return false;
        ssize_t n = read(process->out_fd, process->buffer + process->buffered,
                         sizeof process->buffer - process->buffered);
        if (n <= 0)
            return false;
        process->buffered += (size_t)n;
    }
}

int gw_process_wait(struct gw_process *process, int timeout_ms)
{
    if (process->pid == 0)
        return -1;
    uint64_t end = now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        int status;
        pid_t ended = waitpid(process->pid, &status, WNOHANG);
        if (ended == process->pid) {
            close(process->out_fd);
            process->pid = 0;
            process->out_fd = -1;
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        }
        if (ended < 0 || now_ms() >= end)
            return -1;
        usleep(1000);
    }
}

int gw_process_stop(struct gw_process *process, int signal, int timeout_ms)
{
    if (process->pid == 0)
        return -1;
    kill(process->pid, signal);
    int code = gw_process_wait(process, timeout_ms);
    if (code < 0 && process->pid != 0) {
        kill(process->pid, SIGKILL);
        code = gw_process_wait(process, 10000);
    }
    return code;
}

bool gw_process_word(const char *line, const char *name, char *room, size_t room_bytes)
{
    size_t len = strlen(name);
    for (const char *at = line; (at = strstr(at, name)) != NULL; at += len) {
        if (at == line || at[-1] != ' ' || at[len] != '=')
            continue;
        const char *value = at + len + 1;
        snprintf(room, room_bytes, "%.*s", (int)strcspn(value, " \n"), value);
        return true;
    }
    return false;
}

bool gw_process_own_directory(char *room, size_t room_bytes)
{
    ssize_t n = readlink("/proc/self/exe", room, room_bytes - 1);
    if (n <= 0 || (size_t)n >= room_bytes - 1)
        return false;
    room[n] = '\0';
    char *slash = strrchr(room, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

void gw_process_remove_tree(const char *directory)
{
    (void)nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* what stays lies in /tmp */
}

uint64_t gw_process_resident_bytes(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

uint64_t gw_process_processor_ms(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    bool got = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    /* The name, in brackets, may hold blanks: fields are counted from behind it (3 is the first).
     */
    const char *at = got ? strrchr(line, ')') : NULL;
    uint64_t user, system;
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
                      &user, &system) != 2)
        return 0;
    return (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}
