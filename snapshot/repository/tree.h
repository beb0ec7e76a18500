// Copy-on-write B+trees of metadata nodes: writing them from sorted input, and reading them back. See docs/format.md.
//
// Nodes are at most 64 KiB before compression and lie in metadata packs. A reader verifies every node (checksum of either copy,
// FlatBuffers Verifier, order of keys, heights) before it is used; damage of one copy goes to the sink, of both is an Error::damaged.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/checksum.h"
#include "io/target/target.h"
#include "io/throttle.h"
#include "snapshot/repository/pack.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

inline constexpr std::size_t kNodeLimit = 64U << 10;
inline constexpr std::size_t kEntriesPerNodeLimit = 16384;

// Writes nodes into metadata packs (up to 16 MiB a copy, two copies), several if need be. One thread. Memory: one pack's nodes.
class NodeWriter {
public:
    using PackIdSource = std::function<PackId()>;
    // `entries_per_node`: fewer than the limit makes high trees of few entries, for tests. `throttle` caps the writes and must outlive
    // this; none: no cap.
    NodeWriter(Target& target, const Uuid& repository, const Hasher& hasher, PackIdSource ids,
               std::size_t entries_per_node = kEntriesPerNodeLimit, Throttle* throttle = nullptr);
    ~NodeWriter();
    std::size_t entries_per_node() const;
    SegmentRef put(std::span<const std::byte> node);  // plain FlatBuffer, at most kNodeLimit
    void finish();                                    // the last pack is complete and durable
    std::uint64_t stored_bytes() const;
    std::vector<PackId> packs() const;  // written so far

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct TreeRoot {
    std::optional<NodeRef> node;  // none: empty
    std::uint64_t count = 0;      // entries
};

// Builds a tree from entries in strictly ascending order of keys; asserts the order. Memory: one node per level.
class TreeBuilder {
public:
    explicit TreeBuilder(NodeWriter& nodes);
    ~TreeBuilder();
    void add(std::string_view key, std::span<const std::byte> value);
    TreeRoot finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The same for one file's map: runs in ascending order, not overlapping. A run that continues the previous one in the same pack is merged
// with it where that is proved to end where its last segment does: all its segments are of kSegmentLimit, or the caller said so
// (`to_segment_end`).
class MapBuilder {
public:
    explicit MapBuilder(NodeWriter& nodes);
    ~MapBuilder();
    void add(const Run& run, bool to_segment_end = false);
    // Up to kInlineRunLimit runs come back in `inline_runs` and no node is written; otherwise `root` is set.
    struct Result {
        std::vector<Run> inline_runs;
        std::optional<NodeRef> root;
        std::uint64_t run_count = 0;
    };
    Result finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct VerifiedNode;

// Fetches nodes, verified and decompressed, through a bounded cache. Thread-safe.
class NodeReader {
public:
    NodeReader(PackCache& packs, const Hasher& hasher, DamageSink sink, std::size_t cache_bytes = 16U << 20);
    ~NodeReader();
    using Buffer = std::shared_ptr<const Bytes>;
    Buffer get(const SegmentRef& at);
    // The same with the view of it, for those who walk trees; see node_format.h.
    std::shared_ptr<const VerifiedNode> get_verified(const SegmentRef& at);
    // Told of each node that is asked for, whatever becomes of it, until the next call. Not while others read.
    void observe(std::function<void(const SegmentRef&)> asked);
    // Reads both copies (verify, repair), unobserved; throws only if neither is good.
    Buffer get_all_copies(const SegmentRef& at);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct TreeEntry {
    std::string key;
    Bytes value;
};

// Walks a tree in key order from a first key on. One thread per cursor. Memory: one node per level.
class TreeCursor {
public:
    TreeCursor(NodeReader& nodes, const TreeRoot& root, std::string_view from = {});
    ~TreeCursor();
    TreeCursor(TreeCursor&&) noexcept;
    bool next(TreeEntry& entry);  // false at the end

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

std::optional<Bytes> tree_find(NodeReader& nodes, const TreeRoot& root, std::string_view key);

// Walks one file's map in order of offsets from `from` on, whether it lies in the inode record or in a tree of its own. The first run may
// begin before `from`.
class MapCursor {
public:
    MapCursor(NodeReader& nodes, const Inode& inode, std::uint64_t from = 0);
    ~MapCursor();
    MapCursor(MapCursor&&) noexcept;
    bool next(Run& run);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nodesnap
