#include "snapshot/restore/lost_names.h"

#include <map>
#include <set>
#include <string>

#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

std::uint64_t number_in(const std::string& path) {
    return std::stoull(path.substr(1));
}

}  // namespace

void name_lost_inodes(const Repository& repository, const Manifest& backup, RestoreLost& lost) {
    std::set<std::uint64_t> inodes;
    for (const auto& range : lost.ranges()) {
        inodes.insert(number_in(range.path));
    }
    if (inodes.empty()) {
        return;
    }
    std::map<std::uint64_t, std::string> paths;
    TreeWalker walker(repository, backup, backup.root_ino);
    TreeStep step;
    while (!inodes.empty() && walker.next(step)) {
        if (step.kind == TreeStep::Kind::kEntry && inodes.erase(step.entry.ino) != 0) {
            paths.emplace(step.entry.ino, walker.path());
        }
    }
    lost.rename([&paths](const std::string& path) {
        const auto found = paths.find(number_in(path));
        return found == paths.end() ? path : found->second;
    });
}

}  // namespace nodesnap
