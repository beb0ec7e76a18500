#include "snapshot/tree_path.h"

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::size_t kNameLimit = 255;

Error damaged(const Manifest& backup, const std::string& what) {
    return Error::damaged(layout::manifest(backup.name), what, "run `nodesnap verify` to see what else is damaged");
}

bool possible_name(std::string_view name) {
    return !name.empty() && name.size() <= kNameLimit && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
           name.find('\0') == std::string_view::npos;
}

// The next component of `path`, which loses it; empty at the end.
std::string_view take_component(std::string_view& path) {
    while (true) {
        const auto begin = path.find_first_not_of('/');
        if (begin == std::string_view::npos) {
            path = {};
            return {};
        }
        const auto end = path.find('/', begin);
        const auto component = path.substr(begin, end == std::string_view::npos ? end : end - begin);
        path = end == std::string_view::npos ? std::string_view{} : path.substr(end);
        if (component != ".") {
            return component;
        }
    }
}

std::optional<Dirent> find_dirent(const Repository& repository, const Manifest& backup, std::uint64_t directory, std::string_view name) {
    if (!possible_name(name)) {
        return std::nullopt;
    }
    const auto value = tree_find(repository.nodes(), backup.tree, key::dirent(directory, name));
    return value ? std::optional(decode_dirent(*value)) : std::nullopt;
}

}  // namespace

Inode load_inode(const Repository& repository, const Manifest& backup, std::uint64_t ino) {
    const auto value = tree_find(repository.nodes(), backup.tree, key::inode(ino));
    if (!value) {
        throw damaged(backup, "inode " + std::to_string(ino) + " is named but missing");
    }
    return decode_inode(*value);
}

Inode load_inode(const Repository& repository, const Manifest& backup, std::uint64_t ino, FileType type) {
    auto inode = load_inode(repository, backup, ino);
    if (inode.type != type) {
        throw damaged(backup, "inode " + std::to_string(ino) + " isn't of the type that its name says");
    }
    return inode;
}

std::string normalized_path(std::string_view path) {
    std::string result;
    for (auto component = take_component(path); !component.empty(); component = take_component(path)) {
        if (component == "..") {
            throw Error::usage("a path in a backup must not hold \"..\"");
        }
        result += result.empty() ? "" : "/";
        result += component;
    }
    return result;
}

std::optional<std::pair<std::uint64_t, Inode>> find_path(const Repository& repository, const Manifest& backup, std::string_view path) {
    std::uint64_t ino = backup.root_ino;
    auto type = FileType::kDirectory;
    for (auto component = take_component(path); !component.empty(); component = take_component(path)) {
        if (type != FileType::kDirectory) {
            return std::nullopt;
        }
        const auto dirent = find_dirent(repository, backup, ino, component);
        if (!dirent) {
            return std::nullopt;
        }
        ino = dirent->ino;
        type = dirent->type;
    }
    return std::pair(ino, load_inode(repository, backup, ino, type));
}

DirectoryLister::DirectoryLister(const Repository& repository, const Manifest& backup, std::uint64_t directory)
    : repository_(&repository), root_(backup.tree), directory_(directory) {}

bool DirectoryLister::next(NamedEntry& entry) {
    if (position_ == batch_.size() && !end_) {
        fill();
    }
    if (position_ == batch_.size()) {
        return false;
    }
    entry = std::move(batch_[position_++]);
    last_ = entry.name;
    return true;
}

void DirectoryLister::drop_read_ahead() {
    if (position_ != batch_.size()) {
        end_ = false;
    }
    batch_ = {};
    position_ = 0;
    batch_limit_ = kSmallestBatch;
}

void DirectoryLister::fill() {
    batch_.clear();
    position_ = 0;
    TreeCursor cursor(repository_->nodes(), root_, key::dirent(directory_, last_));
    TreeEntry entry;
    while (batch_.size() < batch_limit_) {
        if (!cursor.next(entry)) {
            end_ = true;
            return;
        }
        const auto parts = key::parse(entry.key);
        if (parts.ino != directory_ || parts.kind != key::Kind::kDirent) {
            end_ = true;
            return;
        }
        if (!last_.empty() && parts.name == last_) {
            continue;
        }
        if (!possible_name(parts.name)) {
            throw Error::damaged("directory " + std::to_string(directory_) + " of the backup", "it holds a name that no file can have");
        }
        const auto dirent = decode_dirent(entry.value);
        batch_.push_back({std::string(parts.name), dirent.ino, dirent.type});
    }
    batch_limit_ = std::min(2 * batch_limit_, kLargestBatch);
}

InodeLoader::InodeLoader(const Repository& repository, const Manifest& backup) : repository_(repository), backup_(backup) {}

