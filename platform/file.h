// Opening, reading, writing, naming and syncing files: thin wrappers that retry EINTR, go on after short reads and writes, and throw
// nodesnap::Error with operation and path. All descriptors are O_CLOEXEC. Any thread.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "platform/file_descriptor.h"

namespace nodesnap {

// `path` relative to the directory descriptor `dir` (or AT_FDCWD), at most PATH_MAX.
FileDescriptor open_at(int dir, const std::string& path, int flags, mode_t mode = 0);
FileDescriptor open_path(const std::string& path, int flags, mode_t mode = 0);
// What lies below the directory `top`, without following symlinks or "..", which are an ELOOP and an EXDEV.
FileDescriptor open_beneath(int top, const std::string& relative, int flags, const std::string& path_for_errors);
// A path of any length below `root`, walked in pieces; a symlink in any component is refused (ELOOP), also as the last one unless flags
// hold O_PATH. An empty path or "." opens the root itself again. ".." isn't allowed (EINVAL). Missing directories aren't made.
FileDescriptor open_long(int root, std::string_view relative_path, int flags, mode_t mode = 0);
// As open_long, but a failure is an errno (negative result) instead of an exception: for walks that expect ENOENT.
int try_open_long(int root, std::string_view relative_path, int flags, mode_t mode = 0) noexcept;
// Takes a status flag (O_DIRECT, O_NONBLOCK) off an open descriptor. False if it wasn't set.
bool clear_status_flag(int fd, int flag) noexcept;

// Reads up to into.size() bytes at `offset`, fewer only at the end of the file. Returns the number read.
std::size_t pread_some(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path);
// Exactly into.size() bytes; an end of file before that is an Error ("cannot read from ...: unexpected end of file").
void pread_exact(int fd, std::span<std::byte> into, std::uint64_t offset, const std::string& path);
void read_exact(int fd, std::span<std::byte> into, const std::string& path);  // at the file position: pipes, sockets
void pwrite_all(int fd, std::span<const std::byte> from, std::uint64_t offset, const std::string& path);
// Up to `length` bytes of one file to the same place of another, in the kernel where it can. Returns how many, 0 at the end of the file.
std::uint64_t copy_some(int from, int to, std::uint64_t offset, std::uint64_t length, const std::string& path);
void write_all(int fd, std::span<const std::byte> from, const std::string& path);

void sync_file(int fd, const std::string& path, bool data_only = false);  // fsync or fdatasync
void sync_directory(int fd, const std::string& path);
void sync_directory(const std::string& path);
void sync_file_system(int fd, const std::string& path);  // syncfs

void rename_file(const std::string& from, const std::string& to);                                  // replaces
bool rename_no_replace(int from_dir, const std::string& from, int to_dir, const std::string& to);  // false if `to` exists
bool rename_no_replace(const std::string& from, const std::string& to);
void rename_exchange(int from_dir, const std::string& from, int to_dir, const std::string& to);
void rename_exchange(const std::string& from, const std::string& to);
bool remove_file(const std::string& path);       // false if there was none
bool remove_directory(const std::string& path);  // false if there was none

// Makes `path` and its missing parents (mode before umask), each durable in its parent. True if `path` itself was made; a path that is a
// directory already (or a symlink to one) is fine.
bool make_directories(const std::string& path, mode_t mode = 0777);

using FileStatus = struct statx;
// Basic stats, STATX_BTIME and STATX_MNT_ID, of the descriptor itself.
FileStatus stat_fd(int fd, const std::string& path_for_errors = "");
// nullopt when there is no such name (ENOENT, ENOTDIR). Flags: AT_SYMLINK_NOFOLLOW etc.
std::optional<FileStatus> stat_at(int dir, const std::string& name, int flags = AT_SYMLINK_NOFOLLOW);
std::optional<FileStatus> stat_path(const std::string& path, int flags = 0);
std::uint64_t device_of(const FileStatus& status);  // major and minor in one number, as makedev()
std::string read_link(int dir, const std::string& name, const std::string& path_for_errors = "");  // name "": of `dir` itself, O_PATH
std::string resolve_path(const std::string& path);  // realpath: absolute, no symlinks; throws if it doesn't exist

// For who reads a regular file while others write: returns when a buffered write that was under way has ended, where ext4 or btrfs would
// give the reader a part of it. (XFS makes each reader wait.)
void wait_for_writer(int fd, const std::string& path_for_errors);

// Whole content; nullopt if there is no such file. At most `limit` bytes are taken.
std::optional<std::string> read_small_file(const std::string& path, std::size_t limit = 1u << 20);
// Replaces `path` atomically and durably: a temporary file beside it, fsync, rename, fsync of the directory.
void write_file_durably(const std::string& path, std::string_view content, mode_t mode = 0644);

}  // namespace nodesnap
