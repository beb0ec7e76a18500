// Directory target: a repository in a local (or network-mounted) directory.
//
// Objects are files below the directory, folders are made when they are needed (mode 0700). A new object becomes visible by one link or
// rename, after its bytes are durable; the folder that names it is durable before the call returns. Large objects are written with O_DIRECT
// where the file system allows it and otherwise through the page cache, whose pages are written back early and dropped. Compare-and-swap is
// a comparison and a rename under an exclusive flock(2) of "locks/.swap", so that it holds between processes and, where the file system
// passes locks on, hosts. The directory is held open: it may be renamed meanwhile. Reading needs no write access at all.
#pragma once

#include <memory>
#include <string>

#include "io/target/target.h"
#include "platform/file_descriptor.h"

namespace nodesnap {

// Error::refused if there is no such directory; with `create` it is made (its parent must exist).
std::shared_ptr<Target> open_directory_target(const std::string& path, bool create = false);
// One that is open already; `path` is told, and resolved for local_directory().
std::shared_ptr<Target> adopt_directory_target(FileDescriptor directory, const std::string& path);

}  // namespace nodesnap
