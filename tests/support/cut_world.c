/* cut_world.c - see cut_world.h. */
#include "tests/support/cut_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/hash.h"

#define PAGES      10u
#define SEGMENT    4u   /* pages */
#define FILLER     400u /* keys */
#define THIRD      (CUT_KEYS / 3)
#define FIRST_TEXT THIRD
#define ARRIVE     (2 * THIRD)
#define FAR_MS     ((uint64_t)1 << 50)

#define MUST(c, ...)                                                                               \
    do {                                                                                           \
        if (!(c)) {                                                                                \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #c);                                \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- the device, with a hook ---- */

static struct gw_device *inner(struct gw_device *face)
{
    struct cut_world *w =
        (struct cut_world *)(void *)((uint8_t *)face - offsetof(struct cut_world, face));
    return gw_ram_device_face(w->ram);
}

static enum gw_status hook_read(struct gw_device *face, uint32_t queue, gw_addr at, void *room,
                                uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct cut_world *w =
        (struct cut_world *)(void *)((uint8_t *)face - offsetof(struct cut_world, face));
    if (w->on_read)
        w->on_read(w->on_read_ctx);
    return inner(face)->read(inner(face), queue, at, room, bytes, cb, arg);
}
static enum gw_status hook_write(struct gw_device *face, uint32_t queue, gw_addr at,
                                 const void *from, uint32_t bytes, gw_device_cb cb, void *arg)
{
    return inner(face)->write(inner(face), queue, at, from, bytes, cb, arg);
}
static void hook_trim(struct gw_device *face, gw_addr below)
{
    inner(face)->trim(inner(face), below);
}
static uint32_t hook_poll(struct gw_device *face, uint32_t queue)
{
    return inner(face)->poll(inner(face), queue);
}
static void hook_adopt(struct gw_device *face, uint32_t queue, void *memory, size_t bytes)
{
    inner(face)->adopt(inner(face), queue, memory, bytes);
}
static enum gw_status hook_sync(struct gw_device *face, uint32_t queue, gw_device_cb cb, void *arg)
{
    return inner(face)->sync(inner(face), queue, cb, arg);
}
static void hook_usage(struct gw_device *face, struct gw_device_usage *out)
{
    inner(face)->usage(inner(face), out);
}
static int hook_wait_fd(struct gw_device *face, uint32_t queue)
{
    return inner(face)->wait_fd(inner(face), queue);
}

/* ---- life ---- */

static void crossed(void *ctx, uint64_t number)
{
    struct cut_worker *k = ctx;
    pthread_mutex_lock(&k->lock);
    MUST(number == k->crossed + 1, "worker %u crosses from %lu to %lu", k->number,
         (unsigned long)k->crossed, (unsigned long)number);
    MUST(k->closed.count == 0, "worker %u: nobody has taken its notes", k->number);
    struct cut_notes empty = k->closed;
    k->closed = k->open;
    k->open = empty;
    k->crossed = number;
    pthread_mutex_unlock(&k->lock);
}

void cut_world_open(struct cut_world *w, uint32_t workers, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    gw_rand_init(&w->rand, seed);
    atomic_store(&w->arrive, ARRIVE);
    w->ram = gw_ram_device_create(&(struct gw_ram_device_options){
        .page_bits = CUT_PAGE_BITS,
        .segment_bytes = (uint64_t)SEGMENT << CUT_PAGE_BITS,
        .queues = workers,
        .delay_polls_max = 3,
        .seed = seed + 1,
    });
    w->face = (struct gw_device){.read = hook_read,
                                 .write = hook_write,
                                 .trim = hook_trim,
                                 .poll = hook_poll,
                                 .adopt = hook_adopt,
                                 .sync = hook_sync,
                                 .usage = hook_usage,
                                 .wait_fd = hook_wait_fd};
    struct gw_store_options o = {
        .log_bytes = (uint64_t)PAGES << CUT_PAGE_BITS,
        .index_bytes = 1 << 18,
        .page_bits = CUT_PAGE_BITS,
        .threads_max = workers,
        .hash_seed = seed,
        .device = &w->face,
    };
    MUST(gw_store_open(&o, &w->store) == GW_OK, "open");
    gw_store_retain_all(w->store);
    w->workers = workers;
    w->worker = calloc(workers, sizeof *w->worker);
    MUST(w->worker != NULL, "memory");
    for (uint32_t i = 0; i < workers; i++) {
        struct cut_worker *k = &w->worker[i];
        k->world = w;
        k->number = i;
        gw_rand_init(&k->rand, seed * 64 + i);
        pthread_mutex_init(&k->lock, NULL);
        MUST(gw_store_thread_open(w->store, &k->t) == GW_OK, "thread");
        k->crossed = gw_store_interval(k->t);
        MUST(k->crossed == 1, "the first interval is 1");
        gw_store_on_cross(k->t, crossed, k);
        gw_store_give_results(k->t, true);
    }
}

void cut_world_close(struct cut_world *w)
{
    for (uint32_t i = 0; i < w->workers; i++) {
        gw_store_thread_close(w->worker[i].t);
        pthread_mutex_destroy(&w->worker[i].lock);
        free(w->worker[i].open.note);
        free(w->worker[i].closed.note);
    }
    free(w->worker);
    gw_store_close(w->store);
    gw_ram_device_destroy(w->ram);
}

/* ---- what is done ---- */

static bool waits(const struct cut_worker *k, uint64_t key)
{
    for (uint32_t i = 0; i < k->waiting; i++)
        if (k->key[i] == key)
            return true;
    return false;
}

static void text_draw(struct cut_worker *k, struct gw_op *op, uint8_t *text, uint32_t max)
{
    op->value = text;
    op->value_bytes = (uint32_t)gw_rand_below(&k->rand, max);
    for (uint32_t i = 0; i < op->value_bytes; i++)
        text[i] = (uint8_t)gw_rand_next(&k->rand);
}

static void counter_draw(struct cut_worker *k, struct gw_op *op, uint32_t key)
{
    static const uint8_t verbs[] = {GW_VERB_ADD,    GW_VERB_ADD,   GW_VERB_ADD,    GW_VERB_ADD,
                                    GW_VERB_UPSERT, GW_VERB_TOUCH, GW_VERB_DELETE, GW_VERB_CAS,
                                    GW_VERB_GETSET, GW_VERB_READ,  GW_VERB_READ,   GW_VERB_INSERT};
    op->verb = verbs[gw_rand_below(&k->rand, sizeof verbs)];
    op->delta = (int64_t)gw_rand_below(&k->rand, 1000);
    op->number = (int64_t)gw_rand_below(&k->rand, 1000000);
    if (op->verb != GW_VERB_ADD && op->verb != GW_VERB_TOUCH && op->verb != GW_VERB_DELETE)
        op->flags |= GW_OP_COUNTER;
    op->expected_version = k->version[key];
    if (op->verb == GW_VERB_TOUCH && gw_rand_below(&k->rand, 2)) {
        op->flags |= GW_OP_HAS_EXPIRY;
        op->expiry_ms = FAR_MS + gw_rand_below(&k->rand, 1000);
    }
}

static void text_op_draw(struct cut_worker *k, struct gw_op *op, uint8_t *text)
{
    static const uint8_t verbs[] = {GW_VERB_UPSERT,     GW_VERB_UPSERT,  GW_VERB_APPEND,
                                    GW_VERB_APPEND,     GW_VERB_PREPEND, GW_VERB_TOUCH,
                                    GW_VERB_READ_TOUCH, GW_VERB_DELETE,  GW_VERB_GETDEL,
                                    GW_VERB_GETSET,     GW_VERB_READ,    GW_VERB_READ};
    op->verb = verbs[gw_rand_below(&k->rand, sizeof verbs)];
    if (op->verb == GW_VERB_APPEND || op->verb == GW_VERB_PREPEND)
        text_draw(k, op, text, 20);
    else if (op->verb == GW_VERB_UPSERT || op->verb == GW_VERB_GETSET)
        text_draw(k, op, text, CUT_TEXT_MAX);
    if (op->verb != GW_VERB_READ && gw_rand_below(&k->rand, 8) == 0) {
        op->flags |= GW_OP_HAS_EXPIRY; /* one that is past deletes */
        op->expiry_ms =
            gw_rand_below(&k->rand, 8) == 0 ? 1 : FAR_MS + gw_rand_below(&k->rand, 1000);
    }
}

static void draw(struct cut_worker *k)
{
    struct cut_world *w = k->world;
    while (k->waiting < CUT_BATCH && !k->drains) {
        /* A quarter of the keys for a while, so that the others go cold. */
        uint64_t quarter = (atomic_load(&w->filler) >> 10) % 4;
        uint64_t key = gw_rand_below(&k->rand, CUT_KEYS / 4) * 4 + quarter;
        if (gw_rand_below(&k->rand, 3) == 0)
            key = key / THIRD * THIRD + key % 5; /* all meet there */
        if (gw_rand_below(&k->rand, 3) == 0)
            key = CUT_KEYS + atomic_fetch_add(&w->filler, 1) % FILLER;
        bool arrives = k->number == 0 && gw_rand_below(&k->rand, 200) == 0 &&
                       atomic_load(&w->arrive) < CUT_KEYS;
        if (arrives)
            key = atomic_load(&w->arrive);
        if (waits(k, key))
            continue;
        uint32_t at = k->waiting++;
        struct gw_op *op = &k->wait[at];
        k->key[at] = key;
        *op = (struct gw_op){.key_bytes = 8};
        if (arrives) {
            op->verb = GW_VERB_ARRIVE;
            op->flags = GW_OP_COUNTER;
            op->number = (int64_t)key;
            op->expected_version = 1000;
            atomic_fetch_add(&w->arrive, 1);
        } else if (key >= CUT_KEYS) {
            op->verb = GW_VERB_UPSERT;
            text_draw(k, op, k->text[at], CUT_TEXT_MAX);
        } else if (key >= FIRST_TEXT && key < ARRIVE) {
            text_op_draw(k, op, k->text[at]);
        } else {
            counter_draw(k, op, (uint32_t)key);
            op->flags |= key >= ARRIVE ? GW_OP_UNSETTLED : 0;
        }
    }
    for (uint32_t i = 0; i < k->waiting; i++) {
        k->wait[i].key = (const uint8_t *)&k->key[i];
        if (k->wait[i].value)
            k->wait[i].value = k->text[i];
        gw_store_hash(w->store, &k->wait[i]);
    }
}

static void note_add(struct cut_notes *notes, const struct cut_note *note)
{
    if (notes->count == notes->room) {
        notes->room = notes->room ? notes->room * 2 : 256;
        notes->note = realloc(notes->note, notes->room * sizeof *notes->note);
        MUST(notes->note != NULL, "memory");
    }
    notes->note[notes->count++] = *note;
}

static void bytes_note(struct cut_state *state, const uint8_t *value, uint64_t bytes)
{
    state->bytes = bytes;
    state->digest = gw_key_hash(bytes ? value : (const uint8_t *)"", (uint16_t)bytes, 99);
}

/* What the operation has made of its key, from what it was and what it gave. */
static void note(struct cut_worker *k, uint32_t at)
{
    const struct gw_op *op = &k->wait[at];
    if (k->key[at] >= CUT_KEYS || op->status != GW_OK || op->verb == GW_VERB_READ ||
        op->verb == GW_VERB_ARRIVE) {
        MUST(op->verb == GW_VERB_READ || op->status == GW_OK || op->effect == 0,
             "status %d, effect %u", op->status, op->effect);
        return;
    }
    struct cut_note n = {.key = (uint32_t)k->key[at], .effect = op->effect};
    MUST(op->effect & GW_EFFECT_CHANGED, "verb %u, effect %u", op->verb, op->effect);
    n.state.present = true;
    n.state.version = op->version;
    n.state.tombstone = op->effect & GW_EFFECT_TOMBSTONE;
    n.state.counter = n.key < FIRST_TEXT || n.key >= ARRIVE;
    k->version[n.key] = op->version;
    if (n.state.tombstone) {
        n.state.counter = false;
    } else {
        n.state.expiry_ms = op->expiry_ms;
        n.state.number = op->number;
        if (n.state.counter && op->verb == GW_VERB_GETSET)
            memcpy(&n.state.number, k->text[at], 8);
        if (n.state.counter)
            ;
        else if (op->verb == GW_VERB_UPSERT || op->verb == GW_VERB_GETSET)
            bytes_note(&n.state, op->value, op->value_bytes);
        else
            bytes_note(&n.state, op->result, op->result_bytes);
    }
    if (n.state.tombstone || !n.state.counter)
        n.state.number = 0;
    note_add(&k->open, &n);
}

/* Executes up to `most` of what waits, noting results between the calls, as a dispatcher would. */
static void execute(struct cut_worker *k, uint32_t most)
{
    struct cut_world *w = k->world;
    uint32_t until = k->done + most < k->waiting ? k->done + most : k->waiting;
    while (k->done < until) {
        size_t used;
        for (uint32_t i = k->done; i < until; i++) /* GETSET overwrites its input */
            if (k->wait[i].verb == GW_VERB_GETSET && (k->wait[i].flags & GW_OP_COUNTER) &&
                k->wait[i].value == NULL)
                memcpy(k->text[i], &k->wait[i].number, 8);
        uint32_t ran = gw_store_execute(k->t, k->wait + k->done, until - k->done, k->room,
                                        sizeof k->room, &used);
        MUST(ran > 0, "no progress");
        for (uint32_t i = k->done; i < k->done + ran; i++)
            if (k->wait[i].status != GW_PENDING && k->wait[i].status != GW_RETRY)
                note(k, i);
        k->done += ran;
        __atomic_fetch_add(&w->early, k->done < until, __ATOMIC_RELAXED);
    }
}

/* Keeps what has to be executed again. */
static void keep_undone(struct cut_worker *k)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < k->waiting; i++) {
        const struct gw_op *op = &k->wait[i];
        if (op->status == GW_PENDING)
            __atomic_fetch_add(&k->world->pendings, 1, __ATOMIC_RELAXED);
        else if (op->status == GW_RETRY)
            __atomic_fetch_add(&k->world->retries, 1, __ATOMIC_RELAXED);
        else
            continue;
        if (left != i) {
            k->wait[left] = k->wait[i];
            k->key[left] = k->key[i];
            memcpy(k->text[left], k->text[i], CUT_TEXT_MAX);
        }
        left++;
    }
    k->waiting = left;
}

