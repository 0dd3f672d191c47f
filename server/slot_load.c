/* slot_load.c - counters of slots to a few ranges. See slot_load.h. */
#include "server/slot_load.h"

#include <string.h>

#define LOOK_NS UINT64_C(1000000000)
#define KEEP    0.7f /* of what was, a second: what is shown is about the last three seconds */
/* Two neighbours together have more than a part: there are at most twice as many, and one. */
#define PARTS ((GW_HEARTBEAT_LOADS_MAX - 1) / 2)

static void add_range(struct gwi_slot_load *load, uint32_t first, uint32_t last, float rate)
{
    if (rate < 0.5f || load->loads == GW_HEARTBEAT_LOADS_MAX)
        return;
    load->load[load->loads++] =
        (struct gw_load){(uint16_t)first, (uint16_t)last,
                         rate >= 4294967040.0f ? UINT32_MAX : (uint32_t)(rate + 0.5f)};
}

static void divide(struct gwi_slot_load *load)
{
    float total = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        total += load->rate[slot];
    float part = total / PARTS, sum = 0;
    uint32_t first = 0, last = 0;
    load->loads = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        if (load->rate[slot] <= 0)
            continue;
        if (sum > 0 && sum + load->rate[slot] > part) {
            add_range(load, first, last, sum);
            sum = 0;
        }
        if (sum == 0)
            first = slot;
        last = slot;
        sum += load->rate[slot];
    }
    add_range(load, first, last, sum);
}

void gwi_slot_load_look(struct gwi_slot_load *load, uint64_t now_ns, gwi_slot_count_cb counts,
                        void *ctx)
{
    if (load->at_ns && now_ns - load->at_ns < LOOK_NS)
        return;
    float seconds = (float)(now_ns - load->at_ns) / 1e9f;
    const struct gwi_slot_count *count;
    memset(load->sum, 0, sizeof load->sum);
    for (uint32_t i = 0; (count = counts(ctx, i)); i++)
        for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
            load->sum[slot] += atomic_load_explicit(&count->operations[slot], memory_order_relaxed);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        float rate = load->at_ns ? (float)(load->sum[slot] - load->seen[slot]) / seconds : 0;
        load->seen[slot] = load->sum[slot];
        rate = KEEP * load->rate[slot] + (1 - KEEP) * rate;
        load->rate[slot] = rate < 0.01f ? 0 : rate; /* forgotten in the end */
    }
    load->at_ns = now_ns ? now_ns : 1;
    divide(load);
}
