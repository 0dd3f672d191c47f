/* net_loop.c - the world of the in-process transport: its clock, what is on its way, breaks and
 * partitions. Next to happen is found by looking at all connections: a simulation has few, and a
 * queue would have to be repaired at every break, partition and healing. */
#include "client/net/net_loop.h"

#include <stdlib.h>
#include <string.h>

#include "client/net/net_loop_internal.h"
#include "index/base/assert.h"

void gw_loop_options_default(struct gw_loop_options *options)
{
    *options = (struct gw_loop_options){
        .seed = 1,
        .delay_ns_min = 10000,
        .delay_ns_max = 500000,
        .start_ns = 1000000000,
        .wall_ms = UINT64_C(1700000000000),
    };
}

static uint64_t clock_now_ns(void *ctx)
{
    return ((const struct gw_loop *)ctx)->now_ns;
}

static uint64_t clock_wall_ms(void *ctx)
{
    const struct gw_loop *loop = ctx;
    return loop->options.wall_ms + (loop->now_ns - loop->options.start_ns) / 1000000;
}

enum gw_status gw_loop_create(const struct gw_loop_options *options, struct gw_loop **out)
{
    struct gw_loop_options defaults;
    gw_loop_options_default(&defaults);
    if (!options)
        options = &defaults;
    if (options->delay_ns_min > options->delay_ns_max)
        return GW_E_INVALID;
    struct gw_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return GW_E_NOMEM;
    loop->options = *options;
    loop->now_ns = options->start_ns;
    loop->clock = (struct gw_clock){clock_now_ns, clock_wall_ms, loop};
    gw_rand_init(&loop->rand, options->seed);
    *out = loop;
    return GW_OK;
}

void gw_loop_destroy(struct gw_loop *loop)
{
    if (!loop)
        return;
    GW_ASSERT(loop->nets == NULL);
    gw_loop_heal_all(loop);
    free(loop);
}

const struct gw_clock *gw_loop_clock(struct gw_loop *loop)
{
    return &loop->clock;
}

static struct loop_net *find_name(const struct gw_loop *loop, const char *name)
{
    for (struct loop_net *net = loop->nets; net; net = net->next)
        if (strcmp(net->name, name) == 0)
            return net;
    return NULL;
}

enum gw_status gw_net_loop_create(struct gw_loop *loop, const char *name,
                                  const struct gw_net_options *options,
                                  const struct gw_net_events *events, void *ctx,
                                  struct gw_net **out)
{
    if (strlen(name) >= GWI_LOOP_NAME)
        return GW_E_INVALID;
    if (find_name(loop, name))
        return GW_E_BUSY;
    struct loop_net *net = calloc(1, sizeof *net);
    if (!net)
        return GW_E_NOMEM;
    gwi_net_init(&net->base, &gwi_loop_ops, options, events, ctx);
    net->loop = loop;
    strcpy(net->name, name);
    struct loop_net **end = &loop->nets;
    while (*end)
        end = &(*end)->next;
    *end = net;
    *out = &net->base;
    return GW_OK;
}

struct loop_net *gwi_loop_listener(const struct gw_loop *loop, const char *address)
{
    for (struct loop_net *net = loop->nets; net; net = net->next)
        for (uint32_t i = 0; i < net->listen_count; i++)
            if (strcmp(net->listens[i], address) == 0)
                return net;
    return NULL;
}

static uint64_t draw_delay_ns(struct gw_loop *loop)
{
    const struct gw_loop_options *o = &loop->options;
    return o->delay_ns_min + gw_rand_below(&loop->rand, o->delay_ns_max - o->delay_ns_min + 1);
}

bool gwi_loop_send(struct loop_conn *to, enum loop_item_kind kind, const uint8_t *data,
                   uint32_t bytes)
{
    struct gw_loop *loop = gwi_loop_of(&to->base)->loop;
    struct loop_item *item = malloc(sizeof *item + bytes);
    if (!item)
        return false;
    *item = (struct loop_item){
        .at_ns = loop->now_ns + draw_delay_ns(loop),
        .kind = kind,
        .bytes = bytes,
    };
    if (bytes > 0)
        memcpy(item->data, data, bytes);
    if (to->last)
        to->last->next = item;
    else
        to->first = item;
    to->last = item;
    return true;
}

/* ---- what happens next ---- */

static struct loop_item *first_travelling(const struct loop_conn *c)
{
    struct loop_item *item = c->first;
    while (item && item->arrived)
        item = item->next;
    return item;
}

/* An event: something arrives at `conn`, its connecting is heard by the listener, or times out. */
struct loop_event {
    uint64_t at_ns;
    struct loop_conn *conn;
    struct loop_item *item; /* NULL: the connecting */
};

static void consider(const struct gw_loop *loop, struct loop_event *best, uint64_t at_ns,
                     struct loop_conn *c, struct loop_item *item)
{
    if (at_ns < loop->now_ns)
        at_ns = loop->now_ns; /* it waited for the one in front of it, or for a partition to heal */
    if (at_ns < best->at_ns)
        *best = (struct loop_event){at_ns, c, item};
}

