/* Goal: the device that stands in for a disk in the engine's tests gives what index/device.h says:
 * bytes back, completions late and out of order, failures as ordered, room taken and given back. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ram_device.h"

#define PAGE 65536u

struct note {
    uint32_t calls, order;
    enum gw_status status;
};

static uint32_t sequence;
static uint8_t *page_room, *block_room;

static void note_cb(void *arg, enum gw_status status)
{
    struct note *n = arg;
    n->calls++;
    n->status = status;
    n->order = sequence++;
}

static struct gw_ram_device *ram;
static struct gw_device *device;

static void start(struct gw_ram_device_options options)
{
    ram = gw_ram_device_create(&options);
    device = gw_ram_device_face(ram);
    page_room = aligned_alloc(GW_DEVICE_BLOCK, PAGE);
    block_room = aligned_alloc(GW_DEVICE_BLOCK, 64 * GW_DEVICE_BLOCK);
}

static void stop(void)
{
    gw_ram_device_destroy(ram);
    free(page_room);
    free(block_room);
}

/* Block k of page p holds the bytes p * 16 + k. */
static enum gw_status write_page(uint64_t page)
{
    struct note n = {0};
    for (uint32_t k = 0; k < PAGE / GW_DEVICE_BLOCK; k++)
        memset(page_room + k * GW_DEVICE_BLOCK, (int)(page * 16 + k), GW_DEVICE_BLOCK);
    enum gw_status status =
        device->write(device, 0, gw_addr_of(page * PAGE), page_room, PAGE, note_cb, &n);
    if (status != GW_PENDING)
        return status;
    for (uint32_t polls = 0; n.calls == 0 && polls < 100; polls++)
        device->poll(device, 0);
    cr_assert_eq(n.calls, 1);
    return n.status;
}

static enum gw_status read_block(uint64_t at)
{
    struct note n = {0};
    enum gw_status status =
        device->read(device, 1, gw_addr_of(at), block_room, GW_DEVICE_BLOCK, note_cb, &n);
    if (status != GW_PENDING)
        return status;
    for (uint32_t polls = 0; n.calls == 0 && polls < 100; polls++)
        device->poll(device, 1);
    cr_assert_eq(n.calls, 1);
    return n.status;
}

Test(ram_device, gives_back_what_was_written)
{
    start((struct gw_ram_device_options){.delay_polls_max = 3});
    for (uint64_t p = 12; p-- > 0;) /* any order, the highest first */
        cr_assert_eq(write_page(p), GW_OK);
    for (uint64_t p = 0; p < 12; p++)
        for (uint32_t k = 0; k < 16; k++) {
            cr_assert_eq(read_block(p * PAGE + k * GW_DEVICE_BLOCK), GW_OK);
            cr_assert_eq(block_room[0], (uint8_t)(p * 16 + k));
            cr_assert_eq(block_room[4095], (uint8_t)(p * 16 + k));
        }
    cr_expect_eq(read_block(12 * PAGE), GW_NOT_FOUND);
    cr_expect_eq(gw_ram_device_pages(ram), 12);
    stop();
}

Test(ram_device, completes_late_and_out_of_order)
{
    start((struct gw_ram_device_options){.delay_polls_max = 20, .depth = 64, .seed = 3});
    cr_assert_eq(write_page(0), GW_OK);
    struct note notes[64] = {0};
    sequence = 0;
    for (uint32_t i = 0; i < 64; i++)
        cr_assert_eq(device->read(device, 1, gw_addr_of(0), block_room + i * GW_DEVICE_BLOCK,
                                  GW_DEVICE_BLOCK, note_cb, &notes[i]),
                     GW_PENDING);
    cr_expect_eq(device->read(device, 1, gw_addr_of(0), block_room, GW_DEVICE_BLOCK, note_cb, NULL),
                 GW_WOULD_BLOCK);
    cr_expect_eq(block_room[0], 0xEE, "the bytes must not be there yet");
    uint32_t polls = 0, inversions = 0;
    struct pollfd fd = {.fd = device->wait_fd(device, 1), .events = POLLIN};
    for (uint32_t done = 0; done < 64; polls++) {
        cr_assert_eq(poll(&fd, 1, 0), 1, "would sleep for ever");
        done += device->poll(device, 1);
    }
    cr_expect_eq(poll(&fd, 1, 0), 0, "nothing is due any more");
    for (uint32_t i = 0; i < 64; i++) {
        cr_expect_eq(notes[i].calls, 1);
        cr_expect_eq(notes[i].status, GW_OK);
        inversions += i > 0 && notes[i].order < notes[i - 1].order;
    }
    cr_expect_gt(polls, 10);
    cr_expect_gt(inversions, 10);
    stop();
}

