# Compiler and linker flags that hold for every target.
include(CheckCCompilerFlag)

# Defined empty, so that a file that defines it too is not a redefinition.
add_compile_options(-D_GNU_SOURCE= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                    -fno-omit-frame-pointer)
add_compile_definitions(GODWIT_VERSION="${PROJECT_VERSION}")
include_directories(${CMAKE_SOURCE_DIR}) # includes are rooted: "index/base/status.h"

if(GODWIT_WERROR)
    add_compile_options(-Werror)
endif()
if(GODWIT_NATIVE)
    add_compile_options(-march=native)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    # Every processor of this level multiplies without carries too (hash.c).
    add_compile_options(-march=x86-64-v3 -mpclmul)
endif()
if(GODWIT_DCHECKS)
    add_compile_options(-DGW_DCHECKS=1)
endif()
if(GODWIT_SANITIZE)
    add_compile_options(-fsanitize=${GODWIT_SANITIZE} -fno-sanitize-recover=all)
    if(NOT GODWIT_FUZZ) # a harness brings its own main and its own link flag
        add_link_options(-fsanitize=${GODWIT_SANITIZE})
    else()
        add_link_options(-fsanitize=address,undefined)
    endif()
endif()

# Libraries are compiled to fat objects: machine code and the optimiser's form side by side. The
# programs and libgodwit.so link from the second; the many small tests from the first, which takes
# a tenth of a second each instead of several. They have to say so: the linker's plugin takes the
# second wherever it is there.
set(gw_lto_compile "")
set(gw_lto_link "")
set(gw_lto_none "")
if(GODWIT_LTO AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    set(gw_lto_compile -flto=auto -ffat-lto-objects)
    set(gw_lto_link -flto=auto)
    set(gw_lto_none -fno-lto)
    # The plain `ar` knows nothing of the optimiser's form.
    if(CMAKE_C_COMPILER_AR)
        set(CMAKE_AR ${CMAKE_C_COMPILER_AR})
        set(CMAKE_RANLIB ${CMAKE_C_COMPILER_RANLIB})
    endif()
endif()
