/* spawn.c - see spawn.h. */
#include "bench/spawn.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/assert.h"

#define READY_MS   10000
#define END_MS     5000
#define PATH_BYTES 700

static bool fail(struct gw_spawn *spawn, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool fail(struct gw_spawn *spawn, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(spawn->error, sizeof spawn->error, format, args);
    va_end(args);
    return false;
}

bool gw_spawn_open(struct gw_spawn *spawn, const char *programs)
{
    const char *base = getenv("TMPDIR");
    memset(spawn, 0, sizeof *spawn);
    if (programs)
        snprintf(spawn->programs, sizeof spawn->programs, "%s", programs);
    else if (!gw_process_own_directory(spawn->programs, sizeof spawn->programs))
        return fail(spawn, "cannot find the programs: %s", strerror(errno));
    snprintf(spawn->directory, sizeof spawn->directory, "%.100s/godwit-XXXXXX",
             base && base[0] ? base : "/tmp");
    if (!mkdtemp(spawn->directory)) {
        spawn->directory[0] = '\0';
        return fail(spawn, "cannot make a directory: %s", strerror(errno));
    }
    return true;
}

void gw_spawn_close(struct gw_spawn *spawn)
{
    for (uint32_t i = 0; i < spawn->server_count; i++)
        if (spawn->servers[i].process.pid)
            kill(spawn->servers[i].process.pid, SIGTERM); /* all at once, then one by one */
    for (uint32_t i = 0; i < spawn->server_count; i++)
        (void)gw_process_stop(&spawn->servers[i].process, SIGTERM, END_MS);
    (void)gw_process_stop(&spawn->coordinator, SIGTERM, END_MS);
    if (spawn->directory[0])
        gw_process_remove_tree(spawn->directory);
    spawn->directory[0] = '\0';
    spawn->server_count = 0;
}

/* The last line of a log without its end, "" if there is none: the directory goes before anybody
 * can look into it. */
static void last_line(const char *log, char *room, size_t room_bytes)
{
    char line[512];
    FILE *file = fopen(log, "r");
    room[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(room, room_bytes, "%.150s", line);
    }
    if (file)
        fclose(file);
}

/* Starts a program and waits for its line "NAME ready ... listen=H:P". */
static bool start(struct gw_spawn *spawn, struct gw_process *process, const char *const *argv,
                  const char *log, const char *name, char *address, size_t address_bytes)
{
    char line[512], ready[64];
    snprintf(ready, sizeof ready, "%s ready ", name);
    if (!gw_process_start(process, argv, log))
        return fail(spawn, "%s: %s", argv[0], strerror(errno));
    if (gw_process_line(process, line, sizeof line, READY_MS) &&
        strncmp(line, ready, strlen(ready)) == 0 &&
        gw_process_word(line, "listen", address, address_bytes))
        return true;
    int code = gw_process_stop(process, SIGTERM, END_MS);
    last_line(log, line, 160);
    return fail(spawn, "%s did not become ready (exit code %d): %s", name, code, line);
}

bool gw_spawn_coordinator(struct gw_spawn *spawn)
{
    char program[PATH_BYTES], store[PATH_BYTES], log[PATH_BYTES];
    snprintf(program, sizeof program, "%s/godwit-coordinator", spawn->programs);
    snprintf(store, sizeof store, "sqlite:%s/coordinator.db", spawn->directory);
    snprintf(log, sizeof log, "%s/coordinator.log", spawn->directory);
    const char *listen = spawn->coordinator_address[0] ? spawn->coordinator_address : "127.0.0.1:0";
    char address[64];
    const char *argv[] = {program, "--listen", listen, "--store", store, NULL};
    if (!start(spawn, &spawn->coordinator, argv, log, "godwit-coordinator", address,
               sizeof address))
        return false;
    memcpy(spawn->coordinator_address, address, sizeof address);
    return true;
}

static struct gw_spawn_server *place_for(struct gw_spawn *spawn, const char *id)
{
    for (uint32_t i = 0; i < spawn->server_count; i++)
        if (strcmp(spawn->servers[i].id, id) == 0)
            return &spawn->servers[i];
    GW_ASSERT(spawn->server_count < GW_SPAWN_SERVERS_MAX);
    struct gw_spawn_server *server = &spawn->servers[spawn->server_count++];
    memset(server, 0, sizeof *server);
    snprintf(server->id, sizeof server->id, "%s", id);
    return server;
}

struct gw_spawn_server *gw_spawn_server(struct gw_spawn *spawn, const char *id)
{
    char program[PATH_BYTES], data[PATH_BYTES], log[PATH_BYTES], threads[16], memory[32], index[32];
    struct gw_spawn_server *server = place_for(spawn, id);
    snprintf(program, sizeof program, "%s/godwit-server", spawn->programs);
    snprintf(data, sizeof data, "%s/%s", spawn->directory, id);
    snprintf(log, sizeof log, "%s/%s.log", spawn->directory, id);
    snprintf(threads, sizeof threads, "%u", spawn->threads ? spawn->threads : 1);
    snprintf(memory, sizeof memory, "%" PRIu64, spawn->memory_bytes);
    snprintf(index, sizeof index, "%" PRIu64, spawn->index_bytes);
    const char *argv[32] = {program,
                            "--id",
                            server->id,
                            "--listen",
                            server->address[0] ? server->address : "127.0.0.1:0",
                            "--coordinator",
                            spawn->coordinator_address,
                            "--data",
                            data,
                            "--threads",
                            threads,
                            "--memory",
                            memory,
                            spawn->index_bytes ? "--index-memory" : NULL,
                            index,
                            NULL};
    size_t words = 0;
    while (argv[words])
        words++;
    for (const char *const *more = spawn->server_flags; more && *more; more++) {
        GW_ASSERT(words + 1 < sizeof argv / sizeof argv[0]);
        argv[words++] = *more;
    }
    argv[words] = NULL; /* without an index's size, that number still lies behind */
    char address[64];
    mkdir(data, 0755);
    if (!start(spawn, &server->process, argv, log, "godwit-server", address, sizeof address))
        return NULL;
    memcpy(server->address, address, sizeof address);
    return server;
}

/* Runs `godwit` with the given words; true when its exit code is 0. */
static bool run_cli(struct gw_spawn *spawn, const char *const *words)
{
    char program[PATH_BYTES], log[PATH_BYTES];
    const char *argv[GW_PROCESS_ARGS_MAX] = {program, "-c", spawn->coordinator_address};
    struct gw_process process;
    snprintf(program, sizeof program, "%s/godwit", spawn->programs);
    snprintf(log, sizeof log, "%s/godwit.log", spawn->directory);
    for (uint32_t i = 0; words[i] && i + 4 < GW_PROCESS_ARGS_MAX; i++)
        argv[i + 3] = words[i];
    if (!gw_process_start(&process, argv, log))
        return fail(spawn, "%s: %s", program, strerror(errno));
    int code = gw_process_wait(&process, 120000);
    if (code == 0)
        return true;
    (void)gw_process_stop(&process, SIGTERM, END_MS);
    return fail(spawn, "godwit %s: exit code %d", words[0], code);
}

bool gw_spawn_share(struct gw_spawn *spawn, const char *id)
{
    const char *words[] = {"scale-out", "--to", id, "--wait", NULL};
    return run_cli(spawn, words);
}
