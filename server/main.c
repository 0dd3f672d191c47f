/* main.c - the process godwit-server: flags, signals, start, wait, stop. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "index/base/log_line.h"
#include "server/dump.h"
#include "server/server.h"
#include "server/verify.h"

#define LAST_CHECKPOINT_MS 20000u

static atomic_bool stop_wanted, hurry;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop_wanted, true);
}

static void on_second_signal(int number)
{
    (void)number;
    atomic_store(&hurry, true);
}

/* As many connections as the system lets us have. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* fewer connections then */
    }
}

int main(int argc, char **argv)
{
    /* The offline verbs: what lies in a data directory only this program knows how to read. */
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return gwi_verify_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "dump") == 0)
        return gwi_dump_main(argc - 1, argv + 1);
    struct gwi_options options;
    int code = gwi_options_parse(argc, argv, &options);
    if (code >= 0)
        return code;
    gw_log_set_name(options.id);
    raise_descriptors();
    gwi_memory_tune(&options);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk */
    /* The dispatchers inherit a mask without these: the main thread alone waits for them. */
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    struct gwi_server *server;
    enum gw_status st = gwi_server_start(&options, &stop_wanted, &server, &code);
    if (st == GW_E_CANCELLED)
        return 0;
    if (st != GW_OK)
        return code;
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    int fatal = 0;
    while (!atomic_load(&stop_wanted) && (fatal = atomic_load(&server->fatal)) == 0) {
        struct timespec wait = {.tv_nsec = 500000000};
        if (sigtimedwait(&signals, NULL, &wait) > 0)
            atomic_store(&stop_wanted, true);
    }
    /* What was answered is on disk when we end in order; a second signal does not wait for it. */
    struct sigaction now = {.sa_handler = on_second_signal};
    sigaction(SIGTERM, &now, NULL);
    sigaction(SIGINT, &now, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!fatal)
        gwi_server_settle(server, LAST_CHECKPOINT_MS, &hurry);
    gwi_server_stop(server);
    return fatal ? 1 : 0;
}
