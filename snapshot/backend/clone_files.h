// CloneFiles: the regular files of a snapshot that is a tree of clones, by any of their names. What can't be read ends the walk.
#pragma once

#include <dirent.h>

#include <memory>
#include <string>

#include "platform/error.h"
#include "snapshot/drain/source_walk.h"

namespace nodesnap {

class CloneFiles : public SourceSink {
public:
    void found(std::uint64_t, const std::string&, const Dirent&) final {}
    void take(std::unique_ptr<Batch> batch) final {
        for (const SourceEntry& entry : batch->entries) {
            if (entry.d_type == DT_REG) {
                add(*batch->directory, entry.name);
            }
        }
    }
    void unreadable(const std::string&, const Error& error) final { throw error; }
    void lost(std::uint64_t) final {}
    bool stopped() const final { return false; }

protected:
    virtual void add(const SourceDirectory& directory, const std::string& name) = 0;
};

}  // namespace nodesnap
