#include "snapshot/restore/selection.h"

#include <algorithm>
#include <set>

#include "platform/error.h"

namespace nodesnap {
namespace {

std::vector<std::string> split_path(const std::string& path) {
    std::vector<std::string> components;
    for (std::size_t begin = 0; begin < path.size();) {
        const auto end = std::min(path.find('/', begin), path.size());
        components.push_back(path.substr(begin, end - begin));
        begin = end + 1;
    }
    return components;
}

bool within(const std::vector<std::string>& inner, const std::vector<std::string>& outer) {
    return outer.size() <= inner.size() && std::equal(outer.begin(), outer.end(), inner.begin());
}

}  // namespace

std::string join_path(const std::vector<std::string>& components) {
    std::string path;
    for (const auto& component : components) {
        path += path.empty() ? "" : "/";
        path += component;
    }
    return path;
}

std::vector<std::vector<std::string>> RestoreSelection::parents() const {
    std::set<std::vector<std::string>> all;
    for (const auto& part : parts) {
        auto path = part.components;
        while (!path.empty()) {
            path.pop_back();
            all.insert(path);
        }
    }
    std::vector<std::vector<std::string>> result(all.begin(), all.end());
    std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
    return result;
}

RestoreSelection select_paths(const Repository& repository, const Manifest& backup, const std::vector<std::string>& paths) {
    std::set<std::vector<std::string>> wanted;
    for (const auto& path : paths) {
        wanted.insert(split_path(normalized_path(path)));
    }
    if (wanted.empty()) {
        wanted.insert(std::vector<std::string>{});
    }
    RestoreSelection selection;
    for (const auto& components : wanted) {
        // A directory sorts directly before what is in it.
        if (!selection.parts.empty() && within(components, selection.parts.back().components)) {
            continue;
        }
        const auto path = join_path(components);
        const auto found = find_path(repository, backup, path);
        if (!found) {
            throw Error::refused("backup " + backup.id.hex() + " holds no " + path,
                                 "`nodesnap find` tells which backups hold a path, `nodesnap show` what is in one");
        }
        selection.parts.push_back({components, found->first, found->second.type});
    }
    if (selection.whole() && selection.parts.front().type != FileType::kDirectory) {
        throw Error::damaged(layout::manifest(backup.name), "its root isn't a directory");
    }
    return selection;
}

}  // namespace nodesnap
