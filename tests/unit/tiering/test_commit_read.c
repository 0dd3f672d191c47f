/* Goal: whatever happens to the files of a commit log, it is refused with the name of the file, or,
 * if it looks like the last write of a process that died, cut off there; never is anything read
 * that was not written, or left out that later blocks say was durable.
 * How: a log of three files, 18 entries, each a flush of its own; one damage at a time, undone
 * afterwards. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "tests/support/commit_log.h"
#include "tests/support/tier.h"
#include "tiering/commit_format.h"

#define BLOCKS     7u /* in a file */
#define UNIT       4096u
#define FILE_BYTES ((BLOCKS + 2) * UNIT)
#define ENTRIES    18u
#define LAST_FILE  2u
#define SEAL       (BLOCKS * UNIT)
#define FOOT       ((BLOCKS + 1) * UNIT)

static char *dir;
static uint8_t good[3][FILE_BYTES];
static struct commit_seen seen;

/* Path of file 0, 1 or 2. */
static const char *path_of(const char *in, uint32_t file)
{
    static char path[2][4200];
    static uint32_t turn;
    char *p = path[turn++ & 1];
    snprintf(p, sizeof path[0], "%s/c0-3-%u.gwl", in, 1 + file * BLOCKS);
    return p;
}
static const char *name_of(uint32_t file)
{
    return strrchr(path_of(dir, file), '/') + 1;
}

static void load(const char *path, uint8_t *bytes)
{
    FILE *f = fopen(path, "r");
    cr_assert(f && fread(bytes, FILE_BYTES, 1, f) == 1, "%s", path);
    fclose(f);
}
static void store(const char *path, const uint8_t *bytes, size_t n)
{
    FILE *f = fopen(path, "w");
    cr_assert(f && (n == 0 || fwrite(bytes, n, 1, f) == 1) && fclose(f) == 0, "%s", path);
}
static void restore(void)
{
    for (uint32_t i = 0; i <= LAST_FILE; i++)
        store(path_of(dir, i), good[i], FILE_BYTES);
}

/* Intervals: entries 1 to 4: 1, to 8: 2 ... */
static void write_log(const char *in, uint64_t store_id, uint16_t dispatcher)
{
    char error[GW_COMMIT_TEXT_BYTES];
    struct gw_commit *log;
    struct gw_commit_options options = commit_options(in, dispatcher, 3, FILE_BYTES);
    options.store_id = store_id;
    cr_assert_eq(gw_commit_open(&options, &log, error), GW_OK, "%s", error);
    for (uint64_t n = 1; n <= ENTRIES; n++) {
        uint64_t interval = (n + 3) / 4;
        cr_assert_eq(commit_append(log, n, 0), GW_OK);
        cr_assert_eq(commit_flush_whole(log, interval, interval + 100), GW_OK);
    }
    gw_commit_close(log);
}

static void setup(void)
{
    dir = tier_dir_make();
    write_log(dir, COMMIT_STORE, 0);
    for (uint32_t i = 0; i <= LAST_FILE; i++)
        load(path_of(dir, i), good[i]);
    commit_see(dir, 0, false, &seen);
    cr_assert(seen.status == GW_OK && seen.last == ENTRIES && !seen.wrong);
}
static void teardown(void)
{
    tier_dir_remove(dir);
}

static void expect_refused(const char *what, enum gw_status status, const char *name)
{
    commit_see(dir, 0, false, &seen);
    cr_expect_eq(seen.status, status, "%s: %s: %s", what, gw_status_name(seen.status), seen.error);
    cr_expect(strstr(seen.error, name), "%s: %s does not name %s", what, seen.error, name);
}

static void expect_cut(const char *what, uint64_t last)
{
    commit_see(dir, 0, false, &seen);
    cr_expect_eq(seen.status, GW_OK, "%s: %s", what, seen.error);
    cr_expect_eq(seen.last, last, "%s: %lu", what, seen.last);
    cr_expect(!seen.wrong, "%s", what);
}

/* Flips one bit; the last block's damage is a torn tail, all else is corruption. */
static void flip(uint32_t file, uint32_t at, uint32_t bit)
{
    char what[64];
    uint8_t bytes[FILE_BYTES];
    memcpy(bytes, good[file], FILE_BYTES);
    bytes[at] ^= (uint8_t)(1u << bit);
    store(path_of(dir, file), bytes, FILE_BYTES);
    snprintf(what, sizeof what, "file %u byte %u bit %u", file, at, bit);
    uint32_t block = file * BLOCKS + at / UNIT + 1;
    if (at >= FOOT)
        expect_refused(what, GW_E_CORRUPT, name_of(file));
    else if (at >= SEAL || block > ENTRIES)
        expect_cut(what, ENTRIES); /* nobody needs it */
    else if (block == ENTRIES)
        expect_cut(what, ENTRIES - 1);
    else
        expect_refused(what, GW_E_CORRUPT, name_of(file));
}

