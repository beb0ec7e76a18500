// The contents of a file of the node, copied where they can't be cloned: only what is written, so that holes stay holes. Any thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "platform/file.h"
#include "snapshot/backend/clone_origin.h"

namespace nodesnap {

// `status`: of the file `from`. `to` is empty. `before_piece` is called before each piece of some megabytes; what it throws ends it. Tells
// where `from` has space that is allocated but unwritten, and that `to` hasn't. Nothing of `from` is waited for to be on storage.
std::vector<UnwrittenRange> copy_file(int from, const FileStatus& status, int to, const std::string& path,
                                      const std::function<void()>& before_piece);

}  // namespace nodesnap