static struct loop_event next_event(const struct gw_loop *loop)
{
    struct loop_event best = {.at_ns = GWI_NEVER};
    for (struct loop_net *net = loop->nets; net; net = net->next) {
        for (struct loop_conn *c = net->conns; c; c = c->next) {
            if (c->state == LOOP_CLOSED)
                continue;
            if (c->state == LOOP_CONNECTING)
                consider(loop, &best, c->timeout_ns, c, NULL);
            if (gwi_loop_is_cut(loop, net->name, c->remote))
                continue;
            if (c->state == LOOP_CONNECTING)
                consider(loop, &best, c->arrives_ns, c, NULL);
            struct loop_item *item = first_travelling(c);
            if (item)
                consider(loop, &best, item->at_ns, c, item);
        }
    }
    return best;
}

static struct loop_net *net_with_work(const struct gw_loop *loop)
{
    struct loop_net *net = loop->nets;
    while (net && !net->work)
        net = net->next;
    return net;
}

uint64_t gw_loop_next_ns(const struct gw_loop *loop)
{
    return net_with_work(loop) ? loop->now_ns : next_event(loop).at_ns;
}

/* The listener's side of a connection comes to be. Returns the node that has something to do. */
static struct loop_net *connect_heard(struct gw_loop *loop, struct loop_conn *c)
{
    struct loop_net *from = gwi_loop_of(&c->base);
    struct loop_net *to = gwi_loop_listener(loop, c->target);
    c->arrives_ns = GWI_NEVER;
    struct loop_conn *far = to ? gwi_loop_conn_new(to, from->name, NULL) : NULL;
    if (far && gwi_loop_send(c, ITEM_CONNECTED, NULL, 0)) {
        far->state = LOOP_OPEN;
        far->connect_reported = far->accept_due = true;
        far->other = c;
        c->other = far;
        to->work = true;
        return to;
    }
    if (far) { /* no memory for the answer: neither end stands */
        far->connect_reported = true;
        gwi_loop_end(far, GW_E_NOMEM);
    }
    if (!gwi_loop_send(c, ITEM_REFUSED, NULL, 0))
        gwi_loop_end(c, GW_E_NOMEM);
    return from;
}

bool gw_loop_step(struct gw_loop *loop, struct gw_net **out)
{
    struct loop_net *net = net_with_work(loop);
    if (!net) {
        struct loop_event event = next_event(loop);
        if (event.at_ns == GWI_NEVER)
            return false;
        GW_ASSERT(event.at_ns >= loop->now_ns);
        loop->now_ns = event.at_ns;
        struct loop_conn *c = event.conn;
        net = gwi_loop_of(&c->base);
        if (event.item) {
            event.item->arrived = true;
        } else if (loop->now_ns >= c->timeout_ns) {
            gwi_loop_end(c, GW_E_TIMEOUT);
        } else {
            net = connect_heard(loop, c);
        }
        net->work = true;
    }
    *out = &net->base;
    return true;
}

void gw_loop_advance(struct gw_loop *loop, uint64_t ns)
{
    GW_ASSERT(gw_loop_next_ns(loop) >= ns);
    GW_ASSERT(ns >= loop->now_ns);
    loop->now_ns = ns;
}

/* ---- what goes wrong ---- */

static void reset_end(struct loop_conn *c)
{
    c->other = NULL;
    gwi_loop_drop_items(c);
    gwi_loop_end(c, c->connect_reported ? GW_E_IO : GW_E_UNREACHABLE);
}

void gw_loop_break(struct gw_conn *conn)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    if (c->other)
        reset_end(c->other);
    reset_end(c);
}

uint32_t gw_loop_break_between(struct gw_loop *loop, const char *a, const char *b)
{
    uint32_t broken = 0;
    for (struct loop_net *net = loop->nets; net; net = net->next) {
        for (struct loop_conn *c = net->conns; c; c = c->next) {
            bool between = (strcmp(net->name, a) == 0 && strcmp(c->remote, b) == 0) ||
                           (strcmp(net->name, b) == 0 && strcmp(c->remote, a) == 0);
            if (!between || c->state == LOOP_CLOSED)
                continue;
            gw_loop_break(&c->base);
            broken++;
        }
    }
    return broken;
}

static bool cut_is(const struct loop_cut *cut, const char *a, const char *b)
{
    return (strcmp(cut->a, a) == 0 && strcmp(cut->b, b) == 0) ||
           (strcmp(cut->a, b) == 0 && strcmp(cut->b, a) == 0);
}

bool gwi_loop_is_cut(const struct gw_loop *loop, const char *a, const char *b)
{
    for (const struct loop_cut *cut = loop->cuts; cut; cut = cut->next)
        if (cut_is(cut, a, b))
            return true;
    return false;
}

enum gw_status gw_loop_partition(struct gw_loop *loop, const char *a, const char *b)
{
    if (strlen(a) >= GWI_LOOP_NAME || strlen(b) >= GWI_LOOP_NAME)
        return GW_E_INVALID;
    if (gwi_loop_is_cut(loop, a, b))
        return GW_OK;
    struct loop_cut *cut = calloc(1, sizeof *cut);
    if (!cut)
        return GW_E_NOMEM;
    strcpy(cut->a, a);
    strcpy(cut->b, b);
    cut->next = loop->cuts;
    loop->cuts = cut;
    return GW_OK;
}

void gw_loop_heal(struct gw_loop *loop, const char *a, const char *b)
{
    for (struct loop_cut **at = &loop->cuts; *at; at = &(*at)->next) {
        if (!cut_is(*at, a, b))
            continue;
        struct loop_cut *healed = *at;
        *at = healed->next;
        free(healed);
        return;
    }
}

void gw_loop_heal_all(struct gw_loop *loop)
{
    while (loop->cuts)
        gw_loop_heal(loop, loop->cuts->a, loop->cuts->b);
}
