#include <cstring>

#include "metadata_generated.h"
#include "snapshot/repository/node_format.h"
#include "snapshot/repository/records_runs.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {
namespace {

// The elements of a vector that must have `size` of them; nullptr if it hasn't. The Verifier checks where a vector's length lies, but not
// that elements of 8 bytes are aligned.
template <typename T>
const T* column(const flatbuffers::Vector<T>* vector, std::size_t size) {
    return vector != nullptr && vector->size() == size && aligned<T>(vector->Data()) ? reinterpret_cast<const T*>(vector->Data()) : nullptr;
}

// The same for a vector that may be absent. False if it has the wrong size.
template <typename T>
bool optional_column(const flatbuffers::Vector<T>* vector, std::size_t size, const T*& into) {
    into = column(vector, size);
    return vector == nullptr || into != nullptr;
}

// Ends ascend and lead to the end of what they divide.
bool ends_hold(const std::uint16_t* ends, std::uint32_t count, std::size_t total, bool may_be_empty, std::size_t limit) {
    std::size_t begin = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        if (ends[i] < begin || (!may_be_empty && ends[i] == begin) || ends[i] - begin > limit) {
            return false;
        }
        begin = ends[i];
    }
    return begin == total;
}

}  // namespace

Parsed<NodeView> NodeView::parse(std::span<const std::byte> bytes) {
    using Result = Parsed<NodeView>;
    if (bytes.size() > kNodeLimit) {
        return Result::bad("a node is too large");
    }
    flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 4, 4);
    if (!verifier.VerifyBuffer<format::Node>(nullptr)) {
        return Result::bad("a node is malformed");
    }
    const auto& node = *flatbuffers::GetRoot<format::Node>(bytes.data());
    if ((node.entries() != nullptr) + (node.children() != nullptr) + (node.runs() != nullptr) != 1) {
        return Result::bad("a node has no content, or two");
    }
    NodeView view;
    view.height_ = node.height();
    if (view.height_ >= kHeightLimit || (view.height_ == 0) != (node.children() == nullptr)) {
        return Result::bad("a node's height and content don't agree");
    }
    if (node.packs() != nullptr) {
        view.packs_ = reinterpret_cast<const PackId*>(node.packs()->Data());
        view.pack_count_ = node.packs()->size();
    }
    const char* flaw = node.entries() != nullptr    ? view.parse_entries(node.entries())
                       : node.children() != nullptr ? view.parse_children(node.children())
                                                    : view.parse_runs(node.runs());
    if (flaw != nullptr) {
        return Result::bad(flaw);
    }
    if (view.content_ != Content::kChildren) {
        view.total_ = view.size_;
    }
    return Result::good(view);
}

const char* NodeView::parse_entries(const void* table) {
    const auto& entries = *static_cast<const format::Entries*>(table);
    content_ = Content::kEntries;
    if (entries.keys() == nullptr || entries.key_ends() == nullptr || entries.values() == nullptr || entries.key_ends()->size() == 0) {
        return "a node is empty";
    }
    size_ = entries.key_ends()->size();
    keys_ = reinterpret_cast<const char*>(entries.keys()->Data());
    key_ends_ = column(entries.key_ends(), size_);
    values_ = reinterpret_cast<const std::byte*>(entries.values()->Data());
    value_ends_ = column(entries.value_ends(), size_);
    if (key_ends_ == nullptr || value_ends_ == nullptr || !ends_hold(key_ends_, size_, entries.keys()->size(), false, kKeyLimit) ||
        !ends_hold(value_ends_, size_, entries.values()->size(), true, kValueLimit)) {
        return "a node's columns don't agree";
    }
    return check_keys();
}

