// SharingBuilder: trees of small nodes that share every node whose content is the same, as those of successive backups do. Nodes end where
// the hash of a key says so, so that an edit changes the nodes around it and leaves the others alike.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "snapshot/repository/node_format.h"
#include "tests/repository/node_store.h"

namespace nodesnap::test {

class SharingBuilder {
public:
    // About one key in `fanout` ends a node.
    SharingBuilder(NodeStore& store, std::size_t fanout) : store_(store), fanout_(fanout) {}

    TreeRoot tree(const std::map<std::string, Bytes>& entries) {
        std::vector<Node> level;
        EntryColumns leaf(4 * fanout_);
        const auto close = [&] {
            if (leaf.size() != 0) {
                level.push_back({leaf.first_key(), {put(leaf.encode()), leaf.size()}});
                leaf.clear();
            }
        };
        for (const auto& [key, value] : entries) {
            if (!leaf.add(key, value)) {
                close();
                leaf.add(key, value);
            }
            if (ends(key, 0)) {
                close();
            }
        }
        close();
        return above(std::move(level));
    }

    Inode map(const std::vector<nodesnap::Run>& runs) {
        std::vector<Node> level;
        RunColumns leaf(4 * fanout_);
        const auto close = [&] {
            if (leaf.size() != 0) {
                level.push_back({offset_key(leaf.first_offset()), {put(leaf.encode()), leaf.size()}});
                leaf.clear();
            }
        };
        for (const auto& run : runs) {
            if (!leaf.add(run)) {
                close();
                leaf.add(run);
            }
            if (ends(offset_key(run.offset), 0)) {
                close();
            }
        }
        close();
        Inode inode;
        const TreeRoot root = above(std::move(level));
        inode.map = root.node;
        inode.run_count = root.count;
        return inode;
    }

    // Nodes written so far, each once.
    std::size_t nodes() const { return written_.size(); }

private:
    struct Node {
        std::string first_key;
        NodeChild child;
    };

    bool ends(const std::string& key, std::size_t height) const {
        return std::hash<std::string>{}(key + static_cast<char>(height)) % fanout_ == 0;
    }

    SegmentRef put(const Bytes& node) {
        const std::string content(reinterpret_cast<const char*>(node.data()), node.size());
        const auto found = written_.find(content);
        return found != written_.end() ? found->second : written_[content] = store_.writer().put(node);
    }

    TreeRoot above(std::vector<Node> level) {
        if (level.empty()) {
            return {};
        }
        std::uint8_t height = 0;
        while (level.size() > 1) {
            ++height;
            std::vector<Node> parents;
            ChildColumns columns(4 * fanout_);
            const auto close = [&] {
                if (columns.size() != 0) {
                    parents.push_back({columns.first_key(), {put(columns.encode(height)), columns.total()}});
                    columns.clear();
                }
            };
            for (const Node& node : level) {
                if (!columns.add(node.first_key, node.child)) {
                    close();
                    columns.add(node.first_key, node.child);
                }
                // At the top all goes into few nodes, or the tree would grow for ever.
                if (height < 10 && columns.size() > 1 && ends(node.first_key, height)) {
                    close();
                }
            }
            close();
            level = std::move(parents);
        }
        return {NodeRef{level.front().child.at, height}, level.front().child.count};
    }

    NodeStore& store_;
    std::size_t fanout_;
    std::map<std::string, SegmentRef> written_;
};

}  // namespace nodesnap::test
