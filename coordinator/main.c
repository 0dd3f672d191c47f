/* main.c - the program godwit-coordinator: flags, signals, the loop. */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator/service.h"
#include "index/base/log_line.h"
#include "index/base/rand.h"
#include "index/base/text.h"

#define PROGRAM "godwit-coordinator"

static const char help[] =
    "Usage: " PROGRAM " [--listen HOST:PORT] --store sqlite:PATH\n"
    "\n"
    "Keeps the map of a Godwit cluster: which server owns which slots, and the jobs that move\n"
    "them. Servers and clients find it by its address; it is never on the way of their data.\n"
    "\n"
    "  --listen HOST:PORT   where to listen; port 0 takes a free one (default 127.0.0.1:7400)\n"
    "  --store sqlite:PATH  the file that holds the map; made if there is none, and held by one\n"
    "                       coordinator at a time\n"
    "  --help               this text\n"
    "  --version            the version\n"
    "\n"
    "It prints one line when it is ready, and ends on SIGTERM or SIGINT. Exit codes: 0 stopped,\n"
    "1 failed, 2 a wrong flag. GW_LOG=debug|info|warn|error|off sets what it logs to stderr.\n";

struct options {
    const char *listen, *store;
};

/* The running net, for the signal's handler: gw_net_wake is two atomics and a write. */
static struct gw_net *_Atomic running_net;
static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
    struct gw_net *net = atomic_load_explicit(&running_net, memory_order_acquire);
    if (net)
        gw_net_wake(net);
}

static int usage(const char *flag, const char *limit)
{
    fprintf(stderr, PROGRAM ": %s: %s (see --help)\n", flag, limit);
    return 2;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct options *options)
{
    static const struct option flags[] = {
        {"listen", required_argument, NULL, 'l'},
        {"store", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    opterr = 0;
    for (int flag; (flag = getopt_long(argc, argv, ":", flags, NULL)) != -1;) {
        switch (flag) {
        case 'l':
            options->listen = optarg;
            break;
        case 's':
            options->store = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        case 'v':
            puts(PROGRAM " " GODWIT_VERSION);
            return 0;
        case ':':
            return usage(argv[optind - 1], "this flag needs a value");
        default:
            return usage(argv[optind - 1],
                         "unknown flag; there are --listen, --store, --help and --version");
        }
    }
    if (optind < argc)
        return usage(argv[optind], "this program takes flags only");
    char host[64];
    uint16_t port;
    if (gw_parse_address(options->listen, host, sizeof host, &port) != GW_OK) {
        fprintf(stderr,
                PROGRAM ": --listen: \"%s\" is not HOST:PORT with a port of 0 to 65535 and a host "
                        "of at most 63 bytes (see --help)\n",
                options->listen);
        return 2;
    }
    if (!options->store)
        return usage("--store", "this flag is required: sqlite:PATH");
    if (strncmp(options->store, "sqlite:", 7) != 0 || !options->store[7]) {
        fprintf(stderr, PROGRAM ": --store: \"%s\" is not sqlite:PATH (see --help)\n",
                options->store);
        return 2;
    }
    return -1;
}

static uint64_t random_word(void)
{
    uint64_t word = gw_rand_system_seed();
    return word ? word : 1;
}

#define LISTEN_TRIES    100u /* ten seconds: a busy machine takes its time */
#define LISTEN_PAUSE_US 100000u
#define LISTEN_SAY      10u

static int serve(struct gw_service *service, struct gw_net *net, const struct options *options)
{
    char bound[64] = "", why[512];
    /* One that was killed may hold its port for a moment, as with servers: the kernel takes its
     * rings apart after the process has gone. */
    enum gw_status st = GW_E_BUSY;
    for (uint32_t tries = 0; st == GW_E_BUSY && tries < LISTEN_TRIES; tries++) {
        if (tries != 0)
            usleep(LISTEN_PAUSE_US);
        if (tries == LISTEN_SAY)
            gw_warn("listen",
                    "address=%s why=\"in use, perhaps by a process that is being ended\" next=wait",
                    options->listen);
        st = gw_net_listen(net, options->listen, bound);
    }
    if (st != GW_OK) {
        gw_error("cannot listen", "listen=%s status=%s reason=\"%s\"", options->listen,
                 gw_status_name(st), gw_status_text(st));
        return 1;
    }
    /* What the start has found or founded is durable before anybody is told that we are ready. */
    st = gw_service_turn(service, why, sizeof why);
    if (st == GW_OK) {
        printf(PROGRAM " ready listen=%s store=%s\n", bound, options->store);
        fflush(stdout);
    }
    while (st == GW_OK && !stopping) {
        gw_net_poll(net, GW_SERVICE_TURN_NS);
        st = gw_service_turn(service, why, sizeof why);
    }
    if (st == GW_OK) {
        gw_net_flush(net);
        gw_info("stopped", "listen=%s", bound);
        return 0;
    }
    gw_error("cannot persist", "status=%s reason=\"%s\" next=exit", gw_status_name(st), why);
    return 1;
}

int main(int argc, char **argv)
{
    struct options options = {.listen = "127.0.0.1:7400"};
    int code = parse(argc, argv, &options);
    if (code >= 0)
        return code;
    gw_log_set_name("coordinator");
    const struct sigaction on_stop = {.sa_handler = stop}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &on_stop, NULL);
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);

    code = 1;
    char why[512] = "";
    struct gw_fact_store *store = NULL;
    struct gw_coordinator *coordinator = NULL;
    struct gw_service *service = NULL;
    enum gw_status st = gw_fact_store_open(options.store, &store, why, sizeof why);
    if (st != GW_OK)
        goto fail;
    st = gw_fact_store_start(store, random_word(), random_word(), &coordinator, why, sizeof why);
    if (st != GW_OK)
        goto fail;
    struct gw_net_options net_options;
    gw_net_options_default(&net_options);
    net_options.connections_max = GW_SERVICE_CONNECTIONS_MAX;
    net_options.spin_ns_max = 0; /* nobody waits for a coordinator's microseconds */
    st = gw_service_create(store, coordinator, gw_clock_system(), net_options.connections_max,
                           &service);
    if (st != GW_OK)
        goto fail;
    coordinator = NULL; /* the service's now */
    struct gw_net *net;
    st = gw_net_uring_create(&net_options, gw_service_events(), service, &net);
    if (st != GW_OK) {
        snprintf(why, sizeof why, "io_uring: %s", gw_status_text(st));
        goto fail;
    }
    atomic_store_explicit(&running_net, net, memory_order_release); /* pairs with the handler's */
    code = serve(service, net, &options);
    atomic_store_explicit(&running_net, NULL, memory_order_release);
    gw_net_destroy(net);
    goto out;

fail:
    gw_error("cannot start", "status=%s reason=\"%s\"", gw_status_name(st),
             why[0] ? why : gw_status_text(st));
out:
    gw_service_destroy(service);
    gw_coordinator_destroy(coordinator);
    gw_fact_store_close(store);
    return code;
}