const char* NodeView::parse_children(const void* table) {
    const auto& children = *static_cast<const format::Children*>(table);
    content_ = Content::kChildren;
    if (children.keys() == nullptr || children.key_ends() == nullptr || children.key_ends()->size() == 0) {
        return "a node is empty";
    }
    size_ = children.key_ends()->size();
    keys_ = reinterpret_cast<const char*>(children.keys()->Data());
    key_ends_ = column(children.key_ends(), size_);
    pack_indexes_ = column(children.packs(), size_);
    numbers_ = column(children.numbers(), size_);
    counts_ = column(children.counts(), size_);
    if (key_ends_ == nullptr || pack_indexes_ == nullptr || numbers_ == nullptr || counts_ == nullptr ||
        !ends_hold(key_ends_, size_, children.keys()->size(), false, kKeyLimit)) {
        return "a node's columns don't agree";
    }
    for (std::uint32_t i = 0; i < size_; ++i) {
        if (pack_indexes_[i] >= pack_count_ || counts_[i] == 0 || __builtin_add_overflow(total_, counts_[i], &total_)) {
            return "a node's child is out of bounds";
        }
    }
    return check_keys();
}

const char* NodeView::check_keys() {
    for (std::uint32_t i = 1; i < size_; ++i) {
        if (key(i - 1) >= key(i)) {
            return "a node's keys are out of order";
        }
    }
    return nullptr;
}

const char* NodeView::parse_runs(const void* table) {
    const auto& runs = *static_cast<const format::Runs*>(table);
    content_ = Content::kRuns;
    if (runs.lengths() == nullptr || runs.lengths()->size() == 0) {
        return "a node is empty";
    }
    size_ = runs.lengths()->size();
    offset_ = runs.offset();
    lengths_ = column(runs.lengths(), size_);
    pack_indexes_ = column(runs.packs(), size_);
    numbers_ = column(runs.firsts(), size_);
    if (lengths_ == nullptr || pack_indexes_ == nullptr || numbers_ == nullptr || !optional_column(runs.gaps(), size_, gaps_) ||
        !optional_column(runs.skips(), size_, skips_) || !optional_column(runs.counts(), size_, counts32_) ||
        !optional_column(runs.flags(), size_, flags_)) {
        return "a node's columns don't agree";
    }
    if (offset_ > kFileSizeLimit || (gaps_ != nullptr && gaps_[0] != 0)) {
        return "a node's first run is out of bounds";
    }
    std::uint64_t end = offset_;
    for (std::uint32_t i = 0; i < size_; ++i) {
        const bool has_pack = flags_ == nullptr || flags_[i] == Run::kNone;
        if ((gaps_ != nullptr && gaps_[i] > kFileSizeLimit - end) || (has_pack ? pack_indexes_[i] >= pack_count_ : pack_indexes_[i] != 0)) {
            return "a run is out of bounds";
        }
        const Run checked = run(i, end);
        if (const char* flaw = flaw_of(checked, end)) {
            return flaw;
        }
        end = checked.end();
    }
    runs_end_ = end;
    return nullptr;
}

std::string_view NodeView::key(std::uint32_t i) const {
    const std::size_t begin = i == 0 ? 0 : key_ends_[i - 1];
    return {keys_ + begin, key_ends_[i] - begin};
}

std::span<const std::byte> NodeView::value(std::uint32_t i) const {
    const std::size_t begin = i == 0 ? 0 : value_ends_[i - 1];
    return {values_ + begin, value_ends_[i] - begin};
}

NodeChild NodeView::child(std::uint32_t i) const {
    return {{packs_[pack_indexes_[i]], numbers_[i]}, counts_[i]};
}

Run NodeView::run(std::uint32_t i, std::uint64_t end) const {
    Run run;
    run.offset = end + (gaps_ == nullptr ? 0 : gaps_[i]);
    run.length = lengths_[i];
    run.flags = flags_ == nullptr ? 0 : flags_[i];
    run.first = numbers_[i];
    run.skip = skips_ == nullptr ? 0 : skips_[i];
    run.count = counts32_ == nullptr ? 1 : counts32_[i];
    if (run.flags == Run::kNone) {
        run.pack = packs_[pack_indexes_[i]];
    }
    return run;
}

}  // namespace nodesnap
