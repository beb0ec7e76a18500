// Holes and preallocated space of a file that holds something already: what is to be a hole becomes one, what is to be allocated but
// unwritten becomes that. Data is left as it is. The file must have its final size. Errors of the file system that matter are thrown; that
// it has no holes, or can't preallocate, is left as it is (0 or the errno is returned).
#pragma once

#include <string>

#include "snapshot/repository/repository.h"

namespace nodesnap {

// Of a file of which nothing is known: its extents are looked at, from file offset `start` on.
int shape_unknown(const Repository& repository, const Inode& wanted, int fd, std::uint64_t start, const std::string& path);
// Of a file that holds what `held` says. `resized`: it was given another size, which took away what was allocated beyond.
int shape_known(const Repository& repository, const Inode& wanted, const Inode& held, int fd, bool resized, const std::string& path);

// Whether it is to become nodatacow, or no longer: that a file can only while it is empty.
bool changes_cow(int fd, const Inode& wanted);

}  // namespace nodesnap
