/* cluster.c - see cluster.h. */
#define PORT_FIRST 12000u
#define PORTS      18000u
#define PORT_TRIES 200u
#define _GNU_SOURCE
#include "tests/godwit_torture/cluster.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/include/godwit.h"
#include "index/base/rand.h"

#define START_MS   60000u
#define END_MS     20000
#define ASK_MS     4000u
#define PATH_BYTES 1100

static uint64_t now(const struct torture_cluster *cluster)
{
    return torture_now_ns(cluster->run);
}

char *torture_ask(struct torture_run *run, const char *request)
{
    char *answer = NULL;
    return gw_admin(run->coordinator, request, ASK_MS, &answer) == GW_OK ? answer : NULL;
}

/* ---- starting ------------------------------------------------------------------------------- */

/* Where the party listens, for all its lives: not among the ports that the system gives to those
 * who connect, for one of these would have it while the party is dead. */
static void choose_address(struct torture_party *p)
{
    for (uint32_t tries = 0; tries < PORT_TRIES && !p->address[0]; tries++) {
        uint16_t port = (uint16_t)(PORT_FIRST + gw_rand_system_seed() % PORTS);
        struct sockaddr_in at = {.sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
            snprintf(p->address, sizeof p->address, "127.0.0.1:%u", port);
        if (fd >= 0)
            close(fd);
    }
}

static bool start_coordinator(struct torture_cluster *c, struct torture_party *p)
{
    char program[PATH_BYTES], store[PATH_BYTES], log[PATH_BYTES];
    snprintf(program, sizeof program, "%s/godwit-coordinator", c->programs);
    snprintf(store, sizeof store, "sqlite:%s/coordinator.db", c->directory);
    snprintf(log, sizeof log, "%s/coordinator.log", c->directory);
    choose_address(p);
    const char *listen = p->address[0] ? p->address : "127.0.0.1:0";
    const char *argv[] = {program, "--listen", listen, "--store", store, NULL};
    return gw_process_start(&p->process, argv, log);
}

static bool start_server(struct torture_cluster *c, uint32_t i)
{
    const struct torture_options *o = &c->run->options;
    struct torture_party *p = &c->party[i];
    choose_address(p);
    char program[PATH_BYTES], data[PATH_BYTES], log[PATH_BYTES], advertise[64];
    char threads[24], memory[24], disk[24], segment[24], interval[24], url[PATH_BYTES];
    snprintf(program, sizeof program, "%s/godwit-server", c->programs);
    snprintf(data, sizeof data, "%s/%s", c->data, p->id);
    snprintf(log, sizeof log, "%s/%s.log", c->directory, p->id);
    snprintf(threads, sizeof threads, "%" PRIu64, o->threads);
    snprintf(memory, sizeof memory, "%" PRIu64, o->memory_bytes);
    snprintf(disk, sizeof disk, "%" PRIu64, o->disk_bytes);
    snprintf(segment, sizeof segment, "%u", o->blob ? 4u << 20 : 8u << 20);
    snprintf(url, sizeof url, "dir:%s", c->objects);
    /* Checkpoints as often as can be asked for; each server at a pace of its own. */
    snprintf(interval, sizeof interval, "%" PRIu64, 1 + torture_seed(c->run, "interval", i) % 4);
    torture_relay_address(c->relays, i, advertise, sizeof advertise);
    const char *argv[GW_PROCESS_ARGS_MAX] = {program,
                                             "--id",
                                             p->id,
                                             "--listen",
                                             p->address[0] ? p->address : "127.0.0.1:0",
                                             "--advertise",
                                             advertise,
                                             "--coordinator",
                                             c->run->coordinator,
                                             "--data",
                                             data,
                                             "--threads",
                                             threads,
                                             "--memory",
                                             memory};
    size_t n = 15;
    if (o->disk_bytes) {
        argv[n++] = "--disk";
        argv[n++] = disk;
        argv[n++] = "--segment-size";
        argv[n++] = segment;
    }
    if (o->durability != TORTURE_MODE_NONE) {
        argv[n++] = "--durability";
        argv[n++] = torture_mode_name(o->durability);
        argv[n++] = "--checkpoint-interval";
        argv[n++] = interval;
    }
    if (o->blob) { /* tables of several sizes, that grow; most is read from the objects */
        argv[n++] = "--blob";
        argv[n++] = url;
        argv[n++] = "--blob-cache";
        argv[n++] = "1MiB";
        argv[n++] = "--index-memory";
        argv[n++] = i % 2 ? "1MiB" : "2MiB";
    }
    argv[n] = NULL;
    mkdir(data, 0755);
    return gw_process_start(&p->process, argv, log);
}

static void begin(struct torture_cluster *c, uint32_t i)
{
    struct torture_party *p = &c->party[i];
    bool begun = i == 0 ? start_coordinator(c, p) : start_server(c, i);
    p->started_ns = now(c);
    if (begun) {
        p->state = TORTURE_STARTING;
        torture_event(c->run, "%s is started, pid %d", p->id, (int)p->process.pid);
        return;
    }
    p->until_ns = p->started_ns + 1000000000;
    torture_event(c->run, "%s cannot be started: %s", p->id, strerror(errno));
}

/* The last lines of a party's log, on one; as many as there is room for. */
static void log_tail(const struct torture_cluster *c, const struct torture_party *p, char *room,
                     size_t room_bytes)
{
    char path[PATH_BYTES];
    room[0] = '\0';
    snprintf(path, sizeof path, "%s/%s.log", c->directory, p->id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END), most = (off_t)room_bytes - 1;
    ssize_t n = pread(fd, room, room_bytes - 1, end > most ? end - most : 0);
    close(fd);
    room[n > 0 ? n : 0] = '\0';
    for (char *at = room; *at; at++)
        if (*at == '\n')
            *at = '|';
}

/* A new server, of a new name and without data, in the place of one that was removed. */
static void replace(struct torture_cluster *c, struct torture_party *p)
{
    char data[PATH_BYTES];
    uint32_t i = (uint32_t)(p - c->party);
    snprintf(data, sizeof data, "%s/%s", c->data, p->id);
    gw_process_remove_tree(data);
    torture_event(c->run, "%s was removed, a new server takes its place", p->id);
    atomic_fetch_add(&c->run->generation[i], 1);
    torture_server_name(c->run, i, p->id, sizeof p->id);
    p->address[0] = '\0';
    p->state = TORTURE_DOWN;
    p->until_ns = now(c);
    atomic_fetch_add(&c->run->joins, 1);
}

static void ended(struct torture_cluster *c, struct torture_party *p, int code)
{
    char tail[8192];
    log_tail(c, p, tail, sizeof tail);
    size_t tail_bytes = strlen(tail);
    torture_event(c->run, "%s has ended by itself, code %d", p->id, code);
    if (strstr(tail, "was removed by the operator")) {
        replace(c, p);
        return;
    }
    /* A server that has never served says so when it finds no coordinator, and ends. */
    bool alone =
        p->state == TORTURE_STARTING && code == 1 && strstr(tail, "coordinator_unreachable");
    if (!alone && (now(c) >= p->may_end_ns || code > 128))
        torture_violation(c->run, TORTURE_NO_KEY, now(c),
                          "%s ended by itself %s, exit code %d; its log ends with: %s", p->id,
                          p->state == TORTURE_STARTING ? "while it started" : "while it served",
                          code, tail + (tail_bytes > 400 ? tail_bytes - 400 : 0));
    p->exits++;
    p->state = TORTURE_DOWN;
    p->until_ns = now(c) + 500000000;
}

static void look_after(struct torture_cluster *c, uint32_t i)
{
    struct torture_party *p = &c->party[i];
    char line[512], ready[64];
    if (p->state == TORTURE_DOWN) {
        if (now(c) >= p->until_ns && p->exits < 50)
            begin(c, i);
        return;
    }
    if (p->state == TORTURE_STOPPED) {
        if (now(c) < p->until_ns)
            return;
        kill(p->process.pid, SIGCONT);
        p->state = TORTURE_UP;
        torture_event(c->run, "%s goes on", p->id);
        return;
    }
    if (p->state == TORTURE_STARTING && gw_process_line(&p->process, line, sizeof line, 1)) {
        snprintf(ready, sizeof ready, "%s ready ", i ? "godwit-server" : "godwit-coordinator");
        if (strncmp(line, ready, strlen(ready)) == 0 &&
            gw_process_word(line, "listen", p->address, sizeof p->address)) {
            uint64_t took = now(c) - p->started_ns;
            p->state = TORTURE_UP;
            c->longest_start_ns = took > c->longest_start_ns ? took : c->longest_start_ns;
            (void)torture_relay_lead(c->relays, i, p->address);
            torture_event(c->run, "%s is ready after %.3f s", p->id, (double)took / 1e9);
        }
    }
    int code = gw_process_wait(&p->process, 0);
    if (code >= 0) {
        ended(c, p, code);
    } else if (p->state == TORTURE_STARTING && now(c) - p->started_ns > START_MS * 1000000ull) {
        torture_violation(c->run, TORTURE_NO_KEY, now(c), "%s is not ready after %u s", p->id,
                          START_MS / 1000);
        torture_cluster_kill(c, i, 1000);
    }
}

void torture_cluster_turn(struct torture_cluster *c)
{
    for (uint32_t i = 0; i < c->parties; i++)
        look_after(c, i);
}

void torture_cluster_kill(struct torture_cluster *c, uint32_t i, uint32_t away_ms)
{
    struct torture_party *p = &c->party[i];
    if (p->state == TORTURE_DOWN)
        return;
    torture_event(c->run, "%s is killed%s, for %u ms", p->id,
                  p->state == TORTURE_STARTING ? " while it starts" : "", away_ms);
    int code = gw_process_stop(&p->process, SIGKILL, END_MS);
    if (code >= 0 && code != 128 + SIGKILL)
        ended(c, p, code); /* it had just ended by itself */
    p->state = TORTURE_DOWN;
    p->until_ns = now(c) + (uint64_t)away_ms * 1000000;
    atomic_fetch_add(&c->run->kills, 1);
}

void torture_cluster_freeze(struct torture_cluster *c, uint32_t i, uint32_t ms)
{
    struct torture_party *p = &c->party[i];
    if (p->state != TORTURE_UP || kill(p->process.pid, SIGSTOP) != 0)
        return;
    p->state = TORTURE_STOPPED;
    p->until_ns = now(c) + (uint64_t)ms * 1000000;
    torture_event(c->run, "%s is stopped for %u ms", p->id, ms);
    atomic_fetch_add(&c->run->stops, 1);
}

bool torture_cluster_all_up(const struct torture_cluster *c)
{
    for (uint32_t i = 0; i < c->parties; i++)
        if (c->party[i].state != TORTURE_UP)
            return false;
    return true;
}

/* ---- the shared tier --------------------------------------------------------------------------
 */

/* Whoever may read everything may do so no more, of those that are started from now on: else
 * nothing could be locked before a privileged user. */
static bool give_up_privileges(void)
{
    if (geteuid() != 0)
        return true;
    return prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) == 0 &&
           prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0) == 0;
}

