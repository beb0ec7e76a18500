// Editing one file's map copy-on-write: a new map is written from an old one, of which only the leaves that changed and the nodes above
// them are new.
#pragma once

#include <cstdint>
#include <memory>

#include "snapshot/repository/tree.h"

namespace nodesnap {

// Edits are ranges of the file, in ascending order and not overlapping; asserts that. Old runs that are partly covered are trimmed, for
// which the footer of a data pack is read if a run of several segments is cut: only of packs that the old map refers to. A range that says
// in the end what it said before is no edit; without an edit nothing is written and the old map comes back. Nodes between edits aren't
// read; a node that is read and damaged, or a run that is cut and names segments which aren't there, is an Error::damaged, after which
// the editor can't be used any more.
// One thread. Memory: three nodes per level, and the indexes that `packs` keeps.
class MapEditor {
public:
    // Of `old`: runs, map, run_count. All references must outlive this.
    MapEditor(NodeReader& old_nodes, PackCache& packs, const Inode& old, NodeWriter& nodes);
    ~MapEditor();

    // The range of `run` holds what it says from now on. `to_segment_end` as in MapBuilder.
    void replace(const Run& run, bool to_segment_end = false);
    // [offset, end) becomes a hole.
    void cut(std::uint64_t offset, std::uint64_t end);

    // Call once, last.
    MapBuilder::Result finish();

    struct Counts {
        std::uint64_t data_added = 0, data_removed = 0;  // bytes of runs with data
        std::uint64_t nodes_written = 0;
    };
    Counts counts() const;  // complete after finish()

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nodesnap
