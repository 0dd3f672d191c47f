#include "client/session.h" /* reported */
#include "client/wire/wire.h"
