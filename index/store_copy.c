/* store_copy.c - moving a record to the tail as it is: promotion, second chance, compaction.
 *
 * Rules (ENGINE H4, H18, rule 24):
 *  1. Conditional: the entry must still be the one from which the caller's walk began, so nothing
 *     newer of this key can be in the chain.
 *  2. A record that may still change in place is sealed first and unsealed if the copy is not
 *     published; below safe_read_only, or in a buffer, it is final.
 *  3. The copy is no change: version, expiry, arrived and value are the same. Its parity says so
 *     too (store_cut.h); so who copies must know the cut above which the copy lies. */
#include "index/cold.h"
#include "index/device.h"
#include "index/store_internal.h"

enum gwi_walk gwi_find_cold(struct gw_thread *t, const struct gw_op *op,
                            struct gwi_position *position, enum gw_status *status)
{
    struct gw_device *device = t->log->device;
    if (device->away && GW_UNLIKELY(gwi_writes_blind(op)) &&
        device->away(device, position->address)) {
        *status = GW_E_UNREACHABLE;
        return GWI_COLD;
    }
    return gwi_cold_find(t, op->hash, op->key, op->key_bytes, gw_addr_of(0), position, status);
}

enum gw_status gwi_copy_to_tail(struct gw_thread *t, const struct gwi_position *position,
                                uint64_t hash, bool reserved)
{
    struct gw_record *from = position->record;
    uint64_t units = gw_record_units(from);
    gw_addr at;
    enum gw_status st = reserved ? gw_log_allocate_reserved(t->log, units, &at)
                                 : gw_log_allocate(t->log, units, &at);
    if (st != GW_OK)
        return st;
    struct gw_record *to = gw_log_at(&t->view, at);
    if (gw_log_cut_is_newer(t->log, &t->view)) { /* a later turn knows it */
        gw_log_void(to, units);
        return GW_NOT_YET;
    }
    /* Acquire: pairs with the last writer's unlock. */
    uint64_t control = atomic_load_explicit(&from->control, memory_order_acquire);
    bool seal = position->address.v >= t->view.safe_read_only;
    if (seal &&
        ((control & (GW_CONTROL_LOCKED | GW_CONTROL_SEALED)) || !gw_record_seal(from, control))) {
        gw_log_void(to, units);
        return GW_RETRY;
    }
    to->link = gw_record_link(units, 0);
    /* Everything behind the header, as words: who reads `from` now reads the same. */
    uint64_t bytes = units * GW_ADDR_UNIT - GW_RECORD_HEADER;
    for (uint64_t i = 0; i < bytes; i += 8)
        gw_store64(to->rest + i, gw_load64(from->rest + i));
    uint64_t stays = control & ~(GW_CONTROL_LOCKED | GW_CONTROL_SEALED | GW_CONTROL_PARITY);
    atomic_store_explicit(&to->control,
                          stays | gwi_copy_parity(&t->view, control, position->address, at),
                          memory_order_relaxed); /* private still */
    if (gw_entry_narrow(position->entry) != gw_addr_narrow(position->address))
        gwi_mark_mixed(t, hash, gw_entry_slot(position->entry), position->entry, at);
    if (!gwi_publish(t, position->place, position->entry, to, at)) {
        gw_log_void(to, units);
        if (seal)
            gw_record_unseal(from, control);
        return GW_RETRY;
    }
    return GW_OK;
}
