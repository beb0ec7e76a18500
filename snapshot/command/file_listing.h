// How a backup's files are shown: as lines like those of `ls -l`, and as members of a JSON object.
#pragma once

#include <string>
#include <string_view>

#include "snapshot/command/json_writer.h"
#include "snapshot/repository/repository.h"

namespace nodesnap::command {

const char* type_name(FileType type);        // "file", "directory", "symlink", "fifo", "socket", "character device", "block device"
std::string mode_text(const Inode& inode);   // "-rwsr-x--T"
std::int64_t nanoseconds(const Time& time);  // since 1970, saturating

// Owners by the names that they had when the backup was made, which are in the backup. One thread: the last ones are remembered, since most
// files have the owner of the one before.
class OwnerNames {
public:
    OwnerNames(const Repository& repository, const Manifest& manifest) : repository_(repository), manifest_(manifest) {}
    std::string user(std::uint32_t uid) const;  // empty if it had none
    std::string group(std::uint32_t gid) const;

private:
    struct Named {
        std::string key;
        std::string name;
    };
    std::string look_up(const std::string& key, Named& last) const;
    const Repository& repository_;
    const Manifest& manifest_;
    mutable Named last_user_, last_group_;
};

// "-rw-r--r--  1 qdb      qdb      4096 2024-05-31 14:30:05  data/000012.sst"
std::string file_line(std::string_view path, const Inode& inode, const OwnerNames& owners);
// Members of an open object.
void write_file(JsonWriter& document, std::string_view path, std::uint64_t ino, const Inode& inode, const OwnerNames& owners);

}  // namespace nodesnap::command
