#include "snapshot/restore/selection.h"

#include <algorithm>
#include <set>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::uint64_t kMetadataPerInode = 512;  // an estimate for the check of space
constexpr std::uint64_t kRunLimit = 1'000'000;    // of one map that is looked at to estimate its data

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

std::uint64_t data_of(const Repository& repository, const Inode& inode) {
    std::uint64_t bytes = inode.content.size();
    MapCursor cursor(repository.nodes(), inode);
    Run run;
    for (std::uint64_t runs = 0; cursor.next(run); ++runs) {
        bytes += run.flags == Run::kDamagedSource ? 0 : run.length;
        if (runs == kRunLimit) {
            return inode.size;
        }
    }
    return bytes;
}

void add_entry(const Repository& repository, const Manifest& backup, std::uint64_t ino, FileType type, RestoreNeeds& needs) {
    ++needs.inodes;
    needs.directories += type == FileType::kDirectory ? 1 : 0;
    if (type != FileType::kRegular) {
        return;
    }
    ++needs.files;
    const auto inode = load_inode(repository, backup, ino, type);
    // Of an inode with several names each one counts for its share.
    needs.data_bytes += data_of(repository, inode) / std::max<std::uint64_t>(inode.links, 1);
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

RestoreNeeds needs_of(const Repository& repository, const Manifest& backup, const RestoreSelection& selection) {
    RestoreNeeds needs;
    if (selection.whole()) {
        needs.files = backup.totals.files;
        needs.directories = backup.totals.directories;
        needs.inodes = backup.totals.files + backup.totals.directories + backup.totals.others;
        needs.data_bytes = backup.totals.data_bytes;
    } else {
        for (const auto& part : selection.parts) {
            if (part.type != FileType::kDirectory) {
                add_entry(repository, backup, part.ino, part.type, needs);
                continue;
            }
            TreeWalker walker(repository, backup, part.ino);
            TreeStep step;
            while (walker.next(step)) {
                if (step.kind != TreeStep::Kind::kLeave) {
                    add_entry(repository, backup, step.entry.ino, step.entry.type, needs);
                }
            }
        }
    }
    needs.required_bytes = needs.data_bytes + needs.inodes * kMetadataPerInode;
    return needs;
}

}  // namespace nodesnap