bool cut_worker_is_outside(const struct cut_worker *k)
{
    return k->phase == 0;
}

void cut_worker_step(struct cut_worker *k)
{
    uint64_t hashes[16];
    switch (k->phase++) {
    case 0:
        draw(k);
        k->done = 0;
        gw_store_enter(k->t);
        break;
    case 1:
        execute(k, (uint32_t)gw_rand_below(&k->rand, CUT_BATCH));
        break;
    case 2:
        execute(k, CUT_WAITING);
        break;
    default:
        gw_store_exit(k->t);
        keep_undone(k);
        gw_store_poll(k->t);
        while (gw_store_ready(k->t, hashes, 16)) {}
        k->phase = 0;
        break;
    }
}

/* ---- cuts ---- */

bool cut_begin(struct cut_world *w)
{
    if (w->under_way)
        return false;
    struct gw_store_image image = {0};
    enum gw_status st = gw_store_cut_begin(w->store, w->cut + 1, &image);
    MUST(st == GW_OK || st == GW_RETRY, "status %d", st);
    if (st == GW_RETRY)
        return false;
    MUST(image.begin.v >= w->image.begin.v && image.end.v > w->image.end.v, "the image goes back");
    w->image = image;
    w->cut++;
    w->under_way = true;
    return true;
}

