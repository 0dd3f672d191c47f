/* s3rver.c - a real S3 server for a test (s3rver.h). */
#include "tests/support/s3rver.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/assert.h"

#define START_MS 30000

struct s3rver {
    pid_t pid;
    int in, out;
    uint16_t port;
    char dir[256];
};

static bool in_path(const char *program)
{
    char text[8192], path[8448];
    const char *all = getenv("PATH");
    snprintf(text, sizeof text, "%s", all ? all : "/usr/bin:/bin");
    for (char *save, *dir = strtok_r(text, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
        snprintf(path, sizeof path, "%s/%s", dir, program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* Its one line, "port N". */
static uint16_t read_port(int fd)
{
    char line[64];
    size_t n = 0;
    while (n < sizeof line - 1 && !memchr(line, '\n', n)) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        GW_ASSERT(poll(&wait, 1, START_MS) == 1);
        ssize_t got = read(fd, line + n, sizeof line - 1 - n);
        GW_ASSERT(got > 0); /* it ended: its own words are on stderr */
        n += (size_t)got;
    }
    line[n] = 0;
    unsigned port = 0;
    GW_ASSERT(sscanf(line, "port %u", &port) == 1 && port > 0 && port < 65536);
    return (uint16_t)port;
}

struct s3rver *s3rver_start(const char *source, const char *bucket, int64_t skew_s)
{
    char home[4096], script[4096], skew[32], modules[4200];
    snprintf(home, sizeof home, "%s/build/s3rver", source);
    snprintf(modules, sizeof modules, "%s/node_modules/s3rver/package.json", home);
    snprintf(script, sizeof script, "%s/tests/s3rver/server.js", source);
    snprintf(skew, sizeof skew, "%lld", (long long)skew_s);
    if (!in_path("node") || access(modules, R_OK) != 0) {
        fprintf(stderr, "%s\n",
                S3RVER_MISSING); /* Criterion itself is silent about skipped tests */
        return NULL;
    }

    struct s3rver *server = calloc(1, sizeof *server);
    int in[2], out[2];
    const char *tmp = getenv("TMPDIR");
    GW_ASSERT(server && pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    snprintf(server->dir, sizeof server->dir, "%.200s/godwit-s3rver-XXXXXX",
             tmp && tmp[0] ? tmp : "/tmp");
    GW_ASSERT(mkdtemp(server->dir));
    server->pid = fork();
    GW_ASSERT(server->pid >= 0);
    if (server->pid == 0) {
        /* It ends with its standard input, so also with a test that crashes. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || chdir(home) != 0)
            _exit(126);
        /* Its tokens of a list's next page are made with a cipher that is a legacy by now. */
        execlp("node", "node", "--openssl-legacy-provider", script, server->dir, bucket,
               S3RVER_SECRET, skew, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server->in = in[1];
    server->out = out[0];
    server->port = read_port(server->out);
    return server;
}

uint16_t s3rver_port(const struct s3rver *server)
{
    return server->port;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void s3rver_stop(struct s3rver *server)
{
    if (!server)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    close(server->in);
    close(server->out);
    (void)nftw(server->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(server);
}
