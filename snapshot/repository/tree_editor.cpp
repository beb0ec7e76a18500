#include "snapshot/repository/tree_editor.h"

#include <algorithm>
#include <string>

#include "snapshot/repository/tree_entry_check.h"
#include "snapshot/repository/tree_rewrite.h"
#include "snapshot/repository/tree_splice.h"

namespace nodesnap {

struct TreeEditor::Impl {
    Impl(NodeReader& old_nodes, const TreeRoot& old_root, NodeWriter& nodes)
        : old(old_root), output(nodes, &old_nodes), rewrite(old_nodes, output) {
        if (old.node) {
            rewrite.begin(*old.node, old.count);
        }
    }

    // Decides the fate of all old entries before `key`.
    void go_to(std::string_view key) {
        if (key < position) {
            throw Error::failed("internal error: a metadata tree's edits are out of order", "please report this");
        }
        position.assign(key);
        if (!erased_to.empty()) {
            counts.removed += rewrite.drop_to(std::min<std::string_view>(erased_to, key));
        }
        if (key >= erased_to) {
            erased_to.clear();
        }
        rewrite.keep_to(key);
    }

    // The old entry under the key that go_to() was called with.
    const EntryView* here() { return rewrite.next_before(position + '\0'); }

    const TreeRoot old;
    TreeSplice<EntryColumns> output;
    TreeRewrite<EntryColumns, TreeSplice<EntryColumns>> rewrite;
    std::string position;   // the highest key that was named
    std::string last_put;   // empty: none
    std::string erased_to;  // old entries from `position` up to here go; empty: none
    Counts counts;
};

TreeEditor::TreeEditor(NodeReader& old_nodes, const TreeRoot& old, NodeWriter& nodes)
    : impl_(std::make_unique<Impl>(old_nodes, old, nodes)) {}

TreeEditor::~TreeEditor() = default;

void TreeEditor::put(std::string_view key, std::span<const std::byte> value) {
    Impl& impl = *impl_;
    check_entry(impl.last_put, key, value);
    impl.go_to(key);
    impl.last_put.assign(key);
    if (const EntryView* old = impl.here()) {
        if (std::equal(old->value.begin(), old->value.end(), value.begin(), value.end())) {
            impl.rewrite.keep_item();
            return;
        }
        impl.rewrite.drop_item();
        ++impl.counts.replaced;
    } else {
        impl.rewrite.change();
        ++impl.counts.added;
    }
    impl.output.add(EntryView{key, value});
}

void TreeEditor::erase(std::string_view first, std::string_view end) {
    Impl& impl = *impl_;
    impl.go_to(first);
    if (first < end) {
        impl.erased_to = std::max<std::string_view>(impl.erased_to, end);
    }
}

std::optional<Bytes> TreeEditor::old_value(std::string_view key) {
    impl_->go_to(key);
    const EntryView* old = impl_->here();
    return old != nullptr ? std::optional(Bytes(old->value.begin(), old->value.end())) : std::nullopt;
}

TreeRoot TreeEditor::finish() {
    Impl& impl = *impl_;
    if (!impl.erased_to.empty()) {
        impl.counts.removed += impl.rewrite.drop_to(impl.erased_to);
    }
    impl.rewrite.finish();
    return impl.rewrite.changed() ? impl.output.finish() : impl.old;
}

TreeEditor::Counts TreeEditor::counts() const {
    Counts counts = impl_->counts;
    counts.nodes_written = impl_->output.nodes_written();
    return counts;
}

}  // namespace nodesnap
