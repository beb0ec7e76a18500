// The host that this runs on: names, ids, CPUs, and its users and groups. Any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace nodesnap {

std::string host_name();
std::string machine_id();  // 32 hex digits of /etc/machine-id, else "host-" and a hash of the host name
std::string boot_id();     // of this boot
unsigned cpu_count();      // that this process may use, at least 1

// nullopt if unknown. Remembered for the life of the process (a bounded number of them).
std::optional<std::string> user_name(uid_t uid);
std::optional<std::string> group_name(gid_t gid);
std::optional<uid_t> user_id(const std::string& name);
std::optional<gid_t> group_id(const std::string& name);

}  // namespace nodesnap
