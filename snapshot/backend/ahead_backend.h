// AheadBackend: a TreeBackend that makes as much of the tree as it can before the daemon is held, in prepare(). Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "snapshot/backend/tree_backend.h"
#include "snapshot/backend/tree_maker.h"

namespace nodesnap {

class AheadBackend : public TreeBackend {
public:
    using TreeBackend::TreeBackend;
    AheadBackend(const AheadBackend&) = delete;
    AheadBackend& operator=(const AheadBackend&) = delete;
    ~AheadBackend() override;

protected:
    // `node`, `tree`, `links`: descriptors of the node directory, of the tree that is made, and of a directory for InodeClone, for as long
    // as the maker lives; so does `nameless`, which is as of InodeClone.
    virtual std::unique_ptr<TreeMaker> make_maker(int node, int tree, int links, NamelessFiles* nameless, TreeStore& store) = 0;
    // Whether there is any use in it.
    virtual bool makes_ahead() const { return true; }
    // Error::refused if it shouldn't be gone on, after all was listed ahead.
    virtual void refuse_too_much(std::uint64_t /*rest_bytes*/) const {}

private:
    struct BegunTree;

    void prepare_more(TreeStore& store, int node) final;
    FileDescriptor begin(TreeStore& store, const std::string& on_disk) final;
    void fill(int node, TreeSnapshot& snapshot) final;
    bool is_ours(const FileStatus& status) const final;

    std::shared_ptr<BegunTree> begin_tree(TreeStore& store, const std::string& on_disk);
    void make_tree(int node, BegunTree& begun, bool tolerates_changes) const;
    void drop_begun(TreeStore& store);

    std::optional<TreeStore> store_;    // to remove what was begun and isn't needed
    std::shared_ptr<BegunTree> begun_;  // until create() takes it
    std::weak_ptr<BegunTree> made_;
};

}  // namespace nodesnap