Test(commit_read, a_flipped_bit_anywhere, .init = setup, .fini = teardown)
{
    for (uint32_t file = 0; file <= LAST_FILE; file++) {
        for (uint32_t unit = 0; unit < BLOCKS + 2; unit++) {
            uint32_t used = GW_COMMIT_BLOCK_HEADER;
            if (unit < BLOCKS)
                used += gw_load32(good[file] + unit * UNIT + GWI_BLOCK_PAYLOAD);
            for (uint32_t at = 0; at < GW_COMMIT_BLOCK_HEADER; at += unit % 3 == 0 ? 1 : 5)
                flip(file, unit * UNIT + at, (at + unit) % 8);
            for (uint32_t at = GW_COMMIT_BLOCK_HEADER; at < used; at += 13)
                flip(file, unit * UNIT + at, at % 8);
            flip(file, unit * UNIT + used, 3);     /* padding */
            flip(file, unit * UNIT + UNIT - 1, 7); /* its end */
        }
        restore();
    }
}

Test(commit_read, a_file_cut_short, .init = setup, .fini = teardown)
{
    for (uint32_t file = 0; file <= LAST_FILE; file++) {
        for (uint32_t bytes = 0; bytes < FILE_BYTES; bytes += bytes % UNIT ? UNIT - 100 : 100) {
            char what[64];
            snprintf(what, sizeof what, "file %u cut to %u", file, bytes);
            store(path_of(dir, file), good[file], bytes);
            expect_refused(what, GW_E_CORRUPT, name_of(file));
        }
        restore();
    }
}

Test(commit_read, a_missing_file_is_named, .init = setup, .fini = teardown)
{
    for (uint32_t file = 0; file <= LAST_FILE; file++) {
        cr_assert_eq(unlink(path_of(dir, file)), 0);
        expect_refused("missing", GW_E_CORRUPT, name_of(file));
        restore();
    }
    /* Of the first one, nobody needs interval 1; but interval 2 begins in it. */
    cr_assert_eq(unlink(path_of(dir, 0)), 0);
    commit_see(dir, 1, false, &seen);
    cr_expect_eq(seen.status, GW_E_CORRUPT);
    commit_see(dir, 2, false, &seen);
    cr_expect_eq(seen.status, GW_OK, "%s", seen.error);
    cr_expect(seen.first == 9 && seen.last == ENTRIES && !seen.wrong);
    restore();
    cr_assert_eq(unlink(path_of(dir, 1)), 0); /* with 8 to 14: to the second block of interval 4 */
    commit_see(dir, 4, false, &seen);
    cr_expect_eq(seen.status, GW_OK, "%s", seen.error);
    cr_expect_eq(seen.first, 17);
    commit_see(dir, 3, false, &seen);
    cr_expect_eq(seen.status, GW_E_CORRUPT, "13 and 14 are of interval 4");
}

Test(commit_read, a_file_under_the_name_of_another, .init = setup, .fini = teardown)
{
    for (uint32_t from = 0; from <= LAST_FILE; from++)
        for (uint32_t to = 0; to <= LAST_FILE; to++) {
            if (from == to)
                continue;
            char what[64];
            snprintf(what, sizeof what, "%u as %u", from, to);
            store(path_of(dir, to), good[from], FILE_BYTES); /* there twice */
            expect_refused(what, GW_E_CORRUPT, "c0-3-");
            store(path_of(dir, from), good[to], FILE_BYTES); /* swapped */
            expect_refused(what, GW_E_CORRUPT, "c0-3-");
            restore();
        }
    char path[4200];
    snprintf(path, sizeof path, "%s/c1-3-1.gwl", dir);
    store(path, good[0], FILE_BYTES);
    expect_refused("another dispatcher", GW_E_CORRUPT, "c1-3-1.gwl");
    unlink(path);
    snprintf(path, sizeof path, "%s/c0-4-1.gwl", dir);
    store(path, good[0], FILE_BYTES);
    expect_refused("another incarnation", GW_E_CORRUPT, "c0-4-1.gwl");
}