// Goes to the first entry at or behind `key`: by a few steps where that suffices, else by a search from the root.
bool InodeLoader::seek(const std::string& key, TreeEntry& entry) {
    constexpr int kSteps = 16;
    if (have_ahead_ && ahead_.key > key) {
        cursor_.reset();
    }
    if (cursor_ && have_ahead_) {
        for (int step = 0; step < kSteps && have_ahead_; ++step) {
            if (ahead_.key >= key) {
                std::swap(entry, ahead_);
                have_ahead_ = false;
                return true;
            }
            have_ahead_ = cursor_->next(ahead_);
        }
    }
    have_ahead_ = false;
    cursor_.emplace(repository_.nodes(), backup_.tree, key);
    return cursor_->next(entry);
}

bool InodeLoader::load(std::uint64_t ino, FileType type, Inode& inode, std::vector<NamedXattr>& xattrs) {
    const auto wanted = key::inode(ino);
    TreeEntry entry;
    if (!seek(wanted, entry) || entry.key != wanted) {
        throw damaged(backup_, "inode " + std::to_string(ino) + " is named but missing");
    }
    inode = decode_inode(entry.value);
    if (inode.type != type) {
        throw damaged(backup_, "inode " + std::to_string(ino) + " isn't of the type that its name says");
    }
    if (inode.xattr_count > kXattrLimit) {
        cursor_.reset();
        return false;
    }
    while ((have_ahead_ = cursor_->next(ahead_))) {
        const auto parts = key::parse(ahead_.key);
        if (parts.ino != ino || parts.kind != key::Kind::kXattr || xattrs.size() == kXattrLimit) {
            break;
        }
        xattrs.push_back({std::string(parts.name), decode_xattr(ahead_.value)});
    }
    return true;
}

void for_each_xattr(const Repository& repository, const Manifest& backup, std::uint64_t ino,
                    const std::function<void(const NamedXattr&)>& each) {
    TreeCursor cursor(repository.nodes(), backup.tree, key::xattr(ino));
    TreeEntry entry;
    while (cursor.next(entry)) {
        const auto parts = key::parse(entry.key);
        if (parts.ino != ino || parts.kind != key::Kind::kXattr) {
            return;
        }
        each({std::string(parts.name), decode_xattr(entry.value)});
    }
}

TreeWalker::TreeWalker(const Repository& repository, const Manifest& backup, std::uint64_t start)
    : repository_(repository), backup_(backup), start_(start) {}

bool TreeWalker::next(TreeStep& step) {
    if (!started_) {
        started_ = true;
        enter({"", start_, FileType::kDirectory}, step);
        return true;
    }
    if (levels_.empty()) {
        return false;
    }
    NamedEntry entry;
    if (!next_in(levels_.back(), entry)) {
        leave(step);
        return true;
    }
    // Names are unique in the tree: more of them than it has means that a directory appears at two places.
    if (++steps_ > backup_.tree.count) {
        throw damaged(backup_, "a directory has several names");
    }
    if (entry.type == FileType::kDirectory) {
        if (levels_.size() > kReadAheadLevels) {
            levels_.back().lister.drop_read_ahead();
        }
        enter(std::move(entry), step);
        return true;
    }
    current_ = entry.name;
    step = {TreeStep::Kind::kEntry, std::move(entry), levels_.size()};
    return true;
}

bool TreeWalker::next_in(Level& level, NamedEntry& entry) {
    while (!level.skipped) {
        while (level.lister.next(entry)) {
            const bool directory = entry.type == FileType::kDirectory;
            if (directory == level.subdirectories) {
                return true;
            }
            level.has_subdirectories |= directory;
        }
        if (level.subdirectories || !level.has_subdirectories) {
            return false;
        }
        level.subdirectories = true;
        level.lister = DirectoryLister(repository_, backup_, level.self.ino);
    }
    return false;
}

void TreeWalker::enter(NamedEntry entry, TreeStep& step) {
    if (levels_.size() == kLevelLimit) {
        throw Error::refused("the backup's directories are nested more than " + std::to_string(kLevelLimit) + " levels deep");
    }
    if (!on_stack_.insert(entry.ino).second) {
        throw damaged(backup_, "directory " + std::to_string(entry.ino) + " contains itself");
    }
    step = {TreeStep::Kind::kEnter, entry, levels_.size()};
    levels_.push_back({std::move(entry), DirectoryLister(repository_, backup_, step.entry.ino)});
    current_.clear();
}

void TreeWalker::leave(TreeStep& step) {
    auto self = std::move(levels_.back().self);
    levels_.pop_back();
    on_stack_.erase(self.ino);
    current_ = self.name;
    step = {TreeStep::Kind::kLeave, std::move(self), levels_.size()};
}

void TreeWalker::skip() {
    levels_.back().skipped = true;
}

std::string TreeWalker::path() const {
    std::string path;
    const auto append = [&path](const std::string& name) {
        if (!name.empty()) {
            path += path.empty() ? "" : "/";
            path += name;
        }
    };
    for (const auto& level : levels_) {
        append(level.self.name);
    }
    append(current_);
    return path;
}

}  // namespace nodesnap
