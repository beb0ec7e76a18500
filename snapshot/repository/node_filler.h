// Divides a stream of items into the nodes of one level of a tree.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "snapshot/repository/node_format.h"

namespace nodesnap {

// A node is written when the one after it is full, so that the last two can share what they have where the last one would be thin.
// Memory: two nodes.
template <typename Columns>
class NodeFiller {
public:
    using Item = typename Columns::Item;
    using Write = std::function<void(const Columns& node)>;  // never empty

    NodeFiller(std::size_t limit, Write write) : limit_(limit), write_(std::move(write)), full_(limit), open_(limit) {}

    // The next item; what it points at is copied.
    void add(const Item& item) {
        if (open_.add(item)) {
            return;
        }
        if (full_.size() != 0) {
            write_(full_);
        }
        full_.clear();
        std::swap(full_, open_);
        open_.add(item);
    }

    std::size_t size() const { return full_.size() + open_.size(); }
    // Whether what isn't written would make a node that is under a quarter full; `to_come` more items are certain.
    bool thin(std::size_t to_come = 0) const { return full_.size() == 0 && thin(open_, to_come); }
    // Ends the node: the next item begins another one.
    void close() {
        if (full_.size() != 0 && open_.size() != 0 && thin(open_, 0)) {
            share();
        } else {
            if (full_.size() != 0) {
                write_(full_);
            }
            if (open_.size() != 0) {
                write_(open_);
            }
        }
        full_.clear();
        open_.clear();
    }

    // The node that isn't full yet, for those who put other items before its own.
    Columns take_open() { return std::exchange(open_, Columns(limit_)); }
    // Of all that isn't written.
    template <typename Each>
    void for_each(Each&& each) const {
        full_.for_each(each);
        open_.for_each(each);
    }

private:
    bool thin(const Columns& columns, std::size_t to_come) const {
        const std::size_t items = columns.size() + to_come;
        return items != 0 && columns.bytes() * 4 <= kNodeContentLimit && (items == 1 || items * 4 <= limit_);
    }

    void share() {
        const std::size_t half_items = (size() + 1) / 2;
        const std::size_t half_bytes = (full_.bytes() + open_.bytes()) / 2;
        // Whichever is scarce: the limit of items, or that of bytes.
        const bool by_items = half_items * kNodeContentLimit > half_bytes * limit_;
        Columns part(limit_);
        bool halved = false;
        for_each([&](const Item& item) {
            const bool is_half = by_items ? part.size() >= half_items : part.bytes() >= half_bytes;
            if ((is_half && !halved) || !part.add(item)) {
                halved = true;
                write_(part);
                part.clear();
                part.add(item);
            }
        });
        write_(part);
    }

    std::size_t limit_;
    Write write_;
    Columns full_, open_;
};

}  // namespace nodesnap
