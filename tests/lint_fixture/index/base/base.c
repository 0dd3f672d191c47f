#include "index/base/base.h"
#include "index/store.h" /* reported */
#include <stdio.h>
