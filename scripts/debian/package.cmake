# The Debian package, which scripts/package makes with CPack. It is installed to /usr whatever prefix was configured.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME nodesnap)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "nodesnap maintainers <nodesnap@packages.invalid>" CACHE STRING "Maintainer of the package")
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/documents.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "nodesnap backs up a database node while its daemon runs: it takes a snapshot
of the node directory on its own storage (btrfs, LVM, XFS with reflink, or
links on ext4), in milliseconds, and drains it into a repository, reading only
what has changed. It restores whole nodes or single files, rolls a node back
to a local snapshot, and proves that a backup is good.

Schedules for systemd come with it; none is enabled by installing it.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# What some kinds of snapshots and repositories need, and btrfs(8) to look at them.
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "btrfs-progs, lvm2, openssh-client, thin-provisioning-tools")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/postinst ${CMAKE_CURRENT_LIST_DIR}/prerm ${CMAKE_CURRENT_LIST_DIR}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
