/* test_hash.c - slots are those of Redis Cluster, hashes those of XXH3. */
#include "index/base/hash.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOT(text) gw_key_slot(text, sizeof text - 1)

/* Bit by bit, as the definition has it. */
static uint16_t crc16_slowly(const uint8_t *p, size_t n)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint16_t)(p[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

Test(hash, crc16_has_the_check_value_of_its_definition)
{
    cr_expect_eq(gw_crc16("123456789", 9), 0x31c3);
    cr_expect_eq(gw_crc16("", 0), 0);
    cr_expect_eq(gw_crc16(NULL, 0), 0);
    cr_expect_eq(gw_crc16("A", 1), 0x58e5);
}

Test(hash, crc16_equals_its_definition_at_every_length_and_alignment)
{
    uint8_t bytes[96];
    struct gw_rand r;
    gw_rand_init(&r, 3);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)gw_rand_next(&r);
        for (size_t at = 0; at < 9; at++)
            for (size_t n = 0; at + n <= sizeof bytes; n++)
                cr_assert_eq(gw_crc16(bytes + at, n), crc16_slowly(bytes + at, n),
                             "offset %zu, %zu bytes", at, n);
    }
}

/* What `CLUSTER KEYSLOT` of a Redis server says. */
Test(hash, slots_are_those_of_redis)
{
    cr_expect_eq(SLOT("foo"), 12182);
    cr_expect_eq(SLOT("bar"), 5061);
    cr_expect_eq(SLOT("hello"), 866);
    cr_expect_eq(SLOT("123456789"), 0x31c3 & 16383);
    cr_expect_eq(SLOT("somekey"), 11058);
    cr_expect_eq(gw_key_slot(NULL, 0), 0);
}

Test(hash, a_hash_tag_alone_decides_the_slot)
{
    cr_expect_eq(SLOT("{user1000}.following"), SLOT("user1000"));
    cr_expect_eq(SLOT("{user1000}.followers"), SLOT("user1000"));
    cr_expect_eq(SLOT("a{foo}"), SLOT("foo"));
    cr_expect_eq(SLOT("foo{bar}{zap}"), SLOT("bar"), "the first tag counts");
    cr_expect_eq(SLOT("foo{{bar}}zap"), SLOT("{bar"), "up to the first closing brace");
    cr_expect_eq(SLOT("}{foo}"), SLOT("foo"), "a closing brace before the tag is no end");
    cr_expect_eq(SLOT("{123456}"), SLOT("123456"), "a key of eight bytes too");
    cr_expect_eq(SLOT("12345{7}"), SLOT("7"));
    cr_expect_eq(gw_key_slot("x{\0}y", 5), gw_key_slot("\0", 1), "zero bytes are bytes");
}

Test(hash, what_is_no_hash_tag_is_hashed_whole)
{
    static const char *const keys[] = {
        "foo{}{bar}", "{}",       "{",        "}",        "foo{bar",  "foo}bar",
        "foo}bar{",   "{1234567", "1234567{", "1234567}", "12345{}7", "{}345678",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t n = strlen(keys[i]);
        cr_expect_eq(gw_key_slot(keys[i], n), gw_crc16(keys[i], n) % GW_SLOTS, "%s", keys[i]);
    }
}

/* Goal: the short cut for short keys sees every brace. How: against the rule written plainly, over
 * bytes around the brace, among them those that a careless zero-byte test confuses. */
Test(hash, keys_of_every_short_length_take_the_tag_rule)
{
    static const uint8_t alphabet[] = {'{', '}', 0x7a, 0x7c, 0xfb, 0, 0x80, 'a'};
    struct gw_rand r;
    gw_rand_init(&r, 4);
    for (int round = 0; round < 400000; round++) {
        uint8_t key[20];
        size_t n = gw_rand_below(&r, sizeof key + 1), from = 0, len = n;
        /* Few braces too, so that a single one stands at every place. */
        uint64_t letters = gw_rand_below(&r, 2) ? sizeof alphabet : 40;
        for (size_t i = 0; i < n; i++) {
            uint64_t letter = gw_rand_below(&r, letters);
            key[i] = letter < sizeof alphabet ? alphabet[letter] : 'b';
        }
        const uint8_t *open = memchr(key, '{', n);
        if (open) {
            size_t at = (size_t)(open + 1 - key);
            const uint8_t *close = memchr(key + at, '}', n - at);
            if (close && close > key + at) {
                from = at;
                len = (size_t)(close - key) - at;
            }
        }
        cr_assert_eq(gw_key_slot(key, n), crc16_slowly(key + from, len) % GW_SLOTS);
    }
}

Test(hash, slots_of_counting_keys_spread_evenly)
{
    static uint32_t seen[GW_SLOTS];
    for (uint64_t key = 0; key < 64 * GW_SLOTS; key++)
        seen[gw_key_slot(&key, sizeof key)]++;
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        cr_assert(seen[i] > 0 && seen[i] < 256, "slot %u: %u", i, seen[i]);
}

Test(hash, the_key_hash_is_seeded_xxh3)
{
    cr_expect_eq(gw_key_hash("", 0, 0), 0x2d06800538d394c2u, "XXH3_64bits of nothing");
    cr_expect_eq(gw_key_hash(NULL, 0, 0), 0x2d06800538d394c2u);
    cr_expect_neq(gw_key_hash("foo", 3, 1), gw_key_hash("foo", 3, 2), "the seed counts");
    cr_expect_neq(gw_key_hash("foo", 3, 1), gw_key_hash("foa", 3, 1));
    char *large = malloc(65535);
    cr_assert(large);
    memset(large, 'x', 65535);
    uint64_t before = gw_key_hash(large, 65535, 1);
    large[65534] = 'y';
    cr_expect_neq(gw_key_hash(large, 65535, 1), before, "the last byte counts");
    free(large);
}

Test(hash, the_key_hash_equals_the_library_at_every_length_and_seed)
{
    uint8_t bytes[300];
    struct gw_rand r;
    gw_rand_init(&r, 5);
    for (int round = 0; round < 200; round++) {
        uint64_t seed = round ? gw_rand_next(&r) : 0;
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)gw_rand_next(&r);
        for (size_t n = 0; n < sizeof bytes; n++)
            cr_assert_eq(gw_key_hash(bytes, n, seed), XXH3_64bits_withSeed(bytes, n, seed),
                         "%zu bytes, seed %llx", n, (unsigned long long)seed);
    }
}
