// Making names and setting an inode's attributes: thin wrappers for code that rebuilds trees.
//
// Every function returns 0 or an errno, since its callers expect some of them (EEXIST, EMLINK, EPERM, EOPNOTSUPP) and know better which
// path to name. `directory` is a descriptor, `name` one entry in it; the entry itself is meant, never what a symlink points to. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace nodesnap::entry {

int make_directory(int directory, const std::string& name, mode_t mode) noexcept;
// `type_and_mode` holds S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK.
int make_node(int directory, const std::string& name, mode_t type_and_mode, std::uint32_t device_major = 0,
              std::uint32_t device_minor = 0) noexcept;
int make_symlink(const std::string& target, int directory, const std::string& name) noexcept;
int link(int from_directory, const std::string& from, int to_directory, const std::string& to) noexcept;
int rename(int from_directory, const std::string& from, int to_directory, const std::string& to) noexcept;  // replaces
int remove(int directory, const std::string& name) noexcept;                                                // not a directory
int remove_directory(int directory, const std::string& name) noexcept;                                      // an empty one

int set_owner(int fd, uid_t uid, gid_t gid) noexcept;
int set_owner_at(int directory, const std::string& name, uid_t uid, gid_t gid) noexcept;
int set_mode(int fd, mode_t mode) noexcept;
int set_mode_at(int directory, const std::string& name, mode_t mode) noexcept;  // not for symlinks: EOPNOTSUPP

struct Times {
    std::int64_t accessed_seconds = 0;
    std::uint32_t accessed_nanoseconds = 0;
    std::int64_t modified_seconds = 0;
    std::uint32_t modified_nanoseconds = 0;
};
int set_times(int fd, const Times& times) noexcept;
int set_times_at(int directory, const std::string& name, const Times& times) noexcept;

int truncate(int fd, std::uint64_t size) noexcept;
// Makes a hole of a range, as far as it covers whole blocks; the rest of it reads as zeros. The size stays.
int punch_hole(int fd, std::uint64_t offset, std::uint64_t length) noexcept;
// `to`, opened for writing, gets the contents of `from` by reference: both share the data until one is written to. EOPNOTSUPP, EXDEV or
// EINVAL where the file system can't do that.
int clone_file(int from, int to) noexcept;
// A further name for what `fd` is open on. Needs CAP_DAC_READ_SEARCH.
int link_open(int fd, int directory, const std::string& name) noexcept;
// `keep_size`: the file's size stays as it is, also for a range beyond it.
int allocate(int fd, bool keep_size, std::uint64_t offset, std::uint64_t length) noexcept;

// Whether this process may make and remove names in a directory, as far as permissions and read-only mounts tell.
bool may_write(const std::string& directory) noexcept;

// Takes an advisory lock (flock) on what `fd` is open on, for as long as it is open; EWOULDBLOCK while another holds it.
int lock_exclusive(int fd) noexcept;
int lock_shared(int fd) noexcept;  // the same; several may hold it

// Lets this process open as many descriptors as the hard limit allows, and with CAP_SYS_RESOURCE at least `wanted`. Returns how many that
// is.
std::uint64_t raise_descriptor_limit(std::uint64_t wanted = 0) noexcept;
std::uint64_t descriptor_limit() noexcept;  // as it is

}  // namespace nodesnap::entry
