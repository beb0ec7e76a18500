# Run by CPack on what it is about to pack: the documents that Debian wants in a package.
file(GLOB_RECURSE readme "${CPACK_TEMPORARY_DIRECTORY}/usr/share/doc/nodesnap/README.md")
get_filename_component(documents "${readme}" DIRECTORY)
file(COPY_FILE ${CMAKE_CURRENT_LIST_DIR}/copyright ${documents}/copyright)
file(REMOVE ${documents}/LICENSE)  # in every Debian system, as copyright says
file(RENAME ${documents}/CHANGELOG.md ${documents}/changelog)
execute_process(COMMAND gzip -9nf ${documents}/changelog COMMAND_ERROR_IS_FATAL ANY)

set(time $ENV{SOURCE_DATE_EPOCH})
if(time STREQUAL "")
  string(TIMESTAMP time "%s")
endif()
execute_process(COMMAND date --utc --date=@${time} "+%a, %d %b %Y %H:%M:%S +0000" OUTPUT_VARIABLE date OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${documents}/changelog.Debian
  "nodesnap (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
execute_process(COMMAND gzip -9nf ${documents}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)
