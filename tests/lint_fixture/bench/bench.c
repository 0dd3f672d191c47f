#include "index/store.h"
#include "server/server.h"
