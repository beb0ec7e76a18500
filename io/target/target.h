// Target: a place that holds named immutable objects, and small ones that are compared and swapped. The seam to directories, ssh
// hosts and object stores; it offers only what all of them can do: create if absent, ranged read, list, remove, compare-and-swap.
// No append, no overwrite, no rename. A large object is written strictly from its beginning to its end and appears, whole and durable,
// when it is finished. Correctness must not rest on list() being up to date.
//
// Names are relative, '/'-separated, of [A-Za-z0-9._-]; directories come and go by themselves. All functions may be called from several
// threads at once, except that one writer or reader object is used by one thread at a time. Errors are nodesnap::Error with the object's
// place in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/ring.h"
#include "io/task.h"

namespace nodesnap {

using Bytes = std::vector<std::byte>;

// One large object on its way. Destroyed before finish() it leaves nothing visible under its name.
class ObjectWriter {
public:
    virtual ~ObjectWriter() = default;
    // Appends data at `offset`, which must be where the last write ended. Writes must be started in order; several may be in flight at once
    // on the same ring. Fastest with address, offset and length at multiples of 4096. Completes when the bytes are handed over, not
    // when they are durable. `data` must stay until then.
    virtual Task<void> write(Ring& ring, std::span<const std::byte> data, std::uint64_t offset) = 0;
    // All writes must be done. Makes the object durable, then visible; throws if an object of the name exists (nothing is replaced).
    virtual Task<void> finish(Ring& ring) = 0;
};

class ObjectReader {
public:
    virtual ~ObjectReader() = default;
    virtual std::uint64_t size() const = 0;
    // Reads exactly `into.size()` bytes; a range beyond the end is an Error::damaged. Fastest at multiples of 4096.
    virtual Task<void> read(Ring& ring, std::span<std::byte> into, std::uint64_t offset) = 0;
    // The same, blocking the calling thread.
    virtual void read(std::span<std::byte> into, std::uint64_t offset) = 0;
};

struct ObjectEntry {
    std::string name;  // full name, from the target's root
    std::uint64_t size = 0;
};

// A small object's content and an opaque version of it to compare with.
struct VersionedObject {
    Bytes content;
    std::string version;
    int error_number = 0;  // load_salvaging(): the device's error, when parts of the content are zeros because of it
};

class Target {
public:
    virtual ~Target() = default;

    virtual std::string describe() const = 0;  // for messages: "/backup/node1"
    virtual std::string describe(std::string_view name) const = 0;
    // The directory of this host that holds the objects, absolute and without symlinks, if there is one: for who must know what lies
    // inside what.
    virtual std::optional<std::string> local_directory() const { return std::nullopt; }
    // The errno that says why nothing can be stored here, such as EROFS or EACCES; 0 if things can, as far as is known without trying.
    virtual int write_error() const = 0;
    void check_writable() const;  // Error::refused, with the reason and the remedy
    virtual std::optional<std::uint64_t> free_bytes() const = 0;
    // As many large objects on their way at once are what it takes to use all of it: one where they share a disk, more where each has a
    // connection of its own.
    virtual unsigned streams() const { return 1; }

    // Creates a small object (up to 64 MiB) atomically and durably. False if one of the name exists.
    virtual bool create(std::string_view name, std::span<const std::byte> content) = 0;
    // Begins a large object. `staging_id` names its unfinished state in the journal ("journal/<staging_id>.part") where there is such a
    // thing.
    virtual std::unique_ptr<ObjectWriter> begin(std::string_view name, std::string_view staging_id) = 0;

    // nullptr if there is none.
    virtual std::unique_ptr<ObjectReader> open(std::string_view name) = 0;
    // Whole content of a small object, at most `limit` bytes (more is an Error::damaged); nullopt if there is none.
    virtual std::optional<VersionedObject> load(std::string_view name, std::uint64_t limit) = 0;
    // The same where the device doesn't give all of it: the blocks of 4096 that it can't read are zeros. The version does for a swap() that
    // puts something whole in its place. What can be read of it is for its checksums to say.
    virtual std::optional<VersionedObject> load_salvaging(std::string_view name, std::uint64_t limit) { return load(name, limit); }
    // Replaces (or creates, when `expected` is nullopt) a small object if its version is still `expected`. Atomic and durable. False if it
    // has changed.
    virtual bool swap(std::string_view name, const std::optional<std::string>& expected, std::span<const std::byte> content) = 0;

    // Calls back for every object whose name starts with `prefix` (a directory such as "packs/"), in ascending order of names within a
    // directory.
    virtual void list(std::string_view prefix, const std::function<void(const ObjectEntry&)>& each) = 0;
    // Removes; false if there was none. Durable by the next create(), finish() or swap().
    virtual bool remove(std::string_view name) = 0;
    // Makes all earlier removals in a folder ("backups/") durable, also those by processes that are gone. Of the folder itself, not of
    // folders in it.
    virtual void persist_removals(std::string_view folder) = 0;
    // Removes the unfinished state of those large objects of whose staging id `given_up` says so: they can't be finished any more.
    virtual void abandon(const std::function<bool(std::string_view staging_id)>& given_up) = 0;
};

}  // namespace nodesnap
