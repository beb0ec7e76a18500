#include "snapshot/restore/remove_foreign.h"

#include <sys/stat.h>

#include <algorithm>

#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "snapshot/restore/file.h"
#include "snapshot/restore/remove_tree.h"

namespace nodesnap {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

class Removal {
public:
    Removal(RestoreContext& context, const std::vector<std::string>& keep, const DirectoryChanged& changed)
        : context_(context), keep_(keep), changed_(changed) {}

    void look_through(const OpenDirectory& directory, std::uint64_t ino) {
        throw_if_interrupted();
        context_.sealed = AttributeWriter::unseal(directory.fd.get()) || context_.sealed;
        DirectoryStream stream(open_at(directory.fd.get(), ".", kDirectory), directory.place.path());
        DirectoryEntry found;
        bool removed = false;
        while (stream.next(found)) {
            if (belongs(directory, ino, found.name)) {
                continue;
            }
            remove_entry(directory.fd.get(), found.name, directory.place.path_of(found.name));
            removed = true;
        }
        if (removed && changed_) {
            changed_(directory.fd.get(), ino, [&directory] { return directory.place.path(); });
        }
    }

private:
    bool belongs(const OpenDirectory& directory, std::uint64_t ino, const std::string& name) const {
        const auto stored = tree_find(context_.repository.nodes(), context_.backup.tree, key::dirent(ino, name));
        if (!stored) {
            return ino == context_.backup.root_ino && std::find(keep_.begin(), keep_.end(), name) != keep_.end();
        }
        const auto status = stat_at(directory.fd.get(), name);
        return status && (status->stx_mode & S_IFMT) == type_bits(decode_dirent(*stored).type);
    }

    RestoreContext& context_;
    const std::vector<std::string>& keep_;
    const DirectoryChanged& changed_;
};

}  // namespace

void remove_foreign(RestoreContext& context, int root, const std::vector<std::string>& keep, const DirectoryChanged& changed) {
    Removal removal(context, keep, changed);
    RestoreTrail trail(open_at(root, ".", kDirectory));
    TreeWalker walker(context.repository, context.backup, context.backup.root_ino);
    TreeStep step;
    bool missing = false;  // the directory just entered
    while (walker.next(step)) {
        if (step.kind == TreeStep::Kind::kEnter) {
            missing = step.depth != 0 && trail.enter(step.entry.name, false) != 0;
            if (missing) {
                walker.skip();
            } else {
                removal.look_through(*trail.top(), step.entry.ino);
            }
        } else if (step.kind == TreeStep::Kind::kLeave) {
            if (!missing && step.depth != 0) {
                trail.leave();
            }
            missing = false;
        }
    }
}

}  // namespace nodesnap
