# Builds from the source tree that this port lies in; needs Rust and binutils.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)

# There is one build of the library: a debug build of it is of no use to those who link it.
set(VCPKG_BUILD_TYPE release)
find_program(CARGO cargo REQUIRED PATHS "$ENV{HOME}/.cargo/bin")
set(dist "${CURRENT_BUILDTREES_DIR}/${TARGET_TRIPLET}-dist")
file(REMOVE_RECURSE "${dist}")
vcpkg_execute_required_process(
    COMMAND "${CARGO}" xtask dist --out "${dist}"
    WORKING_DIRECTORY "${SOURCE_PATH}"
    LOGNAME "dist-${TARGET_TRIPLET}")
file(GLOB tree LIST_DIRECTORIES true "${dist}/f2d2-${VERSION}-*-gnu*")
list(FILTER tree EXCLUDE REGEX "\\.tar\\.gz$")

file(INSTALL "${tree}/include" DESTINATION "${CURRENT_PACKAGES_DIR}")
file(INSTALL "${tree}/lib" DESTINATION "${CURRENT_PACKAGES_DIR}" USE_SOURCE_PERMISSIONS)
if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
    file(GLOB unused "${CURRENT_PACKAGES_DIR}/lib/libf2d2.so*")
else()
    set(unused "${CURRENT_PACKAGES_DIR}/lib/libf2d2.a" "${CURRENT_PACKAGES_DIR}/lib/pkgconfig/f2d2-static.pc")
endif()
file(REMOVE ${unused})

vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/f2d2)
vcpkg_fixup_pkgconfig()
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
set(documents "${tree}/share/doc/f2d2")
file(INSTALL "${documents}/f2d2.cdx.json" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(
    FILE_LIST "${documents}/LICENSE-MIT" "${documents}/LICENSE-APACHE" "${documents}/THIRD-PARTY.txt")
