/* main.c - the program godwit-torture: a cluster, clients, trouble, and then the questions.
 *
 *   trouble while clients work -> all is healed (with a shared tier: until nothing that others have
 *   there is needed, and what nobody needs is deleted) -> every key is read -> all servers are
 *   killed at once and come back (a durable cluster) -> every key is read again, and the cluster
 *   scanned -> all stop in order -> the histories are checked
 *
 * The reads at the end are part of the histories, so whatever was lost on the way shows there. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/godwit_torture/client.h"
#include "tests/godwit_torture/cluster.h"
#include "tests/godwit_torture/coverage.h"
#include "tests/godwit_torture/nemesis.h"
#include "tests/godwit_torture/operator.h"
#include "tests/godwit_torture/owner.h"
#include "tests/godwit_torture/verify.h"

#define HEAL_MS   45000u
#define SETTLE_MS 90000u /* with a shared tier: servers are drained meanwhile */
#define REST_MS   60000u
#define REPORT_NS UINT64_C(5000000000)

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    if (interrupted)
        _Exit(3); /* the children go with us */
    interrupted = 1;
}

static void report(struct torture_run *run, uint64_t operations_before)
{
    uint64_t now = torture_now_ns(run), operations = atomic_load(&run->operations);
    printf("%6.1f s: %" PRIu64 " operations (%" PRIu64 "/s), %" PRIu64 " in doubt, %" PRIu64
           " not done, %" PRIu64 " sessions; %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64
           " cuts, %" PRIu64 " full disks, %" PRIu64 " migrations; %" PRIu64
           " questions of ownership; %zu violations\n",
           (double)now / 1e9, operations, (operations - operations_before) * 1000000000 / REPORT_NS,
           atomic_load(&run->in_doubt), atomic_load(&run->not_done), atomic_load(&run->sessions),
           atomic_load(&run->kills), atomic_load(&run->stops), atomic_load(&run->cuts),
           atomic_load(&run->fills), atomic_load(&run->jobs), atomic_load(&run->probes),
           torture_violations(run));
    fflush(stdout);
}

struct threads {
    struct torture_client *clients; /* the last one reads at the end, without a thread */
    size_t clients_count;
    struct torture_owner owner;
    struct torture_coverage coverage;
    pthread_t operator_thread;
    bool owner_running, operator_running, coverage_running;
};

static bool start_threads(struct torture_run *run, struct torture_cluster *cluster,
                          struct threads *t)
{
    bool good = true;
    for (size_t i = 0; i + 1 < t->clients_count && good; i++) {
        struct torture_client *client = &t->clients[i];
        good = client->running =
            pthread_create(&client->thread, NULL, torture_client_run, client) == 0;
    }
    t->owner = (struct torture_owner){.run = run,
                                      .relays = cluster->relays,
                                      .servers = (uint32_t)run->options.servers};
    if (good)
        good = t->owner_running =
            pthread_create(&t->owner.thread, NULL, torture_owner_run, &t->owner) == 0;
    if (good)
        good = t->coverage_running =
            pthread_create(&t->coverage.thread, NULL, torture_coverage_run, &t->coverage) == 0;
    if (good && !run->options.no_migrate && run->options.servers > 1)
        good = t->operator_running =
            pthread_create(&t->operator_thread, NULL, torture_operator_run, run) == 0;
    return good;
}

static void join_threads(struct threads *t)
{
    for (size_t i = 0; i + 1 < t->clients_count; i++)
        if (t->clients[i].running)
            pthread_join(t->clients[i].thread, NULL);
    if (t->owner_running)
        pthread_join(t->owner.thread, NULL);
    if (t->operator_running)
        pthread_join(t->operator_thread, NULL);
    if (t->coverage_running)
        pthread_join(t->coverage.thread, NULL);
}

/* Until the time is over, or as many moves are done as were asked for. */
static void make_trouble(struct torture_run *run, struct torture_cluster *cluster,
                         const struct torture_coverage *coverage)
{
    uint64_t moves = run->options.moves ? run->options.moves : UINT64_MAX;
    struct torture_nemesis nemesis;
    uint64_t start = torture_now_ns(run), end = start + run->options.seconds * 1000000000;
    uint64_t report_at = start + REPORT_NS, operations = 0;
    torture_nemesis_init(&nemesis, cluster);
    while (torture_now_ns(run) < end && !interrupted && torture_violations(run) < 200 &&
           atomic_load(&coverage->moves) < moves) {
        torture_nemesis_turn(&nemesis);
        torture_cluster_turn(cluster);
        torture_sleep_ms(5);
        if (torture_now_ns(run) >= report_at) {
            report(run, operations);
            torture_coverage_print(coverage, stdout);
            operations = atomic_load(&run->operations);
            report_at += REPORT_NS;
        }
    }
    torture_nemesis_end(&nemesis);
    if (run->options.moves && !interrupted && atomic_load(&coverage->moves) < moves)
        torture_violation(run, TORTURE_NO_KEY, torture_now_ns(run),
                          "only %" PRIu64 " moves of %" PRIu64 " are done after %" PRIu64 " s",
                          atomic_load(&coverage->moves), moves, run->options.seconds);
}

