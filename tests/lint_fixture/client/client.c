#include <godwit.h>

#include "client/net/net.h"
#include "client/session.h"
#include "index/store.h"    /* reported */
#include "client/cli/cli.h" /* reported */
