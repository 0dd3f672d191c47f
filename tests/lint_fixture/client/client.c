#include <godwit.h>

#include "client/cli/cli.h" /* reported */
#include "client/net/net.h"
#include "client/session.h"
#include "index/store.h" /* reported */