static void read_record(void *ctx, const struct gw_image_record *r)
{
    struct cut_world *w = ctx;
    uint64_t key;
    memcpy(&key, r->key, 8);
    if (key >= CUT_KEYS)
        return;
    struct cut_state *s = &w->next[key];
    *s = (struct cut_state){.present = true,
                            .version = gw_control_version(r->control),
                            .tombstone = r->control & GW_CONTROL_TOMBSTONE,
                            .arrived = r->control & GW_CONTROL_ARRIVED};
    if (s->tombstone)
        return;
    s->counter = gw_control_kind(r->control) == GW_RECORD_COUNTER;
    s->expiry_ms = r->expiry_ms;
    if (s->counter)
        memcpy(&s->number, r->value, 8);
    else
        bytes_note(s, r->value, r->value_bytes);
}

static int by_key_and_version(const void *left, const void *right)
{
    const struct cut_note *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    int32_t distance = (int32_t)(a->state.version - b->state.version);
    return distance < 0 ? -1 : distance > 0;
}

static bool same(const struct cut_state *a, const struct cut_state *b)
{
    return a->present == b->present && a->version == b->version && a->tombstone == b->tombstone &&
           a->counter == b->counter && a->number == b->number && a->digest == b->digest &&
           a->bytes == b->bytes && a->expiry_ms == b->expiry_ms;
}

