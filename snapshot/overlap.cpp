#include "snapshot/overlap.h"

#include "io/target/directory.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/path_below.h"
#include "snapshot/repository/description.h"

namespace nodesnap {
namespace {

bool has(const std::string& directory, std::string_view object) {
    return stat_path(directory + "/" + std::string(object)).has_value();
}

bool is_repository(const std::string& directory) {
    if (has(directory, layout::kRepositoryCopy)) {
        return true;
    }
    if (!has(directory, layout::kRepository)) {
        return false;
    }
    try {
        return load_description_copy(*open_directory_target(directory), layout::kRepository).description.has_value();
    } catch (const Error&) {
        return false;  // another program's file of that name
    }
}

}  // namespace

void refuse_overlap(const Target& repository, const std::string& node_directory, const ExcludeRules& excludes) {
    const auto place = repository.local_directory();
    if (!place) {
        return;
    }
    if (const auto inside = path_below(*place, node_directory); inside && inside->empty()) {
        throw Error::refused("the node directory " + node_directory + " is the repository itself", "check the two paths");
    } else if (inside && !excludes.matches_tree(*inside, true)) {
        throw Error::refused("the repository " + repository.describe() + " lies inside the node directory, at " + *inside +
                                 "/: each backup would hold the ones before it",
                             "keep it on another disk, or leave it out with " + exclude_option_of(*inside));
    }
    if (path_below(node_directory, *place)) {
        throw Error::refused("the node directory " + node_directory + " lies inside the repository " + repository.describe(),
                             "a repository holds nothing but backups: keep the two apart");
    }
}

void refuse_inside(const Target& repository, const std::string& parent) {
    const auto place = repository.local_directory();
    if (place && path_below(parent, *place)) {
        throw Error::refused(parent + " lies inside the repository " + repository.describe(),
                             "a repository holds nothing but backups: name another directory");
    }
}

std::optional<std::string> repository_around(const std::string& directory) {
    std::string above = resolve_path(directory);
    while (true) {
        if (is_repository(above)) {
            return above;
        }
        if (above == "/") {
            return std::nullopt;
        }
        const std::size_t slash = above.rfind('/');
        above.resize(slash == 0 ? 1 : slash);
    }
}

}  // namespace nodesnap
