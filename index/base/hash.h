/* hash.h - the two hashes of a key: where it lies (XXH3, seeded) and who owns it (CRC16 slot).
 * `slot = CRC16-XMODEM(key) & 16383` with Redis Cluster's {hash tag} rule: if the key holds a '{'
 * and, behind it, a '}' with at least one byte between, only those bytes are hashed (Redis Cluster
 * specification, "Hash tags"). `hash = XXH3_64bits_withSeed(key, seed)`, seed made with the
 * cluster (ENGINE H16). Any thread. Layer: base. */
#ifndef GW_INDEX_BASE_HASH_H
#define GW_INDEX_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define GW_SLOTS 16384u

uint16_t gw_crc16(const void *bytes, size_t n);
uint16_t gw_key_slot(const void *key, size_t key_bytes);
uint64_t gw_key_hash(const void *key, size_t key_bytes, uint64_t seed);
#endif
