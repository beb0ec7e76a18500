// RestoreLinks: makes hard links again, in bounded memory. Every inode with several names is made under its number in a directory of its
// own, and all its names are links to that; the directory is removed at the end.
//
// Whoever makes the inode writes its content; the others only link, also while it is being written: the restore is complete when all
// batches are. A run that goes on after an interruption trusts nothing that earlier runs left: it takes an inode over from their
// directories (so that names linked then stay names of it) and writes it anew. Where the file system allows fewer links than the backup
// needs, the rest becomes a further copy, reported. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/restore/warnings.h"

namespace nodesnap {

class RestoreLinks {
public:
    // `root` is the directory that is restored into (it must outlive this), `name` that of the directory of links in it.
    RestoreLinks(int root, std::string name, std::uint32_t run, RestoreWarnings& warnings);

    // Makes the inode if it isn't there. `make` makes it under the name given in the directory given and returns 0 or an errno (EEXIST is
    // expected). True if the caller is to fill it: it was just made, or taken over from an earlier run.
    using Make = std::function<int(int directory, const std::string& name)>;
    bool claim(std::uint64_t ino, const Make& make);
    // Gives the inode another name. False if it has gone, because it couldn't have more names: claim() it again.
    bool link(std::uint64_t ino, int directory, const std::string& name, const std::function<std::string()>& path);

    // For whoever makes an inode of a file that is there: false if that was taken for one already.
    bool take_present(std::uint64_t present_ino);

    // Between the two the inode is known, also to later runs, as one that whoever claimed it hasn't filled.
    void filling(std::uint64_t ino);
    void filled(std::uint64_t ino);
    bool left_unfilled(std::uint64_t ino) const;  // by an earlier run

    int directory() const { return current_.get(); }  // after a claim()
    bool used() const;                                // there are such inodes
    static std::string entry_name(std::uint64_t ino) { return std::to_string(ino); }

    // Removes the directory of links, all runs' of it.
    static void remove(int root, const std::string& name);

private:
    void prepare();
    bool take_over(const std::string& entry);

    const int root_;
    const std::string name_;
    const std::uint32_t run_;
    std::once_flag prepared_;
    FileDescriptor directory_;
    FileDescriptor current_;
    std::vector<FileDescriptor> earlier_;
    std::mutex full_;  // for whoever makes the name under the number the last one of its inode
    RestoreWarnings& warnings_;
};

}  // namespace nodesnap
