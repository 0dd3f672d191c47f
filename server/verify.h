/* verify.h - `godwit-server verify DIR`: an offline check of a data directory, or of a backup of
 * one, that opens nothing for writing. Checked are store.json, every checkpoint and its index file,
 * every segment that the newest checkpoint needs (each block against its checksum), every commit
 * log behind it, and of a backup the manifest. A directory in use may change under the check.
 * Layer: server. */
#ifndef GW_SERVER_VERIFY_H
#define GW_SERVER_VERIFY_H

/* argv[0] is "verify". The process's exit code: 0 all good, 1 something is damaged or missing (it
 * has been named on stdout), 2 usage, 3 it cannot be read. */
int gwi_verify_main(int argc, char **argv);
#endif
