/* nemesis.c - see nemesis.h. */
#define _GNU_SOURCE
#include "tests/godwit_torture/nemesis.h"

#include <fcntl.h>
#include <unistd.h>

#define MS          UINT64_C(1000000)
#define FILLER_STEP (1u << 20)

static uint64_t in_ms(struct torture_nemesis *n, uint64_t least, uint64_t most)
{
    return torture_now_ns(n->cluster->run) + (least + gw_rand_below(&n->rand, most - least)) * MS;
}

void torture_nemesis_init(struct torture_nemesis *n, struct torture_cluster *cluster)
{
    const struct torture_options *o = &cluster->run->options;
    *n = (struct torture_nemesis){.cluster = cluster, .filler = -1};
    gw_rand_init(&n->rand, torture_seed(cluster->run, "nemesis", 0));
    n->kill_at_ns = in_ms(n, 1500, 4000);
    n->stop_at_ns = o->no_stop ? UINT64_MAX : in_ms(n, 2000, 9000);
    n->cut_at_ns = o->no_cut ? UINT64_MAX : in_ms(n, 500, 2000);
    n->fill_at_ns = cluster->mounted ? in_ms(n, 5000, 15000) : UINT64_MAX;
    n->outage_at_ns = cluster->lockable && !o->no_outage ? in_ms(n, 2000, 8000) : UINT64_MAX;
}

static uint32_t some_server(struct torture_nemesis *n)
{
    return 1 + (uint32_t)gw_rand_below(&n->rand, n->cluster->parties - 1);
}

static void do_kill(struct torture_nemesis *n)
{
    uint64_t kind = gw_rand_below(&n->rand, 10);
    uint32_t away = gw_rand_below(&n->rand, 3) ? (uint32_t)gw_rand_below(&n->rand, 300)
                                               : (uint32_t)gw_rand_below(&n->rand, 3000);
    bool servers = !n->cluster->run->options.no_kill;
    /* Mostly when all are there: else, where starting takes long, nothing would ever move. */
    if (n->cluster->run->options.blob && !torture_cluster_all_up(n->cluster) &&
        gw_rand_below(&n->rand, 5)) {
        n->kill_at_ns = in_ms(n, 200, 1000);
        return;
    }
    n->kill_at_ns = in_ms(n, 1500, 5500);
    if (kind == 0 || !servers) {
        torture_cluster_kill(n->cluster, 0, away);
        return;
    }
    if (kind >= 8 && !n->mute) {
        /* What it has done nobody is told; checkpoints hold it; then it dies. */
        n->mute = some_server(n);
        n->mute_until_ns = in_ms(n, 200, 3500);
        torture_relay_hold(n->cluster->relays, n->mute, 5000);
        torture_event(n->cluster->run, "the answers of %s are held back until it is killed",
                      n->cluster->party[n->mute].id);
        return;
    }
    torture_cluster_kill(n->cluster, some_server(n), away);
    if (kind <= 2) /* two at once: another server, or the coordinator */
        torture_cluster_kill(n->cluster, kind == 1 ? 0 : some_server(n), away);
    if (kind == 3) /* and again soon, in the middle of its start perhaps */
        n->kill_at_ns = in_ms(n, 20, 600);
}

static void do_cut(struct torture_nemesis *n)
{
    struct torture_run *run = n->cluster->run;
    struct torture_relays *relays = n->cluster->relays;
    uint32_t party = (uint32_t)gw_rand_below(&n->rand, n->cluster->parties);
    uint32_t ms = 50 + (uint32_t)gw_rand_below(&n->rand, 1500);
    const char *id = n->cluster->party[party].id;
    switch (gw_rand_below(&n->rand, 4)) {
    case 0:
        torture_relay_hold(relays, party, ms);
        torture_event(run, "what goes to and from %s is held back for %u ms", id, ms);
        break;
    case 1:
        torture_relay_refuse(relays, party, ms);
        torture_relay_cut(relays, party);
        torture_event(run, "%s is cut off for %u ms", id, ms);
        break;
    default:
        torture_relay_cut(relays, party);
        torture_event(run, "all connections of %s are cut", id);
        break;
    }
    atomic_fetch_add(&run->cuts, 1);
    n->cut_at_ns = in_ms(n, 300, 3000);
}

