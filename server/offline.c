/* offline.c - see offline.h. */
#include "server/offline.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/data.h"
#include "server/state_file.h"

#define FILE_BYTES_MAX ((off_t)16 << 30)

bool gwi_offline_identity(const char *dir, uint64_t *store_id, char server[GW_ID_BYTES_MAX + 1],
                          uint64_t *checkpoint, uint64_t *bytes)
{
    char path[GWI_OFFLINE_PATH_BYTES], *end = NULL;
    json_error_t error;
    struct stat about;
    snprintf(path, sizeof path, "%s/store.json", dir);
    *bytes = stat(path, &about) == 0 ? (uint64_t)about.st_size : 0;
    json_t *root = json_load_file(path, 0, &error);
    const char *store = json_string_value(json_object_get(root, "store"));
    const char *id = json_string_value(json_object_get(root, "server"));
    *store_id = store && strlen(store) == 16 ? strtoull(store, &end, 16) : 0;
    bool good = root &&
                json_integer_value(json_object_get(root, "crc")) == gwi_data_identity_crc(root) &&
                end && *end == 0 && *store_id != 0 && id && strlen(id) <= GW_ID_BYTES_MAX;
    if (good)
        strcpy(server, id);
    json_int_t newest = json_integer_value(json_object_get(root, "checkpoint"));
    *checkpoint = newest > 0 ? (uint64_t)newest : 0;
    json_decref(root);
    return good;
}

uint8_t *gwi_offline_read(const char *path, size_t *bytes, const char **wrong)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *wrong = "cannot be opened";
    if (fd < 0)
        return NULL;
    uint8_t *all = NULL;
    if (fstat(fd, &about) == 0 && about.st_size <= FILE_BYTES_MAX) {
        *wrong = "out of memory";
        all = malloc((size_t)about.st_size + 1);
        size_t at = 0;
        while (all && at < (size_t)about.st_size) {
            ssize_t n = read(fd, all + at, (size_t)about.st_size - at);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0) {
                *wrong = "cannot be read to its end";
                free(all);
                all = NULL;
                break;
            }
            at += (size_t)n;
        }
        *bytes = at;
    }
    close(fd);
    return all;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

uint32_t gwi_offline_states(const char *dir, uint64_t *numbers)
{
    char path[GWI_OFFLINE_PATH_BYTES];
    uint32_t count = 0;
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    DIR *d = opendir(path);
    for (struct dirent *e; d && count < GWI_OFFLINE_STATES_MAX && (e = readdir(d));)
        if (gwi_state_number(e->d_name))
            numbers[count++] = gwi_state_number(e->d_name);
    if (d)
        closedir(d);
    qsort(numbers, count, sizeof *numbers, by_number);
    return count;
}
