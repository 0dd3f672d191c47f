/* test_log_line.c - one event is one whole line. */
#include "index/base/log_line.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char output[16384];
static int file;

static void redirect_stderr(void)
{
    file = memfd_create("stderr", 0);
    cr_assert_geq(file, 0);
    cr_assert_geq(dup2(file, STDERR_FILENO), 0);
    gw_log_set_level(GW_LOG_INFO);
}

/* What was logged until now. */
static const char *logged(void)
{
    ssize_t n = pread(file, output, sizeof output - 1, 0);
    cr_assert_geq(n, 0);
    output[n] = '\0';
    return output;
}

TestSuite(log_line, .init = redirect_stderr);

Test(log_line, has_time_level_name_what_and_pairs)
{
    gw_log_set_name("server-a");
    gw_info("start", "port=%d data=%s", 7401, "dir");
    const char *line = logged();
    cr_expect_str_eq(line + 24, " info server-a what=start port=7401 data=dir\n");
    cr_expect(line[4] == '-' && line[10] == 'T' && line[19] == '.' && line[23] == 'Z', "%s", line);
}

Test(log_line, a_program_without_a_name_is_a_dash)
{
    gw_warn("odd", "k=%d", 1);
    cr_expect_str_eq(logged() + 24, " warn - what=odd k=1\n");
}

Test(log_line, no_pairs_leave_no_blank_at_the_end)
{
    gw_log_line(GW_LOG_ERROR, "bare", "%s", "");
    gw_log_set_name("x");
    cr_expect_eq(strchr(logged(), '\n')[1], '\0');
}

Test(log_line, levels_below_the_least_are_silent)
{
    gw_debug("quiet", "k=%d", 1);
    cr_expect_str_eq(logged(), "");
    gw_log_set_level(GW_LOG_ERROR);
    gw_warn("quiet", "k=%d", 1);
    cr_expect_str_eq(logged(), "");
    gw_error("loud", "k=%d", 1);
    cr_expect(strstr(logged(), "what=loud"));
    gw_log_set_level(GW_LOG_OFF);
    gw_error("quiet", "k=%d", 1);
    gw_log_line(GW_LOG_OFF, "quiet", "k=%d", 1);
    cr_expect_null(strstr(logged(), "quiet"));
    gw_log_set_level(GW_LOG_DEBUG);
    gw_debug("chatty", "k=%d", 1);
    cr_expect(strstr(logged(), " debug "));
}

Test(log_line, a_key_cannot_forge_a_second_line)
{
    gw_warn("bad", "key=%s", "a\nb\x1b[31m\x7f");
    cr_expect(strstr(logged(), "key=a?b?[31m?\n"), "%s", output);
}

Test(log_line, a_line_that_does_not_fit_is_cut_and_says_so)
{
    char *large = malloc(100001);
    cr_assert(large);
    memset(large, 'v', 100000);
    large[100000] = '\0';
    gw_warn("large", "v=%s", large);
    gw_warn(large, "v=%d", 1);
    free(large);
    const char *first = logged(), *end = strchr(first, '\n');
    cr_assert(end);
    cr_expect_leq(end - first, 1024);
    cr_expect_eq(strncmp(end - 4, "v...", 4), 0);
    const char *second_end = strchr(end + 1, '\n');
    cr_assert(second_end);
    cr_expect_eq(strncmp(second_end - 4, "v...", 4), 0);
    cr_expect_eq(second_end[1], '\0');
}

Test(log_line, lines_of_every_length_around_the_bound_end_in_one_newline)
{
    for (int n = 900; n < 1100; n++) {
        cr_assert_eq(ftruncate(file, 0), 0);
        cr_assert_eq(lseek(file, 0, SEEK_SET), 0);
        gw_warn("w", "%0*d", n, 0);
        size_t len = strlen(logged());
        cr_assert_leq(len, 1024u);
        cr_assert_eq(strchr(output, '\n'), output + len - 1);
        cr_assert_null(strchr(output, '?'), "%d: a zero inside the line", n);
        cr_assert_eq(strstr(output, "...") != NULL, len < 24 + 15 + (size_t)n + 1, "%d", n);
    }
}

Test(log_line, errno_is_left_alone_even_when_stderr_is_closed)
{
    errno = EAGAIN;
    gw_warn("w", "k=%d", 1);
    cr_expect_eq(errno, EAGAIN);
    close(STDERR_FILENO);
    gw_warn("w", "k=%d", 1);
    cr_expect_eq(errno, EAGAIN);
}

Test(log_line, a_move_names_machine_and_both_states)
{
    gw_log_move("migration.source", 7, "idle", "sampling");
    cr_expect(strstr(logged(), "what=move machine=migration.source id=7 from=idle to=sampling\n"));
}
