// DrillPlace: a directory of a drill's own in the scratch directory. It is removed at the end, and so is what a killed drill left there.
//
// Errors: nodesnap::Error. Threads: one. Privileges: write access to the scratch directory.
#pragma once

#include <string>

#include "platform/file_descriptor.h"
#include "snapshot/report.h"

namespace nodesnap {

class DrillPlace {
public:
    // What earlier drills left is removed first; what can't be is a warning.
    DrillPlace(std::string scratch_directory, Report& report);
    DrillPlace(const DrillPlace&) = delete;
    DrillPlace& operator=(const DrillPlace&) = delete;
    ~DrillPlace();  // removes it; what can't be is a warning

    // Where to restore to: nothing is there yet.
    std::string destination() const { return path() + "/node"; }
    std::string path() const { return scratch_directory_ + "/" + name_; }
    // It stays, under a name that no drill removes. Returns the path of what was restored.
    std::string keep();

private:
    bool make();

    const std::string scratch_directory_;
    Report& report_;
    FileDescriptor scratch_;
    std::string name_;
    FileDescriptor lock_;  // on the directory: while it is held the drill lives
    bool kept_ = false;
};

}  // namespace nodesnap