static void must_be_same(const struct cut_state *a, const struct cut_state *b, uint32_t key,
                         const char *what)
{
    MUST(same(a, b),
         "key %u, %s: present %d %d, version %u %u, tombstone %d %d, number %ld %ld, bytes %lu "
         "%lu, expiry %lu %lu",
         key, what, a->present, b->present, a->version, b->version, a->tombstone, b->tombstone,
         (long)a->number, (long)b->number, (unsigned long)a->bytes, (unsigned long)b->bytes,
         (unsigned long)a->expiry_ms, (unsigned long)b->expiry_ms);
}

/* The notes of one key lead from the last image to `now`; returns what they make of it. */
static struct cut_state follow(struct cut_world *w, uint32_t key, const struct cut_note *note,
                               uint32_t count)
{
    struct cut_state s = w->state[key];
    for (uint32_t i = 0; i < count; i++) {
        const struct cut_note *n = &note[i];
        bool first = i == 0 && s.present, start = i == 0 && !s.present;
        if (i == 0 && key >= ARRIVE && (!s.present || s.arrived)) {
            /* The record that arrived is no note: it may be in the last image or not. */
            MUST((n->effect & GW_EFFECT_START) && n->state.version == 1001,
                 "key %u: effect %u, version %u", key, n->effect, n->state.version);
        } else {
            MUST(!(n->effect & GW_EFFECT_FIRST) == !first &&
                     !(n->effect & GW_EFFECT_START) == !start,
                 "key %u, note %u of %u, version %u behind %u: effect %u", key, i, count,
                 n->state.version, s.version, n->effect);
            MUST(!s.present || n->state.version == s.version + 1, "key %u: version %u behind %u",
                 key, n->state.version, s.version);
        }
        w->firsts += (n->effect & GW_EFFECT_FIRST) != 0;
        w->starts += (n->effect & GW_EFFECT_START) != 0;
        s = n->state;
    }
    return s;
}

