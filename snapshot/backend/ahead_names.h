// What a tree that was begun ahead of its snapshot has to be rid of once it is finished. Any thread.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"

namespace nodesnap {

// The directories that were made ahead.
class AheadDirectories {
public:
    void add(const std::string& path);
    // Those of the tree that have gone since, which nobody has given the attributes of what they were made of. They must be empty but for
    // each other.
    void drop_unfinished(int tree) const;

private:
    std::mutex mutex_;
    std::vector<std::string> paths_;  // in no order
};

// Calls back with the open directory of `place`, a path below `tree`, and the name in it; the directory's times are afterwards what they
// were. Not if there is no such directory.
void in_directory_of(int tree, const std::string& place, const std::function<void(int directory, const std::string& name)>& change);

}  // namespace nodesnap
