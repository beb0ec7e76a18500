// PackCheck: proves the packs that backups need: all copies of what each holds twice, and that what file maps use is there. Packs that
// nobody needs are only counted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "io/progress.h"
#include "snapshot/repository/repository.h"
#include "snapshot/verify/check_plan.h"
#include "snapshot/verify/findings.h"
#include "snapshot/verify/meanwhile.h"
#include "snapshot/verify/pack_ledger.h"

namespace nodesnap {

// Where each segment's plaintext would begin if those of a pack were laid end to end: file maps may use long rows of segments, very often.
class PlainOffsets {
public:
    explicit PlainOffsets(const PackIndex& index);
    std::uint64_t of(std::uint32_t number) const { return offsets_[number]; }
    std::uint32_t next_dropped(std::uint32_t number) const { return next_dropped_[number]; }  // number or above; the pack's size: none

private:
    std::vector<std::uint64_t> offsets_;
    std::vector<std::uint32_t> next_dropped_;
};

class PackCheck {
public:
    // `plan` gets the data packs that backups need. `unfinished` are sessions whose packs no backup needs yet.
    PackCheck(const Repository& repository, NodeReader& nodes, CheckPlan& plan, Meanwhile& meanwhile, std::set<SessionId> unfinished,
              VerifyResult& result, Findings& findings, Progress& progress);
    // `all_backups`: the ledger has the mentions of every backup, so that a pack without any is one that nobody needs.
    void run(PackLedger& ledger, bool all_backups);
    std::uint64_t unneeded() const { return unneeded_; }  // packs that belong to no backup

private:
    // The pack whose facts are being read.
    struct Current {
        PackId id;
        bool started = false;
        bool needed = false;
        std::optional<layout::PackKind> kind;  // of an object of its id
        std::uint64_t size = 0;
        std::uint32_t generation = 0;
        bool tried = false;
        bool went = false;                                     // with a backup that was forgotten meanwhile
        layout::PackKind opened_as = layout::PackKind::kData;  // if it was tried
        std::shared_ptr<const PackReader> pack;
        std::optional<PlainOffsets> offsets;  // of its segments; once a use was seen
    };

    void open(layout::PackKind kind);
    void check_uses(const std::vector<SegmentUse>& uses);
    void finish_pack();
    void check_nodes();
    void count_unneeded();

    const Repository& repository_;
    NodeReader& nodes_;
    CheckPlan& plan_;
    Meanwhile& meanwhile_;
    const std::set<SessionId> unfinished_;
    VerifyResult& result_;
    Findings& findings_;
    Progress& progress_;
    Current current_;
    std::uint64_t unneeded_ = 0, unneeded_bytes_ = 0;
    std::uint64_t pending_ = 0, pending_bytes_ = 0;
};

}  // namespace nodesnap
