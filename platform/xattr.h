// Extended attributes, by descriptor, or by name for what can't be opened (symlinks, devices, FIFOs, sockets): those go through an
// O_PATH descriptor and /proc/self/fd. Where the file system has no attributes, listing gives none and reading gives nullopt. Setting what
// the file system can't hold is an Error with that errno. POSIX ACLs are the attributes system.posix_acl_access and
// system.posix_acl_default.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nodesnap::xattr {

std::vector<std::string> list(int fd, const std::string& path_for_errors = "");
std::optional<std::vector<std::byte>> get(int fd, const std::string& name, const std::string& path_for_errors = "");
void set(int fd, const std::string& name, std::span<const std::byte> value, const std::string& path_for_errors = "");
bool remove(int fd, const std::string& name, const std::string& path_for_errors = "");  // false if there was none

// The entry `file` in `directory` itself, also if it is a symlink.
std::vector<std::string> list_at(int directory, const std::string& file);
std::optional<std::vector<std::byte>> get_at(int directory, const std::string& file, const std::string& name);
void set_at(int directory, const std::string& file, const std::string& name, std::span<const std::byte> value);
bool remove_at(int directory, const std::string& file, const std::string& name);

// By an O_PATH descriptor of any kind of file.
std::vector<std::string> list_o_path(int o_path_fd, const std::string& path_for_errors = "");
std::optional<std::vector<std::byte>> get_o_path(int o_path_fd, const std::string& name, const std::string& path_for_errors = "");
void set_o_path(int o_path_fd, const std::string& name, std::span<const std::byte> value, const std::string& path_for_errors = "");

}  // namespace nodesnap::xattr
