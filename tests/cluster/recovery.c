/* recovery.c - servers that are killed; see recovery.h. */
#include "tests/cluster/recovery.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct gw_spawn_server *server_of(struct gw_spawn *spawn, const char *id)
{
    for (uint32_t i = 0; i < spawn->server_count; i++)
        if (strcmp(spawn->servers[i].id, id) == 0)
            return &spawn->servers[i];
    cr_assert_fail("there is no server %s", id);
    return NULL;
}

void recovery_kill(struct gw_spawn *spawn, const char *id)
{
    struct gw_spawn_server *server = server_of(spawn, id);
    cr_assert_eq(gw_process_stop(&server->process, SIGKILL, 5000), 128 + SIGKILL);
}

static json_t *ask(const struct gw_spawn_server *server, const char *op)
{
    char request[64], *text = NULL;
    snprintf(request, sizeof request, "{\"op\": \"%s\"}", op);
    cr_assert_eq(gw_admin(server->address, request, 5000, &text), GW_OK, "%s", op);
    json_t *answer = json_loads(text, 0, NULL);
    cr_assert(answer, "%s", text);
    free(text);
    return answer;
}

json_t *recovery_stats(const struct gw_spawn_server *server)
{
    return ask(server, "stats");
}

uint64_t recovery_checkpoint(const struct gw_spawn_server *server)
{
    json_t *stats = recovery_stats(server);
    const json_t *number = json_object_get(json_object_get(stats, "durability"), "checkpoint");
    cr_assert(json_is_integer(number));
    uint64_t value = (uint64_t)json_integer_value(number);
    json_decref(stats);
    return value;
}

uint64_t recovery_ask_checkpoint(const struct gw_spawn_server *server)
{
    json_t *answer = ask(server, "checkpoint");
    const json_t *number = json_object_get(answer, "number");
    cr_assert(json_is_integer(number));
    uint64_t value = (uint64_t)json_integer_value(number);
    json_decref(answer);
    return value;
}

void recovery_take_checkpoint(const struct gw_spawn_server *server)
{
    uint64_t number = recovery_ask_checkpoint(server), end = harness_now_ms() + 20000;
    while (recovery_checkpoint(server) < number) {
        cr_assert_lt(harness_now_ms(), end, "checkpoint %llu is not finished",
                     (unsigned long long)number);
        harness_sleep_ms(5);
    }
}

bool recovery_log_has(const struct gw_spawn *spawn, const char *id, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s.log", spawn->directory, id);
    FILE *file = fopen(path, "re");
    cr_assert(file);
    static char all[1 << 20];
    size_t n = fread(all, 1, sizeof all - 1, file);
    fclose(file);
    all[n] = 0;
    return strstr(all, text) != NULL;
}

size_t recovery_value(char *room, uint32_t key, uint8_t generation)
{
    size_t bytes = 100 + (key * 2654435761u + generation) % 600;
    for (size_t i = 0; i < bytes; i++)
        room[i] = (char)('a' + (key + generation * 7 + i) % 26);
    return bytes;
}
