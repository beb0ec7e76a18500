#include "snapshot/restore/finish.h"

#include <functional>

#include "platform/entry.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore/trail.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

struct Visitor {
    // A directory that is being left, and (if set) a regular file.
    std::function<void(int fd, std::uint64_t ino, const PathSource& path)> directory;
    std::function<void(int directory_fd, const NamedEntry& entry, const PathSource& path)> file;
};

// None if the file system has no such names: that was told when it couldn't be made.
FileDescriptor open_if_named(const RestoreContext& context, int directory, const std::string& path, int flags) {
    const int fd = try_open_long(directory, path, flags);
    if (fd < 0 && !context.warnings.has(kDirectoryRefused) && !context.warnings.has(kNameRefused)) {
        throw Error::system("open", path, -fd);
    }
    return FileDescriptor(fd < 0 ? -1 : fd);
}

// False if it was refused when it was to be made.
bool enter(RestoreContext& context, RestoreTrail& trail, const std::string& name) {
    const int error = trail.enter(name, false);
    if (error != 0 && !context.warnings.has(kDirectoryRefused)) {
        throw Error::system("open", trail.top()->place.path_of(name), error);
    }
    return error == 0;
}

void visit_part(RestoreContext& context, const RestoreSelection::Part& part, int root, const Visitor& visitor) {
    RestoreTrail trail(open_at(root, ".", kDirectory));
    for (std::size_t i = 0; i + 1 < part.components.size(); ++i) {
        if (!enter(context, trail, part.components[i])) {
            return;
        }
    }
    const auto name = part.components.empty() ? std::string() : part.components.back();
    const auto path_of = [&trail](const std::string& entry) { return [&trail, &entry] { return trail.top()->place.path_of(entry); }; };
    if (part.type != FileType::kDirectory) {
        if (part.type == FileType::kRegular && visitor.file) {
            visitor.file(trail.top()->fd.get(), {name, part.ino, part.type}, path_of(name));
        }
        return;
    }
    TreeWalker walker(context.repository, context.backup, part.ino);
    TreeStep step;
    bool left_out = false;  // the directory just entered, which has no place here
    while (walker.next(step)) {
        const auto& called = step.depth == 0 ? name : step.entry.name;
        if (step.kind == TreeStep::Kind::kEnter && !called.empty()) {
            throw_if_interrupted();
            left_out = !enter(context, trail, called);
            if (left_out) {
                walker.skip();
            }
        } else if (step.kind == TreeStep::Kind::kEntry && step.entry.type == FileType::kRegular && visitor.file) {
            visitor.file(trail.top()->fd.get(), step.entry, path_of(step.entry.name));
        } else if (step.kind == TreeStep::Kind::kLeave && left_out) {
            left_out = false;
        } else if (step.kind == TreeStep::Kind::kLeave && !called.empty()) {
            visitor.directory(trail.top()->fd.get(), step.entry.ino, [&trail] { return trail.top()->place.path(); });
            trail.leave();
        }
    }
}

// All directories of the selection, and those above, from below; not the root.
void visit(RestoreContext& context, const RestoreSelection& selection, int root, const Visitor& visitor) {
    for (const auto& part : selection.parts) {
        visit_part(context, part, root, visitor);
    }
    for (const auto& parent : selection.parents()) {
        auto path = join_path(parent);
        const auto found = find_path(context.repository, context.backup, path);
        if (found && !parent.empty()) {
            if (const auto fd = open_if_named(context, root, path, kDirectory)) {
                visitor.directory(fd.get(), found->first, [&path] { return path; });
            }
        }
    }
}

std::string root_name() {
    return "the node directory";
}

}  // namespace

void finish_directories(RestoreContext& context, const RestoreSelection& selection, int root) {
    InodeLoader loader(context.repository, context.backup);
    Visitor visitor;
    visitor.directory = [&](int fd, std::uint64_t ino, const PathSource& path) {
        Inode inode;
        std::vector<NamedXattr> xattrs;
        const bool complete = loader.load(ino, FileType::kDirectory, inode, xattrs);
        if (context.has_basis(RestoreBasis::Kind::kInPlace)) {
            context.attributes.before_patch(fd, ino, inode, path);
        }
        context.attributes.apply(fd, ino, inode, complete ? &xattrs : nullptr, path);
        if (AttributeWriter::needs_seal(inode)) {
            context.sealed = true;
        }
        if (inode.damaged) {
            context.lost.add(path(), LostRange::Cause::kSource, 0, 0);
        }
    };
    visit(context, selection, root, visitor);
    visitor.directory(root, context.backup.root_ino, root_name);
}

void finish_root(RestoreContext& context, int root) {
    const auto ino = context.backup.root_ino;
    const auto inode = load_inode(context.repository, context.backup, ino, FileType::kDirectory);
    context.attributes.apply(root, ino, inode, nullptr, root_name);
}

void open_root(int root, const std::string& path) {
    if (!entry::may_write(path)) {
        static_cast<void>(
            entry::set_mode(root, (stat_fd(root, path).stx_mode & 07777) | 0700));  // what fails here shows at the first entry
    }
}

void seal_root(RestoreContext& context, int root) {
    const auto inode = load_inode(context.repository, context.backup, context.backup.root_ino, FileType::kDirectory);
    if (AttributeWriter::needs_seal(inode)) {
        context.attributes.seal(root, inode, root_name);
        sync_file_system(root, root_name());
    }
}

void seal_tree(RestoreContext& context, const RestoreSelection& selection, int root) {
    const auto seal = [&context](int fd, const Inode& inode, const PathSource& path) { context.attributes.seal(fd, inode, path); };
    Visitor visitor;
    visitor.directory = [&](int fd, std::uint64_t ino, const PathSource& path) {
        seal(fd, load_inode(context.repository, context.backup, ino, FileType::kDirectory), path);
    };
    visitor.file = [&](int directory, const NamedEntry& entry, const PathSource& path) {
        const auto inode = load_inode(context.repository, context.backup, entry.ino, FileType::kRegular);
        if (AttributeWriter::needs_seal(inode)) {
            if (const auto fd = open_if_named(context, directory, entry.name, O_RDONLY | O_NOFOLLOW)) {
                seal(fd.get(), inode, path);
            }
        }
    };
    visit(context, selection, root, visitor);
    sync_file_system(root, root_name());
}

}  // namespace nodesnap
