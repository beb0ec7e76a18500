// InodeClone: makes in one directory what is the same as an entry of another one: a regular file by reference to its data, unless a class
// that is derived does so in another way. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "platform/file.h"
#include "snapshot/backend/clone_origin.h"
#include "snapshot/drain/source_directory.h"

namespace nodesnap {

class InodeClone {
public:
    // `links`: a directory of its own, in which the clones of files with several names get one more, by which the next name finds them.
    explicit InodeClone(int links);
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
    // How many names it has that aren't nodesnap's.
    virtual std::uint64_t links_of(const FileStatus& status) const { return status.stx_nlink; }
    // Files of several names are made anew from now on, each once.
    void forget_links() { ++round_; }

private:
    void clone_linked(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    void make(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    void make_file(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);
    static void make_other(const SourceEntry& entry, const FileStatus& status, int opened, int to, const std::string& path);

    const int links_;
    unsigned round_ = 0;
    std::mutex links_mutex_;
};

}  // namespace nodesnap
