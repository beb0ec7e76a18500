// InodeClone: makes in one directory what is the same as an entry of another one: a regular file by reference to its data, unless a class
// that is derived does so in another way. What can't be the same is noted as the CloneOrigin, unless such a class knows what to do with it.
// Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "platform/file.h"
#include "platform/file_descriptor.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/drain/source_directory.h"

namespace nodesnap {

class NamelessFiles;
struct SourceXattr;

class InodeClone {
public:
    // `links`: a directory of its own, in which the clones of files with several names get one more, by which the next name finds them.
    // `nameless`: what regular files become; nullptr: each becomes a file in the directory itself.
    explicit InodeClone(int links, NamelessFiles* nameless = nullptr);
    virtual ~InodeClone() = default;

    // The entry `entry` of the directory `from`, which is no directory, becomes one of the same name in `to`, which has none of that name.
    // Throws Error::system with ENOENT if it has gone, with ESTALE if it has become something else.
    virtual void clone(const SourceDirectory& from, const SourceEntry& entry, int to, const std::string& path);
    // What `from` is, an open directory, becomes `to`: its attributes, after which nothing more is made in it.
    virtual void finish_directory(int from, int to, const std::string& path);

protected:
    // The data of the file `from` becomes that of the new file `to`. Tells where `from` has space that is allocated but
    // unwritten, and that `to` hasn't.
    virtual std::vector<UnwrittenRange> give_content(int from, const FileStatus& status, int to, const std::string& path);
    // The same of a clone that has its data.
    static std::vector<UnwrittenRange> unwritten_of(int file, const FileStatus& status, int clone, const std::string& path);
    // How many names it has that aren't nodesnap's.
    virtual std::uint64_t links_of(const FileStatus& status) const { return status.stx_nlink; }
    // Files of several names are made anew from now on, each once.
    void forget_links() { ++round_; }
    // Of an inode that is to be made. `readable`: a regular file or directory that is open for reading.
    virtual CloneOrigin origin_of(int fd, bool readable, const FileStatus& status, const std::string& path) const;
    // `to`, a file or directory that was just made, has its owner, mode and content; extended attributes and times come after it.
    virtual void begin_attributes(int /*to*/, CloneOrigin& /*origin*/, const std::string& /*path*/) const {}
    // It has its extended attributes by now, and gets its times. `o_path`: it was opened with O_PATH.
    virtual void give_origin(int to, bool o_path, const CloneOrigin& origin, const std::string& path) const;
    // The regular file is what it is to be; it may get more names yet if `several`.
    virtual void end_file(int /*to*/, const FileStatus& /*from*/, bool /*several*/, const CloneOrigin& /*origin*/, const std::string&) {}

    // What was made of an entry that is no directory. Returns 0 or an errno.
    int remove_made(int to, const std::string& name) const;
    NamelessFiles* nameless() const { return nameless_; }

    // Gives the file room of its own where the origin had some; it isn't noted then.
    static void allocate(int to, CloneOrigin& origin, const std::string& path);

private:
    void clone_linked(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    void make(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    FileDescriptor create(int to, const std::string& name, const std::string& path) const;
    void make_file(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    void make_other(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path) const;
    void give_attribute(int to, const SourceXattr& attribute, const std::string& path) const;
    void give_attributes(int from, const FileStatus& status, int to, CloneOrigin& origin, const std::string& path) const;

    const int links_;
    NamelessFiles* const nameless_;
    unsigned round_ = 0;
    std::mutex links_mutex_;
};

}  // namespace nodesnap
