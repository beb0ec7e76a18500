# Installs the units, with the path of the program in them. That is known when they are installed, not before: `cmake --install --prefix`, and a package,
# install elsewhere than was configured.
set(units ${CMAKE_CURRENT_LIST_DIR})
install(FILES ${units}/nodesnap@.timer ${units}/nodesnap-forget@.timer ${units}/nodesnap-release.timer DESTINATION lib/systemd/system)
install(FILES ${units}/node.conf.example DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(CODE "
  get_filename_component(NODESNAP_PROGRAM \"${CMAKE_INSTALL_BINDIR}/nodesnap\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
  get_filename_component(NODESNAP_DOCUMENTS \"${CMAKE_INSTALL_DOCDIR}\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
  foreach(unit nodesnap@ nodesnap-forget@ nodesnap-release)
    configure_file(\"${units}/\${unit}.service.in\" \"${CMAKE_BINARY_DIR}/systemd/\${unit}.service\" @ONLY)
    file(INSTALL \"${CMAKE_BINARY_DIR}/systemd/\${unit}.service\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\")
  endforeach()
")
