/* tier_objects.c - which objects our log has in the object store: a sorted array under a lock that
 * is held for a search or a move. The uploader adds and removes, the reader asks. */
#include <stdlib.h>
#include <string.h>

#include "tiering/tier_internal.h"

uint32_t gwi_tier_objects_place(const struct tier_objects *o, uint64_t at)
{
    uint32_t low = 0, high = o->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (o->at[middle].first + o->at[middle].bytes <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum gw_status gwi_tier_objects_add(struct tier_objects *o, struct tier_object object)
{
    enum gw_status status = GW_OK;
    pthread_mutex_lock(&o->lock);
    if (o->count == o->room) {
        uint32_t room = o->room ? 2 * o->room : 64;
        struct tier_object *more = realloc(o->at, room * sizeof *more);
        if (more) {
            o->at = more;
            o->room = room;
        } else {
            status = GW_E_NOMEM;
        }
    }
    if (status == GW_OK) {
        uint32_t place = gwi_tier_objects_place(o, object.first);
        GW_ASSERT(place == o->count || o->at[place].first >= object.first + object.bytes);
        memmove(o->at + place + 1, o->at + place, (o->count - place) * sizeof *o->at);
        o->at[place] = object;
        o->count++;
    }
    pthread_mutex_unlock(&o->lock);
    return status;
}

bool gwi_tier_objects_find(struct tier_objects *o, uint64_t at, struct tier_object *out)
{
    pthread_mutex_lock(&o->lock);
    uint32_t place = gwi_tier_objects_place(o, at);
    bool found = place < o->count && o->at[place].first <= at;
    if (found)
        *out = o->at[place];
    pthread_mutex_unlock(&o->lock);
    return found;
}

void gwi_tier_objects_remove(struct tier_objects *o, uint64_t first, uint32_t incarnation)
{
    pthread_mutex_lock(&o->lock);
    uint32_t place = gwi_tier_objects_place(o, first);
    if (place < o->count && o->at[place].first == first &&
        o->at[place].incarnation == incarnation) {
        memmove(o->at + place, o->at + place + 1, (o->count - place - 1) * sizeof *o->at);
        o->count--;
    }
    pthread_mutex_unlock(&o->lock);
}
