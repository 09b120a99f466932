# SPDX-License-Identifier: Apache-2.0
# tools/shmbusd*.c are the coordinator's program, tools/common_*.c belong to both programs, the other
# files of tools/ are shmbus.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)

file(GLOB SHMBUSD_SOURCES CONFIGURE_DEPENDS tools/shmbusd*.c)
file(GLOB SHMBUS_COMMON_SOURCES CONFIGURE_DEPENDS tools/common_*.c)
file(GLOB SHMBUS_TOOL_SOURCES CONFIGURE_DEPENDS tools/*.c)
list(REMOVE_ITEM SHMBUS_TOOL_SOURCES ${SHMBUSD_SOURCES})
list(APPEND SHMBUSD_SOURCES ${SHMBUS_COMMON_SOURCES})

function(shmbus_add_tool target name)
  if(ARGN)
    add_executable(${target} ${ARGN})
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}
                          RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tools)
    target_link_libraries(${target} PRIVATE shmbus PkgConfig::JANSSON PkgConfig::INIH
                          Threads::Threads m)
    install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()

shmbus_add_tool(shmbusd shmbusd ${SHMBUSD_SOURCES})
shmbus_add_tool(shmbus_tool shmbus ${SHMBUS_TOOL_SOURCES})
