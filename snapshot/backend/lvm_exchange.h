// LvmExchange: two thin volumes of one pool that change places: the one that shows what a node directory is, and one made of a snapshot of
// it. The latter gets the name of the former, which becomes a snapshot of ours. See docs/design.md, "Rolling back a thin volume".
//
// Each call brings about what it says from whichever state a call that was cut off has left, and is durable when it returns. Errors:
// Error::failed. One thread. Needs root.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"
#include "snapshot/backend/lvm_rollback_record.h"

namespace nodesnap {

inline constexpr const char* kExchangeTag = "nodesnap.rollback";  // of what was made, until all is done

// Which of the two is mounted at the place of the node's file system.
enum class LvmShown { kReplaced, kMade, kNothing, kOther };

class LvmExchange {
public:
    explicit LvmExchange(const LvmRollbackNote& note) : note_(note) {}

    LvmShown shown() const;
    // The same, and what was made is shown if it is mounted there, be it beneath the other, which is unmounted then.
    LvmShown uncover() const;
    // The volume by that UUID as it is now; nullopt if there is none.
    std::optional<lvm::Volume> find(const std::string& uuid) const;
    // What is mounted stays so under its other name.
    void exchange_names() const;
    void take_names_back() const;
    // Mounts that volume, as the note says, where the file system of the node was, in the place of what is mounted there, if anything is.
    // As long as somebody has the descriptor that is returned nobody can unmount it; `held` is one of what was mounted before.
    FileDescriptor mount(const std::string& uuid, FileDescriptor held) const;
    // When the one that was made is mounted: the names, whatever they are yet, and what was replaced is a snapshot from now on.
    // Error::failed if something still uses it.
    void complete() const;
    // When what was to be replaced is mounted: its name, whatever it is by now, and there is nothing else any more.
    void take_back() const;

private:
    std::vector<lvm::Volume> volumes() const;
    lvm::Volume need(const std::string& uuid) const;
    void adopt_snapshots(std::vector<lvm::Volume> all, const lvm::Volume& replaced) const;
    void keep_replaced(const lvm::Volume& replaced) const;

    LvmRollbackNote note_;
};

// Ends a rollback of what the directory lies on, or of what was mounted where it was, that was cut off. Says what the directory is now, as
// a sentence; empty if there was none, or one is being done. `directory` need not exist.
std::string finish_lvm_rollback(const std::string& directory);

}  // namespace nodesnap
