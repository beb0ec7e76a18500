// The locks by which database engines keep a second process out of their directory. They tell also of a process that /proc doesn't show:
// of another user, in another pid namespace, or, through a network file system, on another host.
//
// Known are RocksDB's and LevelDB's LOCK (a record lock) and PostgreSQL's postmaster.pid (a process id, which is only believed if that
// process is one of PostgreSQL's). Errors: none; what can't be read isn't locked. Threads: any. Privileges: to read these files.
#pragma once

#include <string>

namespace nodesnap {

// "the database is open: /node/LOCK is locked by process 12 (qdbd)"; empty if no engine has the directory.
std::string engine_lock(const std::string& directory);

}  // namespace nodesnap
