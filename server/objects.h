/* objects.h - an object store for whoever may wait: the offline verbs, and clearing away what a
 * server left that is gone. What the tier itself does is not here. One thread a handle.
 * Layer: server. */
#ifndef GW_SERVER_OBJECTS_H
#define GW_SERVER_OBJECTS_H

#include "tiering/object.h"
#include "tiering/tier.h"

#define GWI_OBJECTS_PREFIX_BYTES (GW_BLOB_NAME_MAX + 1)

struct gwi_objects;

/* As gw_blob_open. `error`: GW_BLOB_TEXT_BYTES. */
GW_MUST_USE enum gw_status gwi_objects_open(const char *url, struct gwi_objects **out, char *error);
void gwi_objects_close(struct gwi_objects *objects); /* NULL is ignored */
/* What went wrong last, in words; "": nothing. Good until the next call. */
const char *gwi_objects_trouble(struct gwi_objects *objects);

/* "CLUSTER/STORE/": what the names of a log's objects begin with (tier.h). */
void gwi_objects_prefix(uint64_t cluster, uint64_t store_id, char room[GWI_OBJECTS_PREFIX_BYTES]);
/* The numbers of a name; false: it is not an extent's. */
bool gwi_objects_name_read(const char *name, uint64_t *address, uint32_t *incarnation);

/* Calls fn for every object with that prefix, in order; fn returning false ends it (GW_OK). Others
 * as gw_blob_list. */
typedef bool (*gwi_objects_cb)(void *ctx, const char *name, uint64_t bytes);
GW_MUST_USE enum gw_status gwi_objects_each(struct gwi_objects *objects, const char *prefix,
                                            gwi_objects_cb fn, void *ctx);
/* The whole object, from malloc. As gw_blob_get. */
GW_MUST_USE enum gw_status gwi_objects_get(struct gwi_objects *objects, const char *name,
                                           uint8_t **bytes, size_t *n);
GW_MUST_USE enum gw_status gwi_objects_delete(struct gwi_objects *objects, const char *name);

/* Reads an extent whole and checks header, index and every frame. NULL: all of it is as it was
 * written, *head filled in; else what is wrong (room: 128 bytes). */
const char *gwi_objects_check(const uint8_t *bytes, size_t n, struct gw_object_head *head,
                              char *room);
#endif
