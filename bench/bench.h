/* bench.h - the programs of godwit-bench. Each takes the arguments from its own name on (argv[0] is
 * "engine" and so on), prints its result on stdout (one JSON document with --json) and
 * words on stderr, and returns the exit code: 0 done, 1 failed, 2 usage. */
#ifndef GW_BENCH_BENCH_H
#define GW_BENCH_BENCH_H

int gw_bench_engine(int argc, char **argv);
int gw_bench_dram(int argc, char **argv);
int gw_bench_churn(int argc, char **argv);
int gw_bench_hash(int argc, char **argv);
int gw_bench_profile(int argc, char **argv);
int gw_bench_cluster(int argc, char **argv);
int gw_bench_ssd(int argc, char **argv);
int gw_bench_recover(int argc, char **argv);
int gw_bench_fsync(int argc, char **argv);
int gw_bench_migrate(int argc, char **argv);
int gw_bench_loopback(int argc, char **argv);
#endif
