/* test_coordinator.c - the program godwit-coordinator over real sockets: it starts, refuses what
 * makes no sense, is killed in the middle of a job, goes on, stops, and sleeps when nothing
 * happens. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/net/net.h"
#include "client/wire/control.h"
#include "client/wire/map.h"

static char directory[64], store[96], address[64];
static pid_t program;

/* One connection to the coordinator: the newest frame of each kind, and how many came. */
static struct gw_net *net;
static struct gw_conn *conn;
static bool ended;
static uint32_t came[256];
static char newest_text[4096]; /* ADMIN_REPLY's or ERROR's */
static struct gw_job newest_job;

static const char *binary(void)
{
    static char path[512];
    const char *folder = getenv("GODWIT_BIN");
    snprintf(path, sizeof path, "%s/godwit-coordinator", folder ? folder : GW_TEST_BIN_DIR);
    return path;
}

/* Starts the program with its stdout (or stderr) in *out. */
static pid_t spawn(char *const argv[], int from_fd, FILE **out)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], from_fd);
        setenv("GW_LOG", from_fd == STDOUT_FILENO ? "off" : "info", 1);
        execv(binary(), argv);
        _exit(127);
    }
    close(ends[1]);
    *out = fdopen(ends[0], "r");
    return pid;
}

/* Runs the program to its end; the exit code, and in `words` what it said on stderr. */
static int run(char *const argv[], char *words, size_t words_bytes)
{
    FILE *out;
    pid_t pid = spawn(argv, STDERR_FILENO, &out);
    size_t n = fread(words, 1, words_bytes - 1, out);
    words[n] = '\0';
    fclose(out);
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void start(const char *listen)
{
    char line[256], ready[128];
    FILE *out;
    char *const argv[] = {"godwit-coordinator", "--listen", (char *)listen, "--store", store, NULL};
    program = spawn(argv, STDOUT_FILENO, &out);
    cr_assert_not_null(fgets(line, sizeof line, out), "it did not become ready");
    cr_assert_eq(sscanf(line, "godwit-coordinator ready listen=%63s store=%127s", address, ready),
                 2, "%s", line);
    cr_expect_str_eq(ready, store);
    fclose(out);
}

static int stop(int signal_number)
{
    int status;
    kill(program, signal_number);
    cr_assert_eq(waitpid(program, &status, 0), program);
    program = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void connected(void *ctx, struct gw_conn *c, enum gw_status st)
{
    (void)ctx, (void)c;
    cr_assert_eq(st, GW_OK);
}
static enum gw_status frame(void *ctx, struct gw_conn *c, const uint8_t *bytes, uint32_t n)
{
    (void)ctx, (void)c;
    struct gw_frame f;
    cr_assert_eq(gw_frame_decode(bytes, n, &f), GW_OK);
    struct gw_reader body = gw_frame_body(bytes, &f);
    came[f.kind]++;
    if (f.kind == GW_KIND_ADMIN_REPLY)
        snprintf(newest_text, sizeof newest_text, "%.*s", (int)gw_reader_left(&body),
                 (const char *)body.at);
    if (f.kind == GW_KIND_JOB)
        cr_assert_eq(gw_job_decode(&body, &newest_job), GW_OK);
    return GW_OK;
}
static void closed(void *ctx, struct gw_conn *c, enum gw_status st)
{
    (void)ctx, (void)c, (void)st;
    ended = true;
}
static const struct gw_net_events events = {.connected = connected,
                                            .frame = frame,
                                            .closed = closed};

static void dial(void)
{
    memset(came, 0, sizeof came);
    ended = false;
    cr_assert_eq(gw_net_uring_create(NULL, &events, NULL, &net), GW_OK);
    cr_assert_eq(gw_net_connect(net, address, NULL, &conn), GW_OK);
}

static void say(uint8_t kind, const void *body, size_t n)
{
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER + n);
    cr_assert_not_null(room);
    gw_frame_encode(&(struct gw_frame){.bytes = (uint32_t)(GW_FRAME_HEADER + n), .kind = kind},
                    room);
    if (n)
        memcpy(room + GW_FRAME_HEADER, body, n);
    gw_conn_commit(conn, GW_FRAME_HEADER + n);
}

/* Waits until so many frames of the kind have come. */
static void await(uint8_t kind, uint32_t count)
{
    for (int i = 0; i < 500 && came[kind] < count && !ended; i++)
        gw_net_poll(net, 10000000);
    cr_assert_geq(came[kind], count, "no %s came", gw_frame_kind_name(kind));
}

static void join(const char *id)
{
    uint8_t room[256];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    struct gw_join m = {.incarnation = 1};
    snprintf(m.id, sizeof m.id, "%s", id);
    snprintf(m.address, sizeof m.address, "127.0.0.1:1");
    gw_join_encode(&m, &body);
    say(GW_KIND_JOIN, room, gw_writer_used(&body));
    await(GW_KIND_JOINED, 1);
}
static void ask(const char *json)
{
    uint32_t before = came[GW_KIND_ADMIN_REPLY];
    say(GW_KIND_ADMIN, json, strlen(json));
    await(GW_KIND_ADMIN_REPLY, before + 1);
}
static void event(uint64_t job, enum gw_job_event_kind what)
{
    uint8_t room[512];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    uint32_t before = came[GW_KIND_JOB];
    gw_job_event_encode(&(struct gw_job_event){.job = job, .event = what}, &body);
    say(GW_KIND_JOB_EVENT, room, gw_writer_used(&body));
    await(GW_KIND_JOB, before + 1);
}

static void set_up(void)
{
    strcpy(directory, "/tmp/godwit-test-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(store, sizeof store, "sqlite:%s/map.db", directory);
}
static void tear_down(void)
{
    if (net)
        gw_net_destroy(net);
    if (program)
        stop(SIGKILL);
    char name[128];
    snprintf(name, sizeof name, "%s/map.db", directory);
    unlink(name);
    snprintf(name, sizeof name, "%s/map.db-wal", directory);
    unlink(name);
    rmdir(directory);
}
TestSuite(coordinator, .init = set_up, .fini = tear_down, .timeout = 60);

Test(coordinator, wrong_flags_end_with_2_and_a_sentence_that_names_them)
{
    char words[1024];
    static const struct {
        char *argv[6];
        const char *mention;
    } wrong[] = {
        {{"c", "--bogus"}, "--bogus: unknown flag"},
        {{"c", "--store"}, "--store: this flag needs a value"},
        {{"c"}, "--store: this flag is required"},
        {{"c", "--store", "etcd:x"}, "\"etcd:x\" is not sqlite:PATH"},
        {{"c", "--store", "sqlite:/tmp/x", "--listen", "7400"}, "\"7400\" is not HOST:PORT"},
        {{"c", "--store", "sqlite:/tmp/x", "--listen", "h:65536"}, "0 to 65535"},
        {{"c", "more"}, "flags only"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_eq(run(wrong[i].argv, words, sizeof words), 2);
        cr_expect_not_null(strstr(words, wrong[i].mention), "%s", words);
    }
    char *const unwritable[] = {"c", "--store", "sqlite:/nonexistent/map.db", NULL};
    cr_expect_eq(run(unwritable, words, sizeof words), 1);
    cr_expect_not_null(strstr(words, "/nonexistent/map.db"), "%s", words);
}

Test(coordinator, it_stops_cleanly_and_a_second_one_is_refused_the_file_and_the_address)
{
    char words[1024], other[128];
    start("127.0.0.1:0");
    char *const same_file[] = {"c", "--listen", "127.0.0.1:0", "--store", store, NULL};
    cr_expect_eq(run(same_file, words, sizeof words), 1);
    cr_expect_not_null(strstr(words, "another coordinator holds it"), "%s", words);
    snprintf(other, sizeof other, "sqlite:%s/other.db", directory);
    char *const same_address[] = {"c", "--listen", address, "--store", other, NULL};
    cr_expect_eq(run(same_address, words, sizeof words), 1);
    cr_expect_not_null(strstr(words, address), "%s", words);
    unlink(other + strlen("sqlite:"));
    cr_expect_eq(stop(SIGTERM), 0);
    start("127.0.0.1:0");
    cr_expect_eq(stop(SIGINT), 0);
}

Test(coordinator, a_job_survives_a_kill_in_the_middle)
{
    start("127.0.0.1:0");
    dial();
    join("a");
    /* A second connection for b would be a second net; b needs only to be there for the commit. */
    struct gw_net *net_a = net;
    struct gw_conn *conn_a = conn;
    dial();
    join("b");
    struct gw_net *net_b = net;
    struct gw_conn *conn_b = conn;
    net = net_a, conn = conn_a;
    ask("{\"op\":\"migrate\",\"slots\":\"0-99\",\"from\":\"a\",\"to\":\"b\"}");
    cr_expect_str_eq(newest_text, "{\"job\":1}");
    await(GW_KIND_JOB, 1);
    event(1, GW_JOB_ASK_COMMIT);
    cr_expect_eq(newest_job.state, GW_JOB_COMMITTED);
    cr_expect_eq(stop(SIGKILL), -SIGKILL);
    gw_net_destroy(net_a);
    net = net_b, conn = conn_b;
    gw_net_destroy(net_b);
    net = NULL;

    char same[64];
    snprintf(same, sizeof same, "%s", address);
    start(same);
    dial();
    join("a");
    await(GW_KIND_JOB, 1);
    cr_expect_eq(newest_job.state, GW_JOB_COMMITTED, "what was told is still so");
    event(1, GW_JOB_ASK_COMMIT);
    cr_expect_eq(newest_job.state, GW_JOB_COMMITTED);
    event(1, GW_JOB_ARRIVED);
    event(1, GW_JOB_CLOSED);
    cr_expect_eq(newest_job.state, GW_JOB_DONE);
    ask("{\"op\":\"status\"}");
    cr_expect_not_null(strstr(newest_text, "\"slot_ranges\":\"0-99\""), "%s", newest_text);
    cr_expect_eq(stop(SIGTERM), 0);
}

static uint64_t cpu_ns(void)
{
    char path[64];
    uint64_t ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)program);
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_eq(fscanf(f, "%" SCNu64, &ns), 1);
    fclose(f);
    return ns;
}

Test(coordinator, it_sleeps_when_nothing_happens)
{
    start("127.0.0.1:0");
    dial();
    join("a");
    uint64_t before = cpu_ns();
    poll(NULL, 0, 2000);
    uint64_t used = cpu_ns() - before;
    cr_expect_lt(used, 4000000, "%" PRIu64 " ns of 2 s are over 0.2 %%", used);
}