Test(commit_read, files_of_others, .init = setup, .fini = teardown)
{
    static uint8_t bytes[FILE_BYTES];
    char path[4200];
    char *other = tier_dir_make();
    write_log(other, COMMIT_STORE + 1, 0);
    load(path_of(other, 1), bytes);
    tier_dir_remove(other);
    store(path_of(dir, 1), bytes, FILE_BYTES);
    expect_refused("another store", GW_E_REFUSED, name_of(1));
    restore();
    memcpy(bytes, good[1], FILE_BYTES); /* a foot of this store, blocks of another */
    struct gw_commit_block header;
    gwi_commit_block_read(bytes, &header);
    header.store_id++;
    gwi_commit_block_seal(bytes, &header);
    store(path_of(dir, 1), bytes, FILE_BYTES);
    expect_refused("a block of another store", GW_E_REFUSED, name_of(1));
    restore();

    static const char *const names[] = {"c0-3-01.gwl", "c0-3-1.gwl.bak", "c0-3.gwl",
                                        "notes",       "c0-3--1.gwl",    "c70000-3-1.gwl"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        store(path, good[0], FILE_BYTES);
        expect_refused("unknown", GW_E_REFUSED, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/spare-0-3-9.gwl", dir);
    store(path, good[0], 100);
    expect_cut("made ahead", ENTRIES);
    unlink(path);
    snprintf(path, sizeof path, "%s/c0-4-1.gwl", dir);
    cr_assert_eq(mkdir(path, 0777), 0);
    expect_refused("a directory", GW_E_IO, "c0-4-1.gwl");
    rmdir(path);
}

Test(commit_read, another_format, .init = setup, .fini = teardown)
{
    static uint8_t bytes[FILE_BYTES];
    memcpy(bytes, good[0], FILE_BYTES);
    uint8_t *foot = bytes + FOOT;
    gw_store16(foot + 4, 2);
    gw_store32(foot + 60, gw_crc32c(0, foot, 60));
    store(path_of(dir, 0), bytes, FILE_BYTES);
    expect_refused("format 2", GW_E_VERSION, name_of(0));
}

Test(commit_read, a_torn_tail_is_cut_off_and_counted, .init = setup, .fini = teardown)
{
    static uint8_t bytes[FILE_BYTES];
    uint32_t at = (ENTRIES - 1) % BLOCKS * UNIT;
    memcpy(bytes, good[LAST_FILE], FILE_BYTES);
    memset(bytes + at + 100, 0, UNIT - 100);
    store(path_of(dir, LAST_FILE), bytes, FILE_BYTES);
    expect_cut("some bytes", ENTRIES - 1);
    cr_expect_eq(seen.torn_bytes, UNIT);
    memset(bytes + at, 0, UNIT);
    store(path_of(dir, LAST_FILE), bytes, FILE_BYTES);
    expect_cut("nothing", ENTRIES - 1);
    cr_expect_eq(seen.torn_bytes, 0);
    /* Two blocks of one flush, of which the second came. */
    struct gw_commit_block header;
    memcpy(bytes, good[LAST_FILE], FILE_BYTES);
    gwi_commit_block_read(bytes + at, &header);
    header.durable_sequence--;
    gwi_commit_block_seal(bytes + at, &header);
    memset(bytes + at - UNIT, 0, UNIT);
    store(path_of(dir, LAST_FILE), bytes, FILE_BYTES);
    expect_cut("the first of two", ENTRIES - 2);
    cr_expect_eq(seen.torn_bytes, UNIT, "%lu", seen.torn_bytes);
}

Test(commit_read, salvage_keeps_what_lies_in_front_of_the_damage, .init = setup, .fini = teardown)
{
    static uint8_t bytes[FILE_BYTES];
    memcpy(bytes, good[1], FILE_BYTES);
    bytes[2 * UNIT + 70] ^= 1; /* block 10 */
    store(path_of(dir, 1), bytes, FILE_BYTES);
    commit_see(dir, 0, true, &seen);
    cr_expect_eq(seen.status, GW_OK);
    cr_expect(seen.first == 1 && seen.last == 9 && !seen.wrong);
    cr_expect_geq(seen.torn_bytes, 8 * UNIT);
    cr_expect(strstr(seen.error, name_of(1)), "%s", seen.error);
    cr_expect_eq(seen.interval_last, 5, "the next checkpoint must lie behind it");
    restore();
    store(path_of(dir, 2), good[2], 100);
    commit_see(dir, 0, true, &seen);
    cr_expect(seen.status == GW_OK && seen.last == 14, "%s", seen.error);
    restore();
    cr_assert_eq(unlink(path_of(dir, 0)), 0);
    commit_see(dir, 0, true, &seen);
    cr_expect(seen.status == GW_OK && seen.count == 0, "%s", seen.error);
    restore();
    commit_see(dir, 0, true, &seen);
    cr_expect(seen.status == GW_OK && seen.last == ENTRIES && seen.error[0] == 0);
}

Test(commit_read, a_removal_that_is_cut_short_leaves_a_log, .init = setup, .fini = teardown)
{
    static const uint32_t order[] = {0, 2, 1};
    uint32_t removed = 0;
    uint8_t zeros[UNIT] = {0}, bytes[FILE_BYTES];
    cr_assert_eq(unlink(path_of(dir, order[0])), 0);
    commit_see(dir, 5, false, &seen);
    cr_expect(seen.status == GW_OK && seen.count == 0, "%s", seen.error);
    memcpy(bytes, good[1], FILE_BYTES);
    memcpy(bytes + SEAL, zeros, UNIT);
    store(path_of(dir, 1), bytes, FILE_BYTES);
    cr_assert_eq(unlink(path_of(dir, order[1])), 0);
    commit_see(dir, 5, false, &seen);
    cr_expect(seen.status == GW_OK && seen.count == 0, "%s", seen.error);
    restore();
    cr_expect_eq(gw_commit_logs_remove(dir, COMMIT_STORE, 5, 9, &removed), GW_OK);
    cr_expect_eq(removed, 3);
    commit_see(dir, 0, false, &seen);
    cr_expect(seen.status == GW_OK && seen.logs == 0);
}
