// One metadata node: its columns while it is written, and a checked view of one that was read. See docs/format.md, "Metadata nodes".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "snapshot/repository/object_header.h"
#include "snapshot/repository/records.h"
#include "snapshot/repository/tree.h"

namespace nodesnap {

inline constexpr std::uint8_t kHeightLimit = 16;         // levels of a tree
inline constexpr std::size_t kNodeContentLimit = 65000;  // bytes in a node's columns; tables and lengths take less than the rest of 64 KiB

// The packs that a node refers to, each once.
class NodePacks {
public:
    // The bytes that a reference to `id` would add.
    std::size_t cost(const PackId& id) const;
    std::uint16_t index(const PackId& id);
    const std::vector<PackId>& list() const { return list_; }
    void clear();

private:
    std::vector<PackId> list_;
    std::unordered_map<PackId, std::uint16_t, PackIdHash> places_;
    std::uint16_t last_ = 0;  // runs mostly come from the pack of the one before
};

struct NodeChild {
    SegmentRef at;
    std::uint64_t count = 0;  // entries below it
};

// What nodes hold, where it lies: in columns, or in a node that was read.
struct EntryView {
    std::string_view key;
    std::span<const std::byte> value;
};
struct ChildView {
    std::string_view key;
    NodeChild child;
};

// Each holds one node's content; add() is false when it doesn't fit any more. `limit`: entries, at most kEntriesPerNodeLimit. bytes() is
// what counts against kNodeContentLimit; total() is the number of entries below. for_each() gives every
// item in order.
class EntryColumns {
public:
    using Item = EntryView;
    explicit EntryColumns(std::size_t limit = kEntriesPerNodeLimit) : limit_(limit) {}
    bool add(std::string_view key, std::span<const std::byte> value);
    bool add(const EntryView& entry) { return add(entry.key, entry.value); }
    std::size_t size() const { return key_ends_.size(); }
    std::size_t bytes() const { return keys_.size() + values_.size() + size() * kFixedBytes; }
    std::uint64_t total() const { return size(); }
    std::string first_key() const { return keys_.substr(0, key_ends_.front()); }
    template <typename Each>
    void for_each(Each&& each) const {
        std::size_t key = 0;
        std::size_t value = 0;
        for (std::size_t i = 0; i < size(); key = key_ends_[i], value = value_ends_[i], ++i) {
            each(EntryView{std::string_view(keys_).substr(key, key_ends_[i] - key),
                           std::as_bytes(std::span(values_)).subspan(value, value_ends_[i] - value)});
        }
    }
    Bytes encode() const;
    void clear();

private:
    static constexpr std::size_t kFixedBytes = 2 + 2;  // of each entry
    std::size_t limit_;
    std::string keys_, values_;
    std::vector<std::uint16_t> key_ends_, value_ends_;
};

class ChildColumns {
public:
    using Item = ChildView;
    explicit ChildColumns(std::size_t limit = kEntriesPerNodeLimit) : limit_(limit) {}
    bool add(std::string_view key, const NodeChild& child);
    bool add(const ChildView& child) { return add(child.key, child.child); }
    std::size_t size() const { return key_ends_.size(); }
    std::size_t bytes() const { return keys_.size() + size() * kFixedBytes + packs_.list().size() * sizeof(PackId); }
    std::string first_key() const { return keys_.substr(0, key_ends_.front()); }
    std::uint64_t total() const { return total_; }  // entries below all of them
    template <typename Each>
    void for_each(Each&& each) const {
        std::size_t key = 0;
        for (std::size_t i = 0; i < size(); key = key_ends_[i], ++i) {
            each(ChildView{std::string_view(keys_).substr(key, key_ends_[i] - key),
                           {{packs_.list()[pack_indexes_[i]], numbers_[i]}, counts_[i]}});
        }
    }
    Bytes encode(std::uint8_t height) const;
    void clear();

private:
    static constexpr std::size_t kFixedBytes = 2 + 2 + 4 + 8;  // of each child
    std::size_t limit_;
    std::string keys_;
    std::vector<std::uint16_t> key_ends_, pack_indexes_;
    std::vector<std::uint32_t> numbers_;
    std::vector<std::uint64_t> counts_;
    NodePacks packs_;
    std::uint64_t total_ = 0;
};

class RunColumns {
public:
    using Item = Run;
    explicit RunColumns(std::size_t limit = kEntriesPerNodeLimit) : limit_(limit) {}
    bool add(const Run& run);
    std::size_t size() const { return lengths_.size(); }
    std::size_t bytes() const;
    std::uint64_t total() const { return size(); }
    std::uint64_t first_offset() const { return offset_; }
    std::string first_key() const;
    template <typename Each>
    void for_each(Each&& each) const {
        std::uint64_t end = offset_;
        for (std::size_t i = 0; i < size(); end += gaps_[i] + lengths_[i], ++i) {
            each(Run{end + gaps_[i], lengths_[i], flags_[i] == Run::kNone ? packs_.list()[pack_indexes_[i]] : PackId{}, firsts_[i],
                     skips_[i], counts_[i], flags_[i]});
        }
    }
    Bytes encode() const;
    void clear();

private:
    static constexpr std::size_t fixed_bytes(bool gap, bool skip, bool count, bool flag) {
        return 8 + 2 + 4 + (gap ? 8 : 0) + (skip ? 4 : 0) + (count ? 4 : 0) + (flag ? 1 : 0);
    }
    std::size_t limit_;
    std::uint64_t offset_ = 0, end_ = 0;
    std::vector<std::uint64_t> gaps_, lengths_;
    std::vector<std::uint16_t> pack_indexes_;
    std::vector<std::uint32_t> firsts_, skips_, counts_;
    std::vector<std::uint8_t> flags_;
    bool any_gap_ = false, any_skip_ = false, any_count_ = false, any_flag_ = false;
    NodePacks packs_;
};

// A node whose structure was proved: FlatBuffer, lengths of columns, order of keys, indexes of packs, bounds of runs. Points into the
// buffer.
class NodeView {
public:
    enum class Content : std::uint8_t { kEntries, kChildren, kRuns };
    // `bytes` must be aligned at 8 and stay.
    static Parsed<NodeView> parse(std::span<const std::byte> bytes);

