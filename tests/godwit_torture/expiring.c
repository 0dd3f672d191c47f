/* expiring.c - see expiring.h. */
#include "tests/godwit_torture/expiring.h"

#include <inttypes.h>
#include <stdio.h>

void torture_expiring_wrote(struct torture_expiring *key, struct torture_life life, bool in_doubt)
{
    if (!in_doubt)
        key->now = life;
    else if (key->doubts_count < TORTURE_DOUBTS_MAX)
        key->doubts[key->doubts_count++] = life;
    else
        key->lost = true;
}

static bool may_be_gone(const struct torture_life *life, uint64_t to_ms)
{
    return life->piece == 0 ||
           (life->expiry_ms != 0 && life->expiry_ms <= to_ms + TORTURE_EXPIRY_SLACK_MS);
}

bool torture_expired_seen(const struct torture_value *value, uint64_t from_ms, char *why,
                          size_t why_bytes)
{
    if (value->expiry_ms == 0 || from_ms <= value->expiry_ms + TORTURE_EXPIRY_SLACK_MS)
        return false;
    snprintf(why, why_bytes, "it ended %" PRIu64 " ms before it was asked for and is still seen",
             from_ms - value->expiry_ms);
    return true;
}

bool torture_expiring_saw(const struct torture_expiring *key, const struct torture_value *value,
                          uint64_t from_ms, uint64_t to_ms, char *why, size_t why_bytes)
{
    if (value && torture_expired_seen(value, from_ms, why, why_bytes))
        return false;
    if (key->lost)
        return true;
    if (value) {
        bool ours = value->last == key->now.piece && value->pieces == 1;
        for (uint32_t i = 0; i < key->doubts_count; i++)
            ours = ours || value->last == key->doubts[i].piece;
        if (!ours)
            snprintf(why, why_bytes,
                     "its only writer's last acknowledged write was %" PRIx64
                     ", what is seen is %" PRIx64,
                     key->now.piece, value->last);
        return ours;
    }
    bool gone = may_be_gone(&key->now, to_ms);
    for (uint32_t i = 0; i < key->doubts_count; i++)
        gone = gone || may_be_gone(&key->doubts[i], to_ms);
    if (!gone)
        snprintf(why, why_bytes,
                 "its only writer wrote %" PRIx64 ", which ends in %" PRId64
                 " ms (0 and less: never), and it is not found",
                 key->now.piece, key->now.expiry_ms ? (int64_t)(key->now.expiry_ms - to_ms) : 0);
    return gone;
}
