// NotedVolumes: what the record of a rollback of a logical volume speaks of, as it is now: volumes, and what is mounted where the file
// system of the node was.
//
// Errors: Error::failed. One thread. Needs root.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/lvm.h"
#include "snapshot/backend/lvm_rollback_record.h"

namespace nodesnap {

inline constexpr const char* kExchangeTag = "nodesnap.rollback";  // of what a rollback makes, until all is done

// Which of the two is mounted at the place of the node's file system. A volume that a snapshot is merged into is always kReplaced.
enum class LvmShown { kReplaced, kMade, kNothing, kOther };

class NotedVolumes {
public:
    explicit NotedVolumes(LvmRollbackNote note) : note_(std::move(note)) {}

    const LvmRollbackNote& note() const { return note_; }
    LvmShown shown() const;
    // Error::failed, with what to do, if something else is shown there.
    LvmShown known_shown() const;
    // The volume by that UUID as it is now; nullopt if there is none.
    std::optional<lvm::Volume> find(const std::string& uuid) const;
    // Mounts that volume, as the note says, where the file system of the node was, in the place of what is mounted there, if anything is.
    // As long as somebody has the descriptor that is returned nobody can unmount it; `held` is one of what was mounted before.
    FileDescriptor mount(const std::string& uuid, FileDescriptor held) const;

protected:
    std::vector<lvm::Volume> volumes() const;  // of the group
    lvm::Volume need(const std::string& uuid) const;

private:
    LvmRollbackNote note_;
};

std::optional<lvm::Volume> with_uuid(std::vector<lvm::Volume> volumes, const std::string& uuid);

}  // namespace nodesnap
