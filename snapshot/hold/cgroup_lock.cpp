#include "snapshot/hold/cgroup_lock.h"

#include <utility>

#include "platform/error.h"

namespace nodesnap::hold {

CgroupLock::CgroupLock(const std::string& path) {
    std::vector<std::string> paths = Cgroup::ancestors(path);
    paths.push_back(path);
    for (const std::string& each : paths) {
        auto cgroup = Cgroup::open(each);
        if (!cgroup) {
            return;
        }
        if (!cgroup->try_lock(each == path)) {
            throw Error::refused("cgroup " + path + " is held by another nodesnap, or one above or below it is", "try again later");
        }
        locked_.push_back(*std::move(cgroup));
    }
}

}  // namespace nodesnap::hold
