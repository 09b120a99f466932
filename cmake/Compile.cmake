# SPDX-License-Identifier: Apache-2.0
# How everything here is compiled.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                    -Wpointer-arith)
if(SHMBUS_WERROR)
  add_compile_options(-Werror)
endif()

if(SHMBUS_SANITIZE)
  add_compile_options(-fsanitize=${SHMBUS_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${SHMBUS_SANITIZE})
  if(SHMBUS_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

if(SHMBUS_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SHMBUS_FUZZ needs clang's libFuzzer; the compiler is "
                        "${CMAKE_C_COMPILER_ID}. Use -DCMAKE_C_COMPILER=clang-14.")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