    Content content() const { return content_; }
    std::uint8_t height() const { return height_; }
    std::uint32_t size() const { return size_; }
    std::uint64_t total() const { return total_; }  // entries in a leaf, or below an inner node

    std::string_view key(std::uint32_t i) const;              // kEntries, kChildren
    std::span<const std::byte> value(std::uint32_t i) const;  // kEntries
    NodeChild child(std::uint32_t i) const;                   // kChildren
    std::uint64_t first_offset() const { return offset_; }    // kRuns
    // kRuns: number i, which begins `gap` bytes after `end` of the one before it (call in order, from 0 on with end = first_offset()).
    Run run(std::uint32_t i, std::uint64_t end) const;
    std::uint64_t runs_end() const { return runs_end_; }

private:
    const char* parse_entries(const void* table);
    const char* parse_children(const void* table);
    const char* parse_runs(const void* table);
    const char* check_keys();

    Content content_ = Content::kEntries;
    std::uint8_t height_ = 0;
    std::uint32_t size_ = 0;
    std::uint32_t pack_count_ = 0;
    std::uint64_t total_ = 0;
    std::uint64_t offset_ = 0, runs_end_ = 0;
    const char* keys_ = nullptr;
    const std::byte* values_ = nullptr;
    const std::uint16_t *key_ends_ = nullptr, *value_ends_ = nullptr, *pack_indexes_ = nullptr;
    const std::uint32_t *numbers_ = nullptr, *skips_ = nullptr, *counts32_ = nullptr;  // numbers_: of children, or first segments of runs
    const std::uint64_t *counts_ = nullptr, *gaps_ = nullptr, *lengths_ = nullptr;
    const std::uint8_t* flags_ = nullptr;
    const PackId* packs_ = nullptr;
};

struct VerifiedNode {
    VerifiedNode(Bytes content, const NodeView& of_content) : bytes(std::move(content)), view(of_content) {}
    Bytes bytes;
    NodeView view;  // of `bytes`
};

// The key of a file map's inner nodes.
std::string offset_key(std::uint64_t offset);

// Every item of a node that was read, in order; Columns say which content it has.
template <typename Columns, typename Each>
void for_each_item(const NodeView& node, Each&& each) {
    [[maybe_unused]] std::uint64_t end = 0;  // of the run before
    if constexpr (std::is_same_v<Columns, RunColumns>) {
        end = node.first_offset();
    }
    for (std::uint32_t i = 0; i < node.size(); ++i) {
        if constexpr (std::is_same_v<Columns, EntryColumns>) {
            each(EntryView{node.key(i), node.value(i)});
        } else if constexpr (std::is_same_v<Columns, ChildColumns>) {
            each(ChildView{node.key(i), node.child(i)});
        } else {
            const Run run = node.run(i, end);
            end = run.end();
            each(run);
        }
    }
}

}  // namespace nodesnap
