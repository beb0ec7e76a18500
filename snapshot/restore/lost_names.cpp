#include "snapshot/restore/lost_names.h"

#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "snapshot/restore/basis.h"
#include "snapshot/tree_path.h"

namespace nodesnap {
namespace {

// Of a file that was restored by its number; nullopt for what has its path already, such as a directory whose attribute is lost.
std::optional<std::uint64_t> number_in(const std::string& path) {
    std::uint64_t number = 0;
    const char* const end = path.data() + path.size();
    if (path.size() < 2 || (path.front() != kHeldLetter && path.front() != kNewLetter)) {
        return std::nullopt;
    }
    const auto [parsed, error] = std::from_chars(path.data() + 1, end, number);
    return error == std::errc() && parsed == end ? std::optional(number) : std::nullopt;
}

}  // namespace

void name_lost_inodes(const Repository& repository, const Manifest& backup, RestoreLost& lost) {
    std::set<std::uint64_t> inodes;
    for (const auto& range : lost.ranges()) {
        if (const auto number = number_in(range.path)) {
            inodes.insert(*number);
        }
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
        const auto number = number_in(path);
        const auto found = number ? paths.find(*number) : paths.end();
        return found == paths.end() ? path : found->second;
    });
}

}  // namespace nodesnap
