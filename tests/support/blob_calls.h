/* blob_calls.h - calls of an object store's client (tiering/blob.h) that wait for their callback.
 */
#ifndef GW_TESTS_SUPPORT_BLOB_CALLS_H
#define GW_TESTS_SUPPORT_BLOB_CALLS_H

#include <stdatomic.h>

#include "tiering/blob.h"

#define BLOB_NONE UINT64_C(0) /* deadline: the default */
#define BLOB_MS   UINT64_C(1000000)

/* One call. */
struct blob_note {
    _Atomic uint32_t calls; /* of the callback: must end at 1 */
    enum gw_status status;
    uint8_t *data; /* owned: blob_note_fini */
    size_t bytes;
    uint64_t ended_ns;
};

void blob_noted(void *note, enum gw_status status, const uint8_t *data, size_t bytes);
/* Aborts when it does not come within a minute. */
void blob_await(struct blob_note *note);
void blob_note_fini(struct blob_note *note);

/* Submit and wait. A status of the submission is given as it is. */
enum gw_status blob_put(struct gw_blob *blob, const char *name, const void *data, size_t bytes,
                        uint64_t deadline_ns);
enum gw_status blob_get(struct gw_blob *blob, const char *name, uint64_t offset, size_t bytes,
                        uint64_t deadline_ns, struct blob_note *note);
enum gw_status blob_delete(struct gw_blob *blob, const char *name, uint64_t deadline_ns);
/* One list call, as "name=size name=size ". */
enum gw_status blob_list(struct gw_blob *blob, const char *prefix, const char *after,
                         uint64_t deadline_ns, char *room, size_t room_bytes, uint32_t *count);

/* n bytes made of a seed, to be freed. */
uint8_t *blob_bytes(size_t n, uint64_t seed);
#endif
