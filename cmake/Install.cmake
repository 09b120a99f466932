# SPDX-License-Identifier: Apache-2.0
# What is installed: both libraries, headers, shmbus.pc, and the files of find_package(shmbus).
install(TARGETS shmbus shmbus_static EXPORT shmbus
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY libshmbus/include/shmbus DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")

# Paths relative to the file itself: an installed tree can be moved.
set(SHMBUS_PC_DIR ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH SHMBUS_PC_PREFIX /${SHMBUS_PC_DIR} /)
string(REGEX REPLACE "/$" "" SHMBUS_PC_PREFIX "${SHMBUS_PC_PREFIX}")
configure_file(cmake/shmbus.pc.in shmbus.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/shmbus.pc DESTINATION ${SHMBUS_PC_DIR})

set(SHMBUS_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/shmbus)
install(EXPORT shmbus NAMESPACE shmbus:: FILE shmbus-targets.cmake
        DESTINATION ${SHMBUS_CMAKE_DIR})
configure_package_config_file(cmake/shmbus-config.cmake.in shmbus-config.cmake
                              INSTALL_DESTINATION ${SHMBUS_CMAKE_DIR})
write_basic_package_version_file(shmbus-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/shmbus-config.cmake
              ${PROJECT_BINARY_DIR}/shmbus-config-version.cmake
        DESTINATION ${SHMBUS_CMAKE_DIR})

file(GLOB SHMBUS_MAN_PAGES CONFIGURE_DEPENDS docs/man/*.[1-8])
foreach(page ${SHMBUS_MAN_PAGES})
  string(REGEX REPLACE ".*\\." "" section ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
