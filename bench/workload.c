/* workload.c - see workload.h. The zipfian draw is Gray et al., "Quickly generating billion-record
 * synthetic databases" (SIGMOD 1994), as YCSB has it: one unit draw and one power a key. It holds
 * for a skew above 1 too. */
#include "bench/workload.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define THETA_MAX    10.0
#define SEED_DEFAULT 20240229u
#define ZETA_EXACT   10000000u /* terms summed one by one; the rest by the integral, error < 1e-8 */

static const struct {
    const char *name;
    char mix;
    bool adds, inserts;
    double reads;
} mixes[] = {
    {"a", 'a', false, false, 0.5},
    {"b", 'b', false, false, 0.95},
    {"c", 'c', false, false, 1},
    {"d", 'd', false, true, 0.95},
    {"f", GW_MIX_ADD, true, false, 0},
    {"add", GW_MIX_ADD, true, false, 0},
    {"50:50", GW_MIX_HALF, true, false, 0.5},
    {"insert", GW_MIX_INSERT, false, true, 0},
};
#define MIXES (sizeof mixes / sizeof mixes[0])

/* The row of a mix, MIXES: none. */
static size_t find_mix(char mix)
{
    size_t i = 0;
    while (i < MIXES && mixes[i].mix != mix)
        i++;
    return i;
}

static double zeta(uint64_t n, double theta)
{
    double sum = 0;
    uint64_t exact = n < ZETA_EXACT ? n : ZETA_EXACT;
    for (uint64_t i = 1; i <= exact; i++)
        sum += pow((double)i, -theta);
    if (n > exact) /* Euler-Maclaurin, first two terms */
        sum += (pow((double)n, 1 - theta) - pow((double)exact, 1 - theta)) / (1 - theta) +
               (pow((double)n, -theta) - pow((double)exact, -theta)) / 2;
    return sum;
}

/* Gray's formula divides by 1 - theta. */
static bool theta_valid(double theta)
{
    return theta > 0 && theta <= THETA_MAX && fabs(theta - 1) > 1e-6;
}

enum gw_status gw_workload_init(struct gw_workload *w, const struct gw_workload_options *options)
{
    size_t row = find_mix(options->mix);
    double theta = options->theta == 0 ? GW_WORKLOAD_THETA : options->theta;
    if (row == MIXES || (options->keys == 0 && options->mix != GW_MIX_INSERT) ||
        options->threads == 0 || options->thread >= options->threads || !theta_valid(theta))
        return GW_E_INVALID;
    memset(w, 0, sizeof *w);
    w->options = *options;
    double share = mixes[row].reads * 4294967296.0;
    w->read_share = share >= 4294967295.0 ? UINT32_MAX : (uint32_t)share;
    uint64_t seed = options->seed ? options->seed : SEED_DEFAULT;
    gw_rand_init(&w->rand, seed + 0x9e3779b97f4a7c15u * options->thread);
    if (options->distribution != GW_UNIFORM && options->keys != 0) {
        double n = (double)options->keys;
        w->zipf_zeta = zeta(options->keys, theta);
        w->zipf_alpha = 1 / (1 - theta);
        w->zipf_half = 1 + pow(0.5, theta);
        w->zipf_eta = (1 - pow(2 / n, 1 - theta)) / (1 - w->zipf_half / w->zipf_zeta);
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

/* The latest: counted back from the newest of this thread's own keys, then the loaded ones. */
static uint64_t counted_back(const struct gw_workload *w, uint64_t back)
{
    const struct gw_workload_options *o = &w->options;
    return back < w->inserted ? o->keys + (w->inserted - 1 - back) * o->threads + o->thread
                              : o->keys - 1 - (back - w->inserted) % o->keys;
}

enum gw_workload_verb gw_workload_next(struct gw_workload *w, uint64_t *key)
{
    const struct gw_workload_options *o = &w->options;
    /* Mixes of one verb draw only the key. */
    bool read = w->read_share == UINT32_MAX ||
                (w->read_share != 0 && (uint32_t)gw_rand_next(&w->rand) < w->read_share);
    if (!read && (o->mix == 'd' || o->mix == GW_MIX_INSERT)) {
        *key = o->keys + w->inserted++ * o->threads + o->thread;
        return GW_WORKLOAD_INSERT;
    }
    uint64_t rank = o->distribution == GW_UNIFORM ? gw_rand_below(&w->rand, o->keys) : zipf_rank(w);
    if (o->mix == 'd' || o->distribution == GW_LATEST)
        *key = counted_back(w, rank);
    else if (o->distribution == GW_ZIPFIAN)
        *key = gw_workload_key(rank) % o->keys;
    else
        *key = rank;
    if (read)
        return GW_WORKLOAD_READ;
    return o->mix == GW_MIX_ADD || o->mix == GW_MIX_HALF ? GW_WORKLOAD_ADD : GW_WORKLOAD_UPDATE;
}

bool gw_workload_adds(char mix)
{
    size_t row = find_mix(mix);
    return row < MIXES && mixes[row].adds;
}

bool gw_workload_inserts(char mix)
{
    size_t row = find_mix(mix);
    return row < MIXES && mixes[row].inserts;
}

const char *gw_workload_mix_name(char mix)
{
    size_t row = find_mix(mix);
    return row < MIXES ? mixes[row].name : "?";
}

enum gw_status gw_workload_parse_mix(const char *text, char *mix)
{
    for (size_t i = 0; i < MIXES; i++) {
        if (strcmp(text, mixes[i].name) == 0) {
            *mix = mixes[i].mix;
            return GW_OK;
        }
    }
    return GW_E_INVALID;
}

static const char *const distribution_names[] = {
    [GW_UNIFORM] = "uniform", [GW_ZIPFIAN] = "zipfian", [GW_LATEST] = "latest"};

const char *gw_workload_distribution_name(enum gw_distribution distribution)
{
    return distribution_names[distribution];
}

enum gw_status gw_workload_parse_distribution(const char *text, enum gw_distribution *out)
{
    for (size_t i = 0; i < sizeof distribution_names / sizeof distribution_names[0]; i++) {
        if (strcmp(text, distribution_names[i]) == 0) {
            *out = (enum gw_distribution)i;
            return GW_OK;
        }
    }
    return GW_E_INVALID;
}

enum gw_status gw_workload_parse_theta(const char *text, double *out)
{
    char *end;
    double theta = strtod(text, &end);
    if (end == text || *end != 0 || !theta_valid(theta))
        return GW_E_INVALID;
    *out = theta;
    return GW_OK;
}
