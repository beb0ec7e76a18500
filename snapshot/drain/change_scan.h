// Whether anything below a directory that isn't a snapshot was changed since an instant: contents, attributes, entries.
//
// Every change sets the ctime of an inode that is still there, or of the directory that lost it, so that one walk over all status records
// finds it, whoever made it and whether or not the file is still open. Costs one statx per entry; reads no data.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "platform/file.h"
#include "snapshot/exclude.h"

namespace nodesnap {

// The path of something that was changed at or after `since_ns` (from next_stamp_ns()), "." for the directory itself; nullopt
// if nothing was. What lies under `excludes` doesn't count, the directory that holds it does; nor do files of which `is_ours` is
// true. Throws what can't be read.
std::optional<std::string> changed_since(int root, std::uint64_t root_ino, const ExcludeRules& excludes, std::int64_t since_ns,
                                         const std::function<bool(const FileStatus&)>& is_ours = {});

}  // namespace nodesnap
