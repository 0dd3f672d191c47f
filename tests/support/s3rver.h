/* s3rver.h - a real S3 server for a test: tests/s3rver/server.js on a free port of the loopback,
 * with a directory and a bucket of its own. Its packages are installed by ./dev setup. */
#ifndef GW_TESTS_SUPPORT_S3RVER_H
#define GW_TESTS_SUPPORT_S3RVER_H

#include <stdint.h>

/* What a test that cannot run says; tests/CMakeLists.txt knows it by this. */
#define S3RVER_MISSING "s3rver is not installed: ./dev setup"
#define S3RVER_SECRET  "S3RVER" /* and the access key */

struct s3rver;

/* source: the repository, GW_TEST_SOURCE_DIR. bucket "": none. skew_s: its clock is that far ahead.
 * NULL: node or the packages are not installed; aborts when it does not start otherwise. */
struct s3rver *s3rver_start(const char *source, const char *bucket, int64_t skew_s);
uint16_t s3rver_port(const struct s3rver *server);
void s3rver_stop(struct s3rver *server); /* by its pid; removes its directory. NULL is ignored */
#endif