static void let_end(struct torture_nemesis *n, uint64_t until_ns)
{
    for (uint32_t i = 1; i < n->cluster->parties; i++)
        n->cluster->party[i].may_end_ns = until_ns;
}

static void fill(struct torture_nemesis *n)
{
    char path[400];
    snprintf(path, sizeof path, "%s/filler", n->cluster->data);
    n->filler = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    n->fill_at_ns = in_ms(n, 12000, 30000);
    n->full_until_ns = in_ms(n, 300, 2500);
    if (n->filler < 0)
        return;
    let_end(n, UINT64_MAX);
    torture_event(n->cluster->run, "the disk is filled");
    atomic_fetch_add(&n->cluster->run->fills, 1);
}

/* As long as it is to be full, whatever is given back is taken at once. */
static void keep_full(struct torture_nemesis *n)
{
    static uint8_t bytes[FILLER_STEP];
    for (size_t step = sizeof bytes; step >= 4096;)
        if (write(n->filler, bytes, step) <= 0)
            step /= 16;
}

static void give_back(struct torture_nemesis *n)
{
    char path[400];
    snprintf(path, sizeof path, "%s/filler", n->cluster->data);
    (void)unlink(path);
    close(n->filler);
    n->filler = -1;
    let_end(n, in_ms(n, 5000, 5001));
    torture_event(n->cluster->run, "the disk has room again");
}

static void outage(struct torture_nemesis *n)
{
    n->out = torture_cluster_lock_objects(n->cluster, true);
    n->outage_at_ns = in_ms(n, 6000, 25000);
    n->outage_until_ns = in_ms(n, 100, gw_rand_below(&n->rand, 4) ? 2500 : 7000);
    if (!n->out)
        return;
    torture_event(n->cluster->run, "the shared tier cannot be reached");
    atomic_fetch_add(&n->cluster->run->outages, 1);
}

static void end_outage(struct torture_nemesis *n)
{
    n->out = !torture_cluster_lock_objects(n->cluster, false);
    torture_event(n->cluster->run, "the shared tier can be reached again");
}

void torture_nemesis_turn(struct torture_nemesis *n)
{
    const struct torture_options *o = &n->cluster->run->options;
    uint64_t now = torture_now_ns(n->cluster->run);
    if (now >= n->kill_at_ns && (!o->no_kill || o->durability == TORTURE_MODE_NONE))
        do_kill(n);
    if (n->mute && now >= n->mute_until_ns) {
        torture_relay_cut(n->cluster->relays, n->mute);
        torture_cluster_kill(n->cluster, n->mute, 0);
        torture_relay_heal(n->cluster->relays, n->mute);
        n->mute = 0;
    }
    uint32_t wanted = atomic_exchange(&n->cluster->run->kill_wanted, 0);
    if (wanted && !o->no_kill)
        torture_cluster_kill(n->cluster, wanted, 0);
    if (now >= n->stop_at_ns) {
        torture_cluster_freeze(n->cluster, (uint32_t)gw_rand_below(&n->rand, n->cluster->parties),
                               50 + (uint32_t)gw_rand_below(&n->rand, 2950));
        n->stop_at_ns = in_ms(n, 2000, 9000);
    }
    if (now >= n->cut_at_ns)
        do_cut(n);
    if (n->filler < 0 && now >= n->fill_at_ns)
        fill(n);
    if (n->filler >= 0 && now >= n->full_until_ns)
        give_back(n);
    if (n->filler >= 0)
        keep_full(n);
    if (!n->out && now >= n->outage_at_ns)
        outage(n);
    if (n->out && now >= n->outage_until_ns)
        end_outage(n);
}

void torture_nemesis_end(struct torture_nemesis *n)
{
    if (n->filler >= 0)
        give_back(n);
    if (n->out)
        end_outage(n);
}
