#include "bench/bench.h"     /* reported */
#include "client/session.h"  /* reported */
#include "coordinator/map.h" /* reported */
#include "migration/source.h"
#include <godwit.h> /* reported */
