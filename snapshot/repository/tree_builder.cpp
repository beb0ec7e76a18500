#include "platform/error.h"
#include "snapshot/repository/tree.h"
#include "snapshot/repository/tree_entry_check.h"
#include "snapshot/repository/tree_splice.h"

namespace nodesnap {

struct TreeBuilder::Impl {
    explicit Impl(NodeWriter& nodes) : tree(nodes, nullptr) {}

    TreeSplice<EntryColumns> tree;
    std::string last_key;
};

TreeBuilder::TreeBuilder(NodeWriter& nodes) : impl_(std::make_unique<Impl>(nodes)) {}

TreeBuilder::~TreeBuilder() = default;

void TreeBuilder::add(std::string_view key, std::span<const std::byte> value) {
    check_entry(impl_->last_key, key, value);
    impl_->tree.add(EntryView{key, value});
    impl_->last_key.assign(key);
}

TreeRoot TreeBuilder::finish() {
    return impl_->tree.finish();
}

}  // namespace nodesnap