/* The notes of the interval, sorted. */
static struct cut_notes notes_take(struct cut_world *w)
{
    struct cut_notes all = {0};
    for (uint32_t i = 0; i < w->workers; i++) {
        struct cut_worker *k = &w->worker[i];
        pthread_mutex_lock(&k->lock);
        for (uint32_t j = 0; j < k->closed.count; j++)
            note_add(&all, &k->closed.note[j]);
        k->closed.count = 0;
        pthread_mutex_unlock(&k->lock);
    }
    if (all.count)
        qsort(all.note, all.count, sizeof *all.note, by_key_and_version);
    return all;
}

static void check(struct cut_world *w)
{
    memset(w->next, 0, sizeof w->next);
    gw_log_image_walk(w->ram, CUT_PAGE_BITS, &w->image, read_record, w);
    struct cut_notes all = notes_take(w);
    uint32_t at = 0;
    for (uint32_t key = 0; key < CUT_KEYS; key++) {
        uint32_t from = at;
        while (at < all.count && all.note[at].key == key)
            at++;
        struct cut_state s = follow(w, key, all.note + from, at - from);
        if (at == from && key >= ARRIVE && !s.present && w->next[key].present)
            MUST(w->next[key].arrived && w->next[key].version == 1000, "key %u came from nowhere",
                 key);
        else
            must_be_same(&w->next[key], &s, key, "image and notes");
    }
    w->notes += all.count;
    free(all.note);
    memcpy(w->state, w->next, sizeof w->state);
}

bool cut_look(struct cut_world *w)
{
    if (!w->under_way)
        return false;
    for (uint32_t i = 0; i < w->workers; i++) {
        struct cut_worker *k = &w->worker[i];
        pthread_mutex_lock(&k->lock);
        bool there = k->crossed == w->cut + 1;
        pthread_mutex_unlock(&k->lock);
        if (!there)
            return false;
    }
    if (!gw_store_cut_flushed(w->store, w->image.end))
        return false;
    check(w);
    w->cuts++;
    w->under_way = false;
    /* The end stays 0: tombstones stay, so that versions of a key never begin anew. */
    gw_store_retain(w->store, w->image.begin, gw_addr_of(0));
    return true;
}

void cut_world_compare(struct cut_world *w)
{
    struct cut_worker *k = &w->worker[0];
    for (uint64_t key = 0; key < CUT_KEYS; key++) {
        struct gw_op op = {.verb = GW_VERB_FETCH, .key = (const uint8_t *)&key, .key_bytes = 8};
        gw_store_hash(w->store, &op);
        do {
            size_t used;
            uint64_t hashes[16];
            gw_store_poll(k->t);
            while (gw_store_ready(k->t, hashes, 16)) {}
            gw_store_enter(k->t);
            gw_store_execute(k->t, &op, 1, k->room, sizeof k->room, &used);
            gw_store_exit(k->t);
        } while (op.status == GW_PENDING || op.status == GW_RETRY);
        struct cut_state s = {.present = op.status != GW_NOT_FOUND,
                              .tombstone = op.status == GW_TOMBSTONE};
        s.version = s.present ? op.version : 0;
        if (op.status == GW_OK) {
            s.counter = op.kind == GW_KIND_COUNTER;
            s.expiry_ms = op.expiry_ms;
            s.number = s.counter ? op.number : 0;
            if (!s.counter)
                bytes_note(&s, op.out, op.out_bytes);
        }
        must_be_same(&s, &w->state[key], (uint32_t)key, "store and image");
    }
}
