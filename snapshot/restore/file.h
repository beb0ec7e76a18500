// RestoreFile: one regular file on its way: made, filled by whoever has its data, finished. Used by one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/restore/context.h"
#include "snapshot/restore/parts.h"

namespace nodesnap {

mode_t type_bits(FileType type);  // S_IFREG ...

class RestoreFile {
public:
    RestoreFile(RestoreContext& context, RestoreEntry entry, Inode inode, std::vector<NamedXattr> xattrs, bool xattrs_complete);

    const Inode& inode() const { return inode_; }
    const RestoreEntry& entry() const { return entry_; }
    std::string path() const { return entry_.path(); }
    std::uint64_t data_bytes() const;  // in runs of the inode record and inline content
    // Its inode has several names, and whoever comes first makes it. (Not where files get their names later.)
    bool linked() const { return inode_.links > 1 && !context_.has_basis(RestoreBasis::Kind::kSnapshot); }

    // Makes the file, with the flags that must be there before the data. False if it is a further name of an inode that someone else fills:
    // then nothing is left to do. With `keep` what an earlier run has written stays.
    bool make(bool keep = false);
    bool made() const { return static_cast<bool>(fd_); }
    // It holds something already: made() with its final size, and with the holes that it is to have. Data that isn't known is compared.
    bool held() const { return held_ != Held::kNothing; }
    bool to_be_compared() const { return held_ == Held::kUnknown; }
    // What is to be written, from file offset `start` on.
    RestoreParts parts(std::uint64_t start) const;
    int fd() const { return fd_.get(); }
    // Of what was there before: what it replaces, or the file itself if it is held. -1: there was nothing, or (where nothing lost is
    // accepted) nobody asks.
    int before_fd() const { return replaced_ ? replaced_.get() : held() ? fd_.get() : -1; }
    int direct_fd() const { return direct_fd_.get(); }  // -1: write through fd()
    void open_direct();                                 // where that is possible
    void set_size();                                    // before anything is allocated beyond it
    void allocate(const Run& run) const;                // a range that is allocated but unwritten

    // Content kept in the metadata.
    std::uint64_t write_inline();  // returns the bytes written
    // Sets size, attributes and flags, and closes. `wrote`: its contents aren't what they were, if it was there.
    void finish(std::uint64_t written_end, bool wrote);

private:
    enum class Held { kNothing, kUnknown, kKnown };

    FileDescriptor create(bool keep);
    FileDescriptor open_present();
    void remember_replaced(FileDescriptor file);
    FileDescriptor open_gate_away() const;
    int make_linked(int directory, const std::string& as);
    void use_basis(bool keep);
    bool clone_old();
    FileDescriptor open_old();
    void compare_inline();
    static void truncate_file(int fd, std::uint64_t size, const std::string& path);
    bool changes_cow_of(const Inode& before) const;
    void check_holes();

    RestoreContext& context_;
    RestoreEntry entry_;
    Inode inode_;
    std::vector<NamedXattr> xattrs_;
    bool xattrs_complete_;
    bool size_set_ = false;
    bool present_ = false;  // in place, or of a snapshot: it was there
    bool existed_ = false;  // so it was, or in the old directory; perhaps it is made anew
    bool resized_ = false;
    bool same_inline_ = false;  // what the old directory has of it is what is written
    Held held_ = Held::kNothing;
    std::optional<Inode> before_;  // kKnown: what it holds
    FileDescriptor fd_;
    FileDescriptor direct_fd_;
    FileDescriptor replaced_;  // what was there, where the file is made anew all the same
};

// Makes anything but a regular file or directory, with its attributes. What could not be read when the backup was made is left out.
void restore_other(RestoreContext& context, const RestoreEntry& entry, const Inode& inode, const std::vector<NamedXattr>* xattrs);

}  // namespace nodesnap
