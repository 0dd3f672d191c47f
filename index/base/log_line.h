/* log_line.h - the diagnostic log: one line an event, "key=value", to stderr. Not the hybrid log
 * (index/log.h). Who handles a failure logs it once; nothing is logged per request. Any thread.
 * Layer: base. */
#ifndef GW_INDEX_BASE_LOG_LINE_H
#define GW_INDEX_BASE_LOG_LINE_H

#include <stdint.h>

enum gw_log_level { GW_LOG_DEBUG, GW_LOG_INFO, GW_LOG_WARN, GW_LOG_ERROR, GW_LOG_OFF };

void gw_log_set_level(
    enum gw_log_level least); /* default GW_LOG_INFO; GW_LOG env: debug|info|warn|error|off */
void gw_log_set_name(
    const char *name); /* program or server id, put into every line; borrowed for ever */
/* Writes "TIME LEVEL name what=WHAT k=v...": `format` makes the k=v part. */
void gw_log_line(enum gw_log_level level, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The line of a state machine's move (STYLE: one per move). */
void gw_log_move(const char *machine, uint64_t id, const char *from, const char *to);

#define gw_debug(what, ...) gw_log_line(GW_LOG_DEBUG, what, __VA_ARGS__)
#define gw_info(what, ...)  gw_log_line(GW_LOG_INFO, what, __VA_ARGS__)
#define gw_warn(what, ...)  gw_log_line(GW_LOG_WARN, what, __VA_ARGS__)
#define gw_error(what, ...) gw_log_line(GW_LOG_ERROR, what, __VA_ARGS__)
#endif
