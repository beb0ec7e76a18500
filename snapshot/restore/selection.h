// RestoreSelection: which parts of a backup are restored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "snapshot/tree_path.h"

namespace nodesnap {

struct RestoreSelection {
    // A subtree, or one entry that isn't a directory.
    struct Part {
        std::vector<std::string> components;  // of its path; none for the node directory itself
        std::uint64_t ino = 0;
        FileType type = FileType::kDirectory;
    };
    std::vector<Part> parts;  // in order of paths, none within another

    bool whole() const { return parts.size() == 1 && parts.front().components.empty(); }
    // The directories above the parts, the deepest first, the node directory (no components) last.
    std::vector<std::vector<std::string>> parents() const;
};

// `paths` empty: everything. Error::refused for one that the backup doesn't hold.
RestoreSelection select_paths(const Repository& repository, const Manifest& backup, const std::vector<std::string>& paths);

std::string join_path(const std::vector<std::string>& components);

}  // namespace nodesnap
