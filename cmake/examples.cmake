# SPDX-License-Identifier: Apache-2.0
# Every examples/X.c is a program of its own, examples/X in the build directory. The files of
# examples/X/ belong to it.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
file(GLOB SHMBUS_EXAMPLES CONFIGURE_DEPENDS examples/*.c)
foreach(source ${SHMBUS_EXAMPLES})
  get_filename_component(name ${source} NAME_WE)
  file(GLOB parts CONFIGURE_DEPENDS examples/${name}/*.c)
  add_executable(example_${name} ${source} ${parts})
  set_target_properties(example_${name} PROPERTIES OUTPUT_NAME ${name}
                        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/examples)
  target_link_libraries(example_${name} PRIVATE shmbus PkgConfig::JANSSON Threads::Threads m)
endforeach()
