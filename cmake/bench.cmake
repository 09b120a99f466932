# SPDX-License-Identifier: Apache-2.0
# bench/*.c are shmbus-bench.
file(GLOB SHMBUS_BENCH_SOURCES CONFIGURE_DEPENDS bench/*.c)
if(SHMBUS_BENCH_SOURCES)
  add_executable(shmbus-bench ${SHMBUS_BENCH_SOURCES})
  set_target_properties(shmbus-bench PROPERTIES
                        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_link_libraries(shmbus-bench PRIVATE shmbus Threads::Threads m)
  install(TARGETS shmbus-bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