bool torture_cluster_lock_objects(struct torture_cluster *c, bool lock)
{
    /* Below the directory itself: who starts meanwhile can open that, as a store that it reaches
     * and that answers nothing. */
    DIR *objects = opendir(c->objects);
    bool done = false;
    for (struct dirent *e; objects && (e = readdir(objects));)
        if (e->d_name[0] != '.')
            done |= fchmodat(dirfd(objects), e->d_name, lock ? 0 : 0755, 0) == 0;
    if (objects)
        closedir(objects);
    return done;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Is the cluster healthy, with `jobs_max` open jobs at most? Paused ones are resumed. */
static bool settled(struct torture_cluster *c, char *why, size_t why_bytes)
{
    char *answer = torture_ask(c->run, "{\"op\":\"status\"}");
    json_t *status = answer ? json_loads(answer, 0, NULL) : NULL;
    bool healthy = json_is_true(json_object_get(status, "healthy"));
    const json_t *jobs = json_object_get(status, "jobs");
    size_t i, open = json_array_size(jobs);
    json_t *job;
    snprintf(why, why_bytes, "%s, %zu open jobs",
             !status   ? "the coordinator does not answer"
             : healthy ? "healthy"
                       : "not healthy",
             open);
    json_array_foreach((json_t *)jobs, i, job)
    {
        char request[96], *said;
        json_int_t id = json_integer_value(json_object_get(job, "id"));
        const char *state = json_string_value(json_object_get(job, "state"));
        const char *phase = json_string_value(json_object_get(job, "phase"));
        size_t used = strlen(why);
        snprintf(why + used, why_bytes - used, "; job %lld %s %s", (long long)id,
                 state ? state : "?", phase ? phase : "");
        snprintf(request, sizeof request, "{\"op\":\"job-resume\",\"id\":%lld}", (long long)id);
        said = torture_ask(c->run, request);
        free(said);
    }
    const json_t *plans = json_object_get(status, "plans");
    json_array_foreach((json_t *)plans, i, job)
    {
        char request[96];
        snprintf(request, sizeof request, "{\"op\":\"job-resume\",\"id\":%lld}",
                 (long long)json_integer_value(json_object_get(job, "id")));
        free(torture_ask(c->run, request));
    }
    open += json_array_size(plans);
    json_decref(status);
    free(answer);
    return healthy && open == 0;
}

bool torture_cluster_heal(struct torture_cluster *c, uint64_t timeout_ms)
{
    uint64_t end = now(c) + timeout_ms * 1000000;
    char why[300] = "";
    for (uint32_t i = 0; i < c->parties; i++) {
        struct torture_party *p = &c->party[i];
        torture_relay_heal(c->relays, i);
        if (p->state != TORTURE_UP)
            p->until_ns = 0;
    }
    for (;;) {
        torture_cluster_turn(c);
        bool up = torture_cluster_all_up(c);
        if (up && settled(c, why, sizeof why))
            return true;
        if (now(c) >= end)
            break;
        torture_sleep_ms(50);
    }
    torture_violation(c->run, TORTURE_NO_KEY, now(c),
                      "left alone for %.0f s the cluster does not settle: %s",
                      (double)timeout_ms / 1e3, torture_cluster_all_up(c) ? why : "not all are up");
    return false;
}

static bool make_directory(struct torture_cluster *c)
{
    const struct torture_options *o = &c->run->options;
    const char *base = getenv("TMPDIR");
    if (o->directory) {
        snprintf(c->directory, sizeof c->directory, "%s", o->directory);
        c->made_directory = mkdir(c->directory, 0755) == 0;
        if (!c->made_directory && errno != EEXIST)
            return false;
    } else {
        snprintf(c->directory, sizeof c->directory, "%.100s/godwit-torture-XXXXXX",
                 base && base[0] ? base : "/tmp");
        if (!mkdtemp(c->directory))
            return false;
        c->made_directory = true;
    }
    snprintf(c->data, sizeof c->data, "%s/data", c->directory);
    snprintf(c->objects, sizeof c->objects, "%s/objects", c->directory);
    if (o->blob && mkdir(c->objects, 0755) != 0)
        return false;
    return mkdir(c->data, 0755) == 0; /* what is there already is not ours to change */
}

/* A file system of its own, that can be filled without harm to anybody else; small, so that it is
 * full soon. */
static void mount_data(struct torture_cluster *c)
{
    const struct torture_options *o = &c->run->options;
    char how[64];
    if (o->no_fill || o->durability == TORTURE_MODE_NONE)
        return;
    snprintf(how, sizeof how, "size=%" PRIu64,
             o->servers * (o->blob ? UINT64_C(192) << 20 : UINT64_C(320) << 20));
    c->mounted = mount("godwit-torture", c->data, "tmpfs", MS_NODEV | MS_NOSUID, how) == 0;
    if (!c->mounted)
        printf("no disk is filled: a tmpfs cannot be mounted on %s: %s\n", c->data,
               strerror(errno));
}

static bool wait_up(struct torture_cluster *c, uint32_t i)
{
    uint64_t end = now(c) + START_MS * 1000000ull;
    begin(c, i);
    while (c->party[i].state == TORTURE_STARTING && now(c) < end)
        torture_cluster_turn(c);
    if (c->party[i].state == TORTURE_UP)
        return true;
    fprintf(stderr, "godwit-torture: %s does not start\n", c->party[i].id);
    return false;
}

static bool spread_slots(struct torture_cluster *c)
{
    char why[300] = "";
    for (uint32_t i = 2; i < c->parties; i++) {
        char request[80], *answer;
        snprintf(request, sizeof request, "{\"op\":\"scale-out\",\"to\":\"%s\"}", c->party[i].id);
        answer = torture_ask(c->run, request);
        bool good = answer && !strstr(answer, "\"error\":{") && !strstr(answer, "\"error\": {");
        if (!good)
            fprintf(stderr, "godwit-torture: scale-out: %s\n", answer ? answer : "no answer");
        free(answer);
        uint64_t end = now(c) + 30000000000;
        while (good && !settled(c, why, sizeof why)) {
            torture_cluster_turn(c);
            good = now(c) < end;
            torture_sleep_ms(20);
        }
        if (!good) {
            fprintf(stderr, "godwit-torture: the slots are not spread in time: %s\n", why);
            return false;
        }
    }
    return true;
}

bool torture_cluster_start(struct torture_cluster *c, struct torture_run *run)
{
    memset(c, 0, sizeof *c);
    c->run = run;
    c->parties = (uint32_t)run->options.servers + 1;
    c->relays = torture_relays_start(c->parties);
    if (run->options.programs)
        snprintf(c->programs, sizeof c->programs, "%s", run->options.programs);
    else if (!gw_process_own_directory(c->programs, sizeof c->programs))
        return false;
    if (!c->relays || !make_directory(c)) {
        fprintf(stderr, "godwit-torture: %s: %s\n", c->directory, strerror(errno));
        return false;
    }
    mount_data(c);
    c->lockable = run->options.blob && !run->options.no_outage && give_up_privileges();
    if (run->options.blob && !run->options.no_outage && !c->lockable)
        printf("the shared tier is always there: %s\n", strerror(errno));
    torture_relay_address(c->relays, 0, run->coordinator, sizeof run->coordinator);
    for (uint32_t i = 0; i < c->parties; i++)
        c->party[i].until_ns = UINT64_MAX; /* not before its turn below */
    for (uint32_t i = 0; i < c->parties; i++) {
        if (i == 0)
            snprintf(c->party[i].id, sizeof c->party[i].id, "coordinator");
        else
            torture_server_name(run, i, c->party[i].id, sizeof c->party[i].id);
        if (!wait_up(c, i))
            return false;
    }
    return spread_slots(c);
}

void torture_cluster_stop(struct torture_cluster *c)
{
    for (uint32_t i = c->parties; i-- > 0;) {
        struct torture_party *p = &c->party[i];
        if (p->state != TORTURE_UP)
            continue;
        int code = gw_process_stop(&p->process, SIGTERM, END_MS);
        if (code != 0) {
            char tail[420];
            log_tail(c, p, tail, sizeof tail);
            torture_violation(c->run, TORTURE_NO_KEY, now(c),
                              "%s, told to stop, ended with code %d; its log ends with: %s", p->id,
                              code, tail);
        }
        p->state = TORTURE_DOWN;
    }
}

void torture_cluster_end(struct torture_cluster *c, bool keep)
{
    for (uint32_t i = 0; i < c->parties; i++)
        (void)gw_process_stop(&c->party[i].process, SIGKILL, END_MS);
    torture_relays_stop(c->relays);
    c->relays = NULL;
    if (c->mounted && !keep)
        (void)umount2(c->data, MNT_DETACH);
    if (!c->directory[0])
        return;
    if (keep)
        printf("kept: %s%s\n", c->directory, c->mounted ? " (data/ in it is a mounted tmpfs)" : "");
    else if (c->made_directory)
        gw_process_remove_tree(c->directory);
    else {
        gw_process_remove_tree(c->data);
        gw_process_remove_tree(c->objects);
    }
}
