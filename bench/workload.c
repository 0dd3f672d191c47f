/* workload.c - see workload.h. The zipfian draw is Gray et al., "Quickly generating billion-record
 * synthetic databases" (SIGMOD 1994), as YCSB has it: one unit draw and one power a key. */
#include "bench/workload.h"

#include <math.h>
#include <string.h>

#define THETA        0.99
#define SEED_DEFAULT 20240229u
#define ZETA_EXACT   10000000u /* terms summed one by one; the rest by the integral, error < 1e-8 */

static double zeta(uint64_t n)
{
    double sum = 0;
    uint64_t exact = n < ZETA_EXACT ? n : ZETA_EXACT;
    for (uint64_t i = 1; i <= exact; i++)
        sum += pow((double)i, -THETA);
    if (n > exact) /* Euler-Maclaurin, first two terms */
        sum += (pow((double)n, 1 - THETA) - pow((double)exact, 1 - THETA)) / (1 - THETA) +
               (pow((double)n, -THETA) - pow((double)exact, -THETA)) / 2;
    return sum;
}

enum gw_status gw_workload_init(struct gw_workload *w, const struct gw_workload_options *options)
{
    static const struct {
        char mix;
        double reads;
    } mixes[] = {{'a', 0.5}, {'b', 0.95}, {'c', 1}, {'d', 0.95}, {'f', 0}};
    if (options->keys == 0 || options->threads == 0 || options->thread >= options->threads)
        return GW_E_INVALID;
    memset(w, 0, sizeof *w);
    w->options = *options;
    bool known = false;
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        if (mixes[i].mix != options->mix)
            continue;
        known = true;
        double share = mixes[i].reads * 4294967296.0;
        w->read_share = share >= 4294967295.0 ? UINT32_MAX : (uint32_t)share;
    }
    if (!known)
        return GW_E_INVALID;
    uint64_t seed = options->seed ? options->seed : SEED_DEFAULT;
    gw_rand_init(&w->rand, seed + 0x9e3779b97f4a7c15u * options->thread);
    if (options->distribution == GW_ZIPFIAN) {
        double n = (double)options->keys;
        w->zipf_zeta = zeta(options->keys);
        w->zipf_alpha = 1 / (1 - THETA);
        w->zipf_half = 1 + pow(0.5, THETA);
        w->zipf_eta = (1 - pow(2 / n, 1 - THETA)) / (1 - w->zipf_half / w->zipf_zeta);
    }
    return GW_OK;
}

/* A rank: 0 is the most popular. */
static uint64_t zipf_rank(struct gw_workload *w)
{
    double u = gw_rand_unit(&w->rand);
    double uz = u * w->zipf_zeta;
    if (uz < 1)
        return 0;
    if (uz < w->zipf_half)
        return 1 % w->options.keys;
    uint64_t rank =
        (uint64_t)((double)w->options.keys * pow(w->zipf_eta * u - w->zipf_eta + 1, w->zipf_alpha));
    return rank < w->options.keys ? rank : w->options.keys - 1;
}

enum gw_workload_verb gw_workload_next(struct gw_workload *w, uint64_t *key)
{
    const struct gw_workload_options *o = &w->options;
    /* Mixes of one verb draw only the key. */
    bool read = w->read_share == UINT32_MAX ||
                (w->read_share != 0 && (uint32_t)gw_rand_next(&w->rand) < w->read_share);
    if (o->mix == 'd') {
        if (!read) {
            *key = o->keys + w->inserted++ * o->threads + o->thread;
            return GW_WORKLOAD_INSERT;
        }
        /* The latest: counted back from the newest of this thread's own keys, then the loaded. */
        uint64_t back =
            o->distribution == GW_ZIPFIAN ? zipf_rank(w) : gw_rand_below(&w->rand, o->keys);
        *key = back < w->inserted ? o->keys + (w->inserted - 1 - back) * o->threads + o->thread
                                  : o->keys - 1 - (back - w->inserted) % o->keys;
        return GW_WORKLOAD_READ;
    }
    if (o->distribution == GW_ZIPFIAN)
        *key = gw_workload_key(zipf_rank(w)) % o->keys;
    else
        *key = gw_rand_below(&w->rand, o->keys);
    if (o->mix == 'f')
        return GW_WORKLOAD_ADD;
    return read ? GW_WORKLOAD_READ : GW_WORKLOAD_UPDATE;
}

enum gw_status gw_workload_parse_mix(const char *text, char *mix)
{
    if (strlen(text) != 1 || !strchr("abcdf", text[0]))
        return GW_E_INVALID;
    *mix = text[0];
    return GW_OK;
}

enum gw_status gw_workload_parse_distribution(const char *text, enum gw_distribution *out)
{
    if (strcmp(text, "uniform") == 0)
        *out = GW_UNIFORM;
    else if (strcmp(text, "zipfian") == 0)
        *out = GW_ZIPFIAN;
    else
        return GW_E_INVALID;
    return GW_OK;
}