Test(ram_device, fails_as_ordered_and_a_failed_write_is_taken_again)
{
    start((struct gw_ram_device_options){0});
    gw_ram_device_fail(ram, GW_RAM_WRITE, 1, 2, GW_E_IO);
    cr_expect_eq(write_page(0), GW_OK);
    cr_expect_eq(write_page(1), GW_E_IO);
    cr_expect_eq(read_block(PAGE), GW_NOT_FOUND);
    cr_expect_eq(write_page(1), GW_E_IO);
    cr_expect_eq(write_page(1), GW_OK);
    gw_ram_device_fail(ram, GW_RAM_WRITE, 0, 1, GW_E_FULL);
    cr_expect_eq(write_page(2), GW_E_FULL);
    gw_ram_device_fail(ram, GW_RAM_READ, 0, 1, GW_E_CORRUPT);
    cr_expect_eq(read_block(PAGE), GW_E_CORRUPT);
    cr_expect_eq(read_block(PAGE), GW_OK);
    cr_assert(gw_ram_device_flip(ram, gw_addr_of(PAGE + 4096), 77));
    cr_expect_eq(read_block(PAGE + 4096), GW_E_CORRUPT);
    cr_expect_eq(read_block(PAGE + 8192), GW_OK);
    gw_ram_device_break(ram);
    cr_expect_eq(read_block(PAGE), GW_E_IO);
    struct gw_device_usage usage;
    device->usage(device, &usage);
    cr_expect_eq(usage.failed_writes, 2);
    cr_expect_eq(usage.corrupt_blocks, 2);
    stop();
}

Test(ram_device, takes_room_by_segments_and_gives_it_back_by_trim)
{
    uint64_t file = 4096 + 2 * (4096 + PAGE);
    start((struct gw_ram_device_options){.segment_bytes = 2 * PAGE, .limit_bytes = 2 * file});
    for (uint64_t p = 0; p < 4; p++)
        cr_expect_eq(write_page(p), GW_OK);
    cr_expect_eq(write_page(4), GW_E_FULL);
    device->trim(device, gw_addr_of(PAGE)); /* half a segment: unreadable, but no room */
    cr_expect_eq(read_block(0), GW_NOT_FOUND);
    cr_expect_eq(read_block(PAGE), GW_OK);
    cr_expect_eq(write_page(4), GW_E_FULL);
    device->trim(device, gw_addr_of(2 * PAGE));
    cr_expect_eq(write_page(4), GW_OK);
    cr_expect_eq(read_block(2 * PAGE), GW_OK);
    struct gw_device_usage usage;
    device->usage(device, &usage);
    cr_expect_eq(usage.used_bytes, 2 * file);
    stop();
}

Test(ram_device, a_read_whose_page_is_trimmed_meanwhile_is_not_found)
{
    start((struct gw_ram_device_options){.segment_bytes = PAGE});
    cr_assert_eq(write_page(0), GW_OK);
    struct note n = {0};
    gw_ram_device_hold(ram, GW_RAM_READ, true);
    cr_assert_eq(device->read(device, 1, gw_addr_of(0), block_room, GW_DEVICE_BLOCK, note_cb, &n),
                 GW_PENDING);
    cr_expect_eq(device->poll(device, 1), 0);
    cr_expect_eq(device->poll(device, 1), 0);
    device->trim(device, gw_addr_of(PAGE));
    gw_ram_device_hold(ram, GW_RAM_READ, false);
    cr_expect_eq(device->poll(device, 1), 1);
    cr_expect_eq(n.status, GW_NOT_FOUND);
    stop();
}