/* Every key is read; of a durable cluster twice, with a crash of all servers in between. */
static void ask_all(struct torture_cluster *cluster, struct torture_client *reader)
{
    struct torture_run *run = cluster->run;
    torture_event(run, "every key is read");
    bool good = torture_read_all(reader);
    if (good && run->options.durability != TORTURE_MODE_NONE && !run->options.no_kill) {
        for (uint32_t i = 1; i < cluster->parties; i++)
            torture_cluster_kill(cluster, i, 0);
        good = torture_cluster_heal(cluster, HEAL_MS) && torture_read_all(reader);
    }
    torture_event(run, "the cluster is scanned");
    if (good)
        torture_scan_check(reader);
}

static int run_all(struct torture_run *run, struct torture_cluster *cluster)
{
    static struct threads t;
    t = (struct threads){.clients_count = run->options.clients + 1};
    uint32_t expiring = run->keys.first[TORTURE_EXPIRING + 1] - run->keys.first[TORTURE_EXPIRING];
    struct torture_expiring *lives = calloc(expiring, sizeof *lives);
    struct gw_cluster *known = NULL;
    t.clients = calloc(t.clients_count, sizeof *t.clients);
    if (!lives || !t.clients || !torture_cluster_start(cluster, run) ||
        gw_cluster_open(run->coordinator, NULL, &known) != GW_OK) {
        free(lives);
        free(t.clients);
        return 3;
    }
    for (size_t i = 0; i < t.clients_count; i++)
        torture_client_init(&t.clients[i], run, known, lives, (uint16_t)i);
    struct torture_client *reader = &t.clients[t.clients_count - 1];
    reader->reader = true;
    t.coverage = (struct torture_coverage){.run = run, .relays = cluster->relays};
    int code = 3;
    bool filled = !run->options.blob || torture_client_fill(&t.clients[0]);
    if (filled && start_threads(run, cluster, &t)) {
        make_trouble(run, cluster, &t.coverage);
        atomic_store(&run->stop, true);
        bool healed = torture_cluster_heal(cluster, run->options.blob ? SETTLE_MS : HEAL_MS);
        join_threads(&t);
        torture_coverage_ask(&t.coverage);
        if (healed && run->options.blob)
            torture_coverage_rest(&t.coverage, run->options.seconds * 500 < REST_MS
                                                   ? run->options.seconds * 500
                                                   : REST_MS);
        report(run, atomic_load(&run->operations));
        torture_coverage_print(&t.coverage, stdout);
        if (healed)
            ask_all(cluster, reader);
        torture_cluster_stop(cluster);
        struct torture_checked checked = torture_histories_check(run, t.clients, t.clients_count);
        if (run->options.history &&
            !torture_history_write(run, t.clients, t.clients_count, run->options.history))
            fprintf(stderr, "godwit-torture: %s cannot be written\n", run->options.history);
        torture_violations_print(run, t.clients, t.clients_count);
        size_t violations = torture_violations(run);
        printf("%s: %" PRIu64 " keys, %" PRIu64 " entries of history checked, %" PRIu64
               " keys undecided; longest start %.2f s; %zu violations\n",
               violations ? "FAILED" : "passed", checked.keys, checked.operations,
               checked.undecided, (double)cluster->longest_start_ns / 1e9, violations);
        code = violations ? 1 : 0;
    } else {
        atomic_store(&run->stop, true);
        join_threads(&t);
    }
    for (size_t i = 0; i < t.clients_count; i++)
        torture_client_free(&t.clients[i]);
    gw_cluster_close(known);
    free(t.clients);
    free(lives);
    return code;
}

int main(int argc, char **argv)
{
    struct torture_options options;
    static struct torture_run run;
    static struct torture_cluster cluster;
    int code = torture_options_parse(argc, argv, &options);
    if (code >= 0)
        return code;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    torture_run_init(&run, &options);
    printf("to repeat: ");
    torture_options_print(&options, argv[0], stdout);
    fflush(stdout);
    code = run_all(&run, &cluster);
    torture_cluster_end(&cluster, options.keep || code == 1);
    if (code == 1) {
        printf("to repeat: ");
        torture_options_print(&options, argv[0], stdout);
    }
    torture_run_free(&run);
    return code;
}
