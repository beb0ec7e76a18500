// RestorePlace: where a restore goes, whether it may go there, and how it gets there.
//
// Beside: all is made in `<parent>/.<name>.nodesnap-restore/content` (on btrfs a subvolume) and renamed to the destination when it is
// complete and durable. At the root of a mount there is no "beside": all is made in `.nodesnap-restore/content` inside, and moved entry by
// entry, the gate files last. In either case `state` lies next to `content`, and what was staged stays when a restore is cut off, for the
// next run to go on with.
//
// A delta restore lies beside too, and is exchanged for what is there. In place it is as at the root of a mount, but that only the gate
// files are staged.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/restore/local_snapshot.h"
#include "snapshot/restore/state.h"

namespace nodesnap {

struct RestorePlace {
    enum class Kind { kBeside, kMountRoot };

    Kind kind = Kind::kBeside;
    std::string destination;  // absolute, without symlinks
    std::string parent;       // of the destination; for a mount root the destination itself
    std::string staging;
    bool exists = false;  // the destination is there (and, unless `delta`, empty)
    bool delta = false;
    bool in_place = false;
    bool discards_content = false;  // what an earlier run has staged is begun anew
    LocalSnapshot snapshot;         // delta: what is staged begins as a clone of it, if there is one
    std::string old;                // delta: the identity of what is at the destination, which is to go
    std::string keep_old_as;        // where that goes then; empty: it is removed
    bool allow_in_use = false;
    std::string used;  // by whom, if that is allowed; empty: by nobody
    bool subvolume = false;
    std::optional<RestoreState> left;      // by an earlier run of the same restore
    std::optional<std::string> left_text;  // as it was read
    bool placed = false;                   // that one had put it in place already

    std::string state_path() const { return staging + "/state"; }
    std::string content_path() const { return staging + "/content"; }
    std::string placed_as() const;
    std::string staging_name() const { return staging.substr(staging.rfind('/') + 1); }
    bool clones() const { return delta && !in_place; }
};

// Looks and touches nothing. Error::refused where a restore must not go: something is there already, it is in use, it can't be written, or
// an interrupted restore of something else is in the way.
RestorePlace inspect_place(const Repository& repository, const Manifest& backup, const RestoreOptions& options, const RestoreState& wanted);

// Error::refused if a process, or an engine's lock, uses the directory.
void refuse_used(const std::string& directory);
bool holds_nothing(const std::string& directory);  // but lost+found

// Error::refused if the directory is what a restore that was cut off has left half done.
void refuse_unfinished(const std::string& directory);

// Delta: once more before the exchange, since that may be hours later. Error if the destination is in use, or another directory, by now.
void require_still_unused(const RestorePlace& place);

// The staging directory in use. One process at a time: it is locked.
class RestoreStaging {
public:
    // Makes it (`state` is stored before anything else), or goes on with what is there. Notes in `state` which directories they are.
    // Error::refused if another run has been there since inspect_place().
    RestoreStaging(const RestorePlace& place, RestoreState& state);
    int root() const { return destination_ ? destination_.get() : content_.get(); }  // of what is restored
    int directory() const { return directory_.get(); }                               // in place: where the old gate files are
    int content() const { return content_.get(); }                                   // in place: where the gate files go

private:
    FileDescriptor directory_;
    FileDescriptor content_;
    FileDescriptor destination_;  // in place
};

// What the gate file of this number, in the order of the options, is called in the staging directory until the restore is done.
std::string old_gate_name(std::size_t number);
// In place, before the first write: the gate files go where nothing takes them for gate files, durably.
void take_gates_away(const RestorePlace& place, const std::vector<std::string>& gate_files);

// What has been staged, complete and durable, comes to its place, durably. May be done again after it was cut off. At a mount's root
// `prepare` is called with it before the first entry comes, to give it its attributes.
void put_in_place(const RestorePlace& place, const std::vector<std::string>& gate_files, const std::function<void(int root)>& prepare);
// Delta: where it would be removed, it is kept under a name that is free. False if it isn't there any more, or is kept anyway.
bool keep_old_all_the_same(RestorePlace& place);
// Delta: what was at the destination before is kept under another name, or removed. After put_in_place().
void dispose_of_old(const RestorePlace& place);
// Removes the staging directory with the state. The last step.
void remove_staging(const RestorePlace& place);

}  // namespace nodesnap
