/* view.c - builds views; see view.h. */
#include "server/view.h"

#include <stdlib.h>

struct gwi_view *gwi_view_create(struct gw_map *map, const char *self_id)
{
    struct gwi_view *v = map ? calloc(1, sizeof *v) : NULL;
    if (!v)
        goto fail_view;
    size_t room = gw_map_wire_bytes(map);
    v->map_wire = malloc(room);
    if (!v->map_wire)
        goto fail_wire;
    struct gw_writer w = gw_writer_of(v->map_wire, room);
    gw_map_encode(map, &w);
    if (w.bad)
        goto fail_encode;
    v->map_wire_bytes = gw_writer_used(&w);
    v->map = map;
    int self = gw_map_find(map, self_id);
    v->self = self < 0 ? GW_NO_SERVER : (uint32_t)self;
    v->number = self < 0 ? 0 : map->server[self].view;
    for (uint32_t s = 0; self >= 0 && s < GW_SLOTS; s++)
        v->state[s] = map->owner[s] == v->self ? GWI_SLOT_OWNED : GWI_SLOT_FOREIGN;
    return v;

fail_encode:
    free(v->map_wire);
fail_wire:
    free(v);
fail_view:
    gw_map_destroy(map);
    return NULL;
}

void gwi_view_destroy(struct gwi_view *v)
{
    if (!v)
        return;
    gw_map_destroy(v->map);
    free(v->map_wire);
    free(v);
}
