// RestoreTrail: the open directories from the root of what is being restored down to where a walk stands. Paths of any length, few
// descriptors: upper levels are closed in deep trees, and opened again through ".." on the way back.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/directory_place.h"

namespace nodesnap {

struct OpenDirectory {
    FileDescriptor fd;
    DirectoryPlace place;  // below the root of what is being restored
};

// Whether an errno says that a name is too long, or of bytes that this file system takes for no name.
inline bool cannot_be_named(int error_number) {
    return error_number == ENAMETOOLONG || error_number == EINVAL || error_number == EILSEQ;
}

class RestoreTrail {
public:
    static constexpr std::size_t kOpenLevels = 64;

    explicit RestoreTrail(FileDescriptor root);
    // Goes down into a subdirectory. With `make` it is made if it isn't there. 0, or the errno that says that the file system has no such
    // names, or (ENOENT) no such directory: then it stays where it is.
    int enter(const std::string& name, bool make);
    // Only if a directory is there; false if it isn't, or is something else.
    bool enter_if_directory(const std::string& name);
    void leave();
    const std::shared_ptr<OpenDirectory>& top() const { return levels_.back().open; }
    std::size_t depth() const { return levels_.size() - 1; }

private:
    struct Level {
        DirectoryPlace place;
        std::shared_ptr<OpenDirectory> open;  // none while it is closed to save descriptors
    };
    std::vector<Level> levels_;
};

}  // namespace nodesnap
