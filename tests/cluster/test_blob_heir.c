/* Goal: a server whose records lie mostly in the shared tier is drained and removed, and its
 * machine goes: every key is right at the others, who read its objects; and when nobody needs these
 * any more another server deletes them, also if that one was killed in between. How: real servers
 * with 64 MiB of memory, 128 MiB of disk and a directory as the object store. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/blob_world.h"

TestSuite(blob_heir, .timeout = 200);

/* The first line of what a command of the shell prints. */
static void first_line(const char *command, char *room, size_t room_bytes)
{
    FILE *out = popen(command, "r");
    cr_assert(out && fgets(room, (int)room_bytes, out), "%s", command);
    pclose(out);
    room[strcspn(room, "\n")] = 0;
}

static uint32_t objects_under(const char *directory)
{
    char command[400], count[32];
    snprintf(command, sizeof command, "find %s -name '*.gwo' 2>/dev/null | wc -l", directory);
    first_line(command, count, sizeof count);
    return (uint32_t)strtoul(count, NULL, 10);
}

/* The directory of the only server that has objects yet. */
static void its_directory(const struct world *w, char *room, size_t room_bytes)
{
    char command[400];
    snprintf(command, sizeof command, "ls -d %s/*/*", w->store);
    first_line(command, room, room_bytes);
}

static uint64_t indirections_of(const struct world *w, uint32_t server)
{
    json_t *stats = recovery_stats(&w->spawn.servers[server]);
    const json_t *live = json_object_get(json_object_get(stats, "indirections"), "live");
    cr_assert(json_is_integer(live), "the statistics have no indirections");
    uint64_t n = (uint64_t)json_integer_value(live);
    json_decref(stats);
    return n;
}

Test(blob_heir, a_removed_server_leaves_its_objects_to_another_one)
{
    struct world w;
    char directory[300];
    world_open(&w, "commit", 24000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    world_expect_exact(&w, "written");
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    its_directory(&w, directory, sizeof directory);
    cr_assert_gt(objects_under(directory), 0);
    w.flags[6] = "--checkpoint-interval=3"; /* what the newest two still need stays */
    cr_assert(gw_spawn_server(&w.spawn, "B"), "%s", w.spawn.error);
    cr_assert(gw_spawn_server(&w.spawn, "C"), "%s", w.spawn.error);
    harness_until_healthy(&w.spawn);
    HARNESS_CHECK(&w.spawn, 0, "drain", "A", "--wait", "--timeout", "60");
    HARNESS_CHECK(&w.spawn, 0, "remove", "A");
    (void)gw_process_stop(&w.spawn.servers[0].process, SIGKILL, 5000);
    cr_expect_gt(indirections_of(&w, 1) + indirections_of(&w, 2), 0, "all of it was shipped");
    world_until_exact(&w, 0, w.keys, 1, "its machine is gone");
    recovery_kill(&w.spawn, "B");
    cr_assert(gw_spawn_server(&w.spawn, "B"), "%s", w.spawn.error);
    world_until_exact(&w, 0, w.keys, 1, "and another one was killed");
    uint32_t left = 1;
    for (uint64_t end = harness_now_ms() + 90000; left && harness_now_ms() < end;) {
        harness_sleep_ms(250);
        left = objects_under(directory);
    }
    cr_expect_eq(left, 0, "%u objects of the removed server are left; indirections: %llu, %llu",
                 left, (unsigned long long)indirections_of(&w, 1),
                 (unsigned long long)indirections_of(&w, 2));
    world_until_exact(&w, 0, w.keys, 1, "its objects are gone");
    harness_sleep_ms(4000);
    uint64_t of_b = recovery_checkpoint(&w.spawn.servers[1]);
    harness_sleep_ms(7000); /* two intervals */
    cr_expect_eq(recovery_checkpoint(&w.spawn.servers[1]), of_b, "an idle server takes them on");
    world_close(&w);
}
