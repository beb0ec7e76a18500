// CgroupLock: that nobody else holds a cgroup, or one above or below it, at the same time. Two beside each other don't hinder each other.
//
// Errors: Error::refused if another has it. Threads: one at a time. Privileges: none.
#pragma once

#include <string>
#include <vector>

#include "platform/cgroup.h"

namespace nodesnap::hold {

class CgroupLock {
public:
    CgroupLock() = default;  // holds nothing
    // The cgroup exclusively and each one above it shared, until the object is destroyed or the process ends. Fine if it is gone.
    explicit CgroupLock(const std::string& path);

private:
    std::vector<Cgroup> locked_;
};

}  // namespace nodesnap::hold
