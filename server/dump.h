/* dump.h - `godwit-server dump DIR`: every live record of a data directory or backup that no server
 * uses, as a stream on stdout, for `godwit restore`. Nothing is written into DIR.
 * The stream: "GWDUMP1\n"; then for each record u32 bytes and a record as in CHUNK (client/wire/
 * peer.h); at its end u32 0 and u64 the number of records: without them it is cut off. All
 * little-endian. Layer: server. */
#ifndef GW_SERVER_DUMP_H
#define GW_SERVER_DUMP_H

/* argv[0] is "dump". The process's exit code: 0 all of it was written, 1 not, 2 usage. */
int gwi_dump_main(int argc, char **argv);
#endif
