// TreeMaker: makes a snapshot's tree in two goes, so that as little as possible is left for the time in which the daemon is held.
//
//     maker.begin_ahead();    clone_tree(...);     // while the daemon writes; may be left out
//     maker.begin_held(...);  clone_tree(...);     // while nobody writes: after it the tree is as the node directory
//     maker.end_held();
//     maker.settle(...);                           // what was made ahead and has gone is dropped
//
// Errors are nodesnap::Error. Any thread between the steps.
#pragma once

#include <cstdint>
#include <string>

#include "platform/file.h"
#include "snapshot/backend/inode_clone.h"

namespace nodesnap {

class TreeMaker : public InodeClone {
public:
    using InodeClone::InodeClone;

    virtual void begin_ahead() = 0;
    // `until_ns`: by the monotonic clock, when there is no use any more in going on; 0: never.
    virtual void begin_held(std::int64_t until_ns) = 0;
    virtual void end_held() {}
    // `directory`: that the tree lies in.
    virtual void settle(int directory, const std::string& path) = 0;

    // While all is listed ahead: bytes that will have to be copied while the daemon is held.
    virtual std::uint64_t rest_bytes() const { return 0; }
    // Whether a file of the node is as it was, but for what this did to it itself.
    virtual bool is_untouched(const FileStatus&) const { return false; }
};

}  // namespace nodesnap
