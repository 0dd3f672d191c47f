/* frame_internal.h - starting and finishing the frames of a job; for the files of this folder. */
#ifndef GW_MIGRATION_FRAME_INTERNAL_H
#define GW_MIGRATION_FRAME_INTERNAL_H

#include "client/wire/frame.h"

/* A writer of the body; the header's room is kept free before it. */
static inline struct gw_writer gwi_frame_start(uint8_t *room, size_t room_bytes)
{
    struct gw_writer w = gw_writer_of(room, room_bytes);
    (void)gw_write_room(&w, GW_FRAME_HEADER);
    return w;
}

/* Writes the header before the finished body; returns the frame's bytes, 0: the room did not
 * suffice. */
static inline size_t gwi_frame_finish(struct gw_writer *w, struct gw_frame f)
{
    if (w->bad)
        return 0;
    f.bytes = (uint32_t)gw_writer_used(w);
    gw_frame_encode(&f, w->start);
    return f.bytes;
}
#endif
