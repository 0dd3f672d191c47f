/* durable.c - what the server's parts ask about durability; see durable.h.
 *
 * A ticket is a position, and says by its top bit of which kind: the number of a checkpoint, or a
 * round of the commit logs. */
#include "server/durable.h"

#include "index/store_cut.h"
#include "server/checkpoint.h"
#include "server/server.h"
#include "server/session_image.h"

#define TICKET_CHECKPOINT (UINT64_C(1) << 63)

uint64_t gwi_secure_begin(struct gwi_server *s, enum gwi_secure what)
{
    if (s->durable.mode == GWI_DURABILITY_NONE)
        return 0;
    if (s->durable.mode == GWI_DURABILITY_COMMIT && what == GWI_SECURE_EXECUTED)
        return gwi_commit_ticket(s);
    /* Dispatchers are in this interval or on their way to it: what was executed so far, and what
     * lies in the log, is in its checkpoint. */
    return gwi_checkpoint_ask(s) | TICKET_CHECKPOINT;
}

bool gwi_secure_done(struct gwi_server *s, uint64_t ticket)
{
    struct gwi_durable *d = &s->durable;
    if (ticket == 0)
        return true;
    if (atomic_load(&d->failed) != GW_OK)
        return false; /* never: the server ends */
    if (ticket & TICKET_CHECKPOINT)
        return atomic_load(&d->checkpointed) >= (ticket & ~TICKET_CHECKPOINT);
    /* Before the look: a rise behind it wakes us. */
    atomic_store(&d->control_waits, true);
    return gwi_commit_durable(s) >= ticket;
}

uint64_t gwi_durable_position(const struct gwi_server *s)
{
    return s->durable.mode == GWI_DURABILITY_COMMIT ? gwi_commit_durable(s)
                                                    : atomic_load(&s->durable.checkpointed);
}

void gwi_durable_hurry(struct gwi_server *s)
{
    /* Commit logs are flushed as fast as the device allows, whoever asks. */
    if (s->durable.mode == GWI_DURABILITY_MEMORY)
        (void)gwi_checkpoint_ask(s);
}

void gwi_durable_cross(void *dispatcher, uint64_t number)
{
    struct gwi_dispatcher *d = dispatcher;
    gwi_session_image_open(&d->sessions, number - 1);
    if (d->server->durable.mode == GWI_DURABILITY_COMMIT)
        gwi_commit_cross(d, number);
}

bool gwi_session_image_turn(struct gwi_dispatcher *d)
{
    struct gwi_session_image *image = &d->sessions.image;
    if (GW_LIKELY(!image->open))
        return false;
    if (!gwi_session_image_copy(&d->sessions, GWI_IMAGE_PORTION))
        return true;
    uint64_t number = image->number;
    /* Until all have crossed the engine may call us back for this number (store_cut.h). */
    if (!gwi_checkpoint_crossed(d->server, number))
        return false;
    uint8_t *bytes = NULL;
    size_t n = 0;
    uint32_t sessions = 0;
    enum gw_status st = gwi_session_image_fetch(&d->sessions, &bytes, &n, &sessions);
    gwi_checkpoint_sessions(d->server, d->index, number, st, bytes, n, sessions);
    return false;
}
