// NodeStore: metadata packs in memory, for tests that write nodes and read them back.
#pragma once

#include <memory>
#include <optional>

#include "snapshot/repository/tree.h"
#include "tests/repository/sample.h"

namespace nodesnap::test {

class NodeStore {
public:
    MemoryTarget target;
    Damages damages;

    // `entries_per_node`: see NodeWriter.
    explicit NodeStore(std::size_t entries_per_node = kEntriesPerNodeLimit) : entries_per_node_(entries_per_node) {}

    NodeWriter& writer() {
        if (!writer_) {
            writer_.emplace(
                target, sample_uuid(), Hasher(kSampleSeed), [this] { return sample_pack(next_pack_++); }, entries_per_node_);
        }
        return *writer_;
    }
    // From now on: for nodes of another width.
    void set_entries_per_node(std::size_t entries_per_node) {
        finish_writing();
        writer_.reset();
        entries_per_node_ = entries_per_node;
    }
    void finish_writing() {
        if (writer_) {
            writer_->finish();
        }
        reopen();
    }
    // Forgets all that is cached.
    void reopen(std::size_t cache_bytes = 16U << 20) {
        reader_.reset();
        packs_ = std::make_unique<PackCache>(target, sample_uuid(), damages.sink());
        reader_ = std::make_unique<NodeReader>(*packs_, Hasher(kSampleSeed), damages.sink(), cache_bytes);
    }
    // Leaves the next pack's number to the test.
    void skip_pack() { ++next_pack_; }
    PackCache& packs() { return *packs_; }
    NodeReader& reader() { return *reader_; }

private:
    std::size_t entries_per_node_;
    std::uint32_t next_pack_ = 0;
    std::optional<NodeWriter> writer_;
    std::unique_ptr<PackCache> packs_;
    std::unique_ptr<NodeReader> reader_;
};

}  // namespace nodesnap::test
