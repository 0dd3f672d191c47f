/* test_assert.c - a broken belief ends the program and says where. */
#include "index/base/assert.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int twice_one(int *calls)
{
    (*calls)++;
    return 2;
}

/* Runs `body` in a child, with its stderr in `text`; returns what wait gave. */
static int in_child(void (*body)(void), char *text, size_t text_bytes)
{
    int ends[2], status;
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        body();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t n;
    while (used + 1 < text_bytes && (n = read(ends[0], text + used, text_bytes - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(ends[0]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static void fail_plainly(void)
{
    volatile int one = 1;
    GW_ASSERT(one + one == 3);
}

static void fail_at_length(void)
{
    static char condition[4000];
    memset(condition, 'c', sizeof condition - 1);
    gw_assert_failed("file.c", 1, condition);
}

Test(assert, a_false_condition_aborts_and_names_file_line_and_condition)
{
    char text[1024];
    int status = in_child(fail_plainly, text, sizeof text);
    cr_assert(WIFSIGNALED(status));
    cr_expect_eq(WTERMSIG(status), SIGABRT);
    cr_expect(strstr(text, "test_assert.c:"));
    cr_expect(strstr(text, "assertion failed: one + one == 3\n"));
}

Test(assert, an_endless_condition_is_cut_to_one_line)
{
    char text[8192];
    int status = in_child(fail_at_length, text, sizeof text);
    cr_assert(WIFSIGNALED(status));
    cr_expect_lt(strlen(text), 600u);
    cr_expect_eq(text[strlen(text) - 1], '\n');
}

Test(assert, a_true_condition_is_computed_once_and_goes_on)
{
    int calls = 0;
    GW_ASSERT(twice_one(&calls) == 2);
    cr_expect_eq(calls, 1);
}

Test(assert, dchecks_run_only_where_they_are_asked_for)
{
    int calls = 0;
    GW_DCHECK(twice_one(&calls) == 2);
#if defined(GW_DCHECKS) && GW_DCHECKS
    cr_expect_eq(calls, 1);
#else
    cr_expect_eq(calls, 0);
#endif
}

Test(assert, implication)
{
    cr_expect(GW_IMPLIES(0, 0));
    cr_expect(GW_IMPLIES(0, 1));
    cr_expect_not(GW_IMPLIES(1, 0));
    cr_expect(GW_IMPLIES(1, 1));
}
