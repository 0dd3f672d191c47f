/* tier.c - what tests of the SSD tier share (tier.h). */
#include "tests/support/tier.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/clock.h"

#define WAIT_NS ((uint64_t)20 * 1000000000)

char *tier_dir_make(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = malloc(4096);
    GW_ASSERT(dir);
    snprintf(dir, 4096, "%s/godwit-tier-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    GW_ASSERT(mkdtemp(dir));
    return dir;
}

static uint32_t each_file(const char *dir, const char *suffix, bool remove_it)
{
    char path[8192];
    uint32_t count = 0;
    DIR *d = opendir(dir);
    if (!d)
        return 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        size_t n = strlen(entry->d_name), s = strlen(suffix);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || n < s ||
            strcmp(entry->d_name + n - s, suffix) != 0)
            continue;
        count++;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (remove_it && unlink(path) != 0)
            rmdir(path);
    }
    closedir(d);
    return count;
}

void tier_dir_remove(char *dir)
{
    (void)each_file(dir, "", true);
    GW_ASSERT(rmdir(dir) == 0);
    free(dir);
}

uint32_t tier_dir_count(const char *dir, const char *suffix)
{
    return each_file(dir, suffix, false);
}

uint32_t tier_open_files(void)
{
    return each_file("/proc/self/fd", "", false);
}

uint8_t *tier_room(uint32_t bytes)
{
    uint8_t *room = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    GW_ASSERT(room);
    return room;
}

static uint64_t word_at(uint64_t at)
{
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

void tier_fill(uint8_t *memory, uint32_t bytes, uint64_t at)
{
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = word_at(at + i);
        memcpy(memory + i, &word, 8);
    }
}

bool tier_is_filled(const uint8_t *memory, uint32_t bytes, uint64_t at)
{
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = word_at(at + i);
        if (memcmp(memory + i, &word, 8) != 0)
            return false;
    }
    return true;
}

void tier_noted(void *note, enum gw_status status)
{
    struct tier_note *n = note;
    n->calls++;
    n->status = status;
}

void tier_await(struct gw_device *device, uint32_t queue, const struct tier_note *notes,
                uint32_t count)
{
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + WAIT_NS;
    for (uint32_t i = 0; i < count; i++) {
        while (notes[i].calls == 0) {
            if (device->poll(device, queue) == 0)
                usleep(20);
            GW_ASSERT(gw_clock_now_ns(gw_clock_system()) < end);
        }
    }
    device->poll(device, queue);
    for (uint32_t i = 0; i < count; i++)
        GW_ASSERT(notes[i].calls == 1);
}

enum gw_status tier_write(struct gw_device *device, uint32_t queue, uint64_t at,
                          const uint8_t *page, uint32_t bytes)
{
    struct tier_note note = {0};
    enum gw_status status;
    while ((status = device->write(device, queue, gw_addr_of(at), page, bytes, tier_noted,
                                   &note)) == GW_WOULD_BLOCK)
        device->poll(device, queue);
    if (status != GW_PENDING)
        return status;
    tier_await(device, queue, &note, 1);
    return note.status;
}

enum gw_status tier_read(struct gw_device *device, uint32_t queue, uint64_t at, uint8_t *room,
                         uint32_t bytes)
{
    struct tier_note note = {0};
    enum gw_status status;
    while ((status = device->read(device, queue, gw_addr_of(at), room, bytes, tier_noted, &note)) ==
           GW_WOULD_BLOCK)
        device->poll(device, queue);
    if (status != GW_PENDING)
        return status;
    tier_await(device, queue, &note, 1);
    return note.status;
}
