#include "client/net/net.h" /* reported */
#include "client/session.h"
#include "client/wire/wire.h"
#include <godwit.h>
