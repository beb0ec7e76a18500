#include "snapshot/verify/packs.h"

#include <algorithm>
#include <string>

#include "io/units.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "snapshot/repository/pack_salvage.h"

namespace nodesnap {
namespace {

// What is wrong with a use of the pack's segments; empty if nothing is.
std::string flaw_of(const SegmentUse& use, const PackIndex& index, const PlainOffsets& offsets) {
    const std::string named = "segments " + std::to_string(use.first) + " to " + std::to_string(std::uint64_t{use.first} + use.count - 1);
    if (use.count == 0 || use.first >= index.size() || use.count > index.size() - use.first) {
        return "a backup needs " + named + ", but it has only " + std::to_string(index.size());
    }
    if (const std::uint32_t dropped = offsets.next_dropped(use.first); dropped < use.first + use.count) {
        return "a backup needs segment " + std::to_string(dropped) + ", which was dropped";
    }
    const std::uint64_t plain = offsets.of(use.first + use.count) - offsets.of(use.first);
    const std::uint64_t before_last = plain - index.segment(use.first + use.count - 1).plain_length;
    const bool fits = use.length <= plain && use.skip <= plain - use.length;
    if (!fits || use.skip >= index.segment(use.first).plain_length || before_last >= use.skip + use.length) {
        return "a backup needs " + std::to_string(use.length) + " bytes after " + std::to_string(use.skip) + " of " + named +
               ", which hold " + std::to_string(plain);
    }
    return "";
}

}  // namespace

PlainOffsets::PlainOffsets(const PackIndex& index) : offsets_(index.size() + 1), next_dropped_(index.size() + 1, index.size()) {
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        offsets_[number + 1] = offsets_[number] + index.segment(number).plain_length;
    }
    for (std::uint32_t number = index.size(); number-- > 0;) {
        next_dropped_[number] = index.segment(number).plain_length == 0 ? number : next_dropped_[number + 1];
    }
}

PackCheck::PackCheck(const Repository& repository, NodeReader& nodes, CheckPlan& plan, Meanwhile& meanwhile, std::set<SessionId> unfinished,
                     VerifyResult& result, Findings& findings, Progress& progress)
    : repository_(repository),
      nodes_(nodes),
      plan_(plan),
      meanwhile_(meanwhile),
      unfinished_(std::move(unfinished)),
      result_(result),
      findings_(findings),
      progress_(progress) {}

void PackCheck::run(PackLedger& ledger, bool all_backups) {
    PackFact fact;
    while (ledger.next(fact)) {
        if (!current_.started || fact.id != current_.id) {
            finish_pack();
            current_ = {};
            current_.id = fact.id;
            current_.started = true;
            throw_if_interrupted();
        }
        switch (fact.kind) {
            case PackFact::Kind::kExists:
                current_.kind = fact.pack_kind;
                current_.size = fact.size;
                current_.generation = std::max(current_.generation, fact.generation);
                break;
            case PackFact::Kind::kMentioned:
                current_.needed = true;
                break;
            case PackFact::Kind::kUsed:
                current_.needed = true;
                open(layout::PackKind::kData);
                check_uses(fact.uses);
                break;
        }
    }
    finish_pack();
    if (all_backups && unneeded_ != 0) {
        findings_.inform(std::to_string(unneeded_) + " packs (" + human_bytes(unneeded_bytes_) + ") belong to no backup");
    }
    if (pending_ != 0) {
        findings_.inform(std::to_string(pending_) + " packs (" + human_bytes(pending_bytes_) + ") belong to a backup that isn't finished");
    }
}

void PackCheck::open(layout::PackKind kind) {
    if (current_.tried) {
        return;
    }
    current_.tried = true;
    current_.opened_as = kind;
    bool reported = false;
    const DamageSink sink = [&](const Damage& damage) {
        reported = true;
        findings_.add(damage);
    };
    try {
        current_.pack = PackReader::open(repository_.target(), repository_.info().uuid, kind, current_.id, sink, true);
        ++result_.objects;
    } catch (const Error& error) {
        if (!is_damage(error)) {
            throw;
        }
        // One that wasn't there at the beginning can't have gone since: the backups that need it were read later.
        if (!reported && current_.kind && meanwhile_.pack_went(kind, current_.id)) {
            current_.went = true;
            return;
        }
        if (!reported) {
            const bool missing = !current_.kind && error.status() == ExitStatus::kDamaged;
            findings_.add({layout::pack({kind, current_.id, 0}), missing ? "it is missing" : error.message(), false});
        }
        findings_.lose(current_.id, {});
    }
}

void PackCheck::check_uses(const std::vector<SegmentUse>& uses) {
    if (current_.pack == nullptr) {
        return;
    }
    if (!current_.offsets) {
        current_.offsets.emplace(current_.pack->index());
    }
    for (const SegmentUse& use : uses) {
        const std::string flaw = flaw_of(use, current_.pack->index(), *current_.offsets);
        if (!flaw.empty()) {
            findings_.add({current_.pack->object(), flaw, false});
            const std::uint64_t end = std::uint64_t{use.first} + std::max<std::uint32_t>(use.count, 1);
            findings_.lose(current_.id, {use.first, static_cast<std::uint32_t>(std::min<std::uint64_t>(end - 1, LostSegments::kAll)), 0,
                                         LostSegments::kAll});
        }
    }
}

void PackCheck::finish_pack() {
    if (!current_.started) {
        return;
    }
    if (!current_.needed) {
        count_unneeded();
        return;
    }
    open(current_.kind.value_or(layout::PackKind::kNodes));
    if (current_.pack == nullptr) {
        if (current_.opened_as == layout::PackKind::kData && !current_.went) {
            current_.kind ? plan_.add_unreadable(current_.id, current_.generation, current_.size) : plan_.add_missing(current_.id);
        }
        return;
    }
    if (current_.pack->index().kind() == layout::PackKind::kNodes) {
        check_nodes();
        return;
    }
    result_.segments += current_.pack->index().size();
    plan_.add(std::move(current_.pack));
}

void PackCheck::check_nodes() {
    const PackIndex& index = current_.pack->index();
    for (std::uint32_t number = 0; number < index.size(); ++number) {
        if (index.segment(number).plain_length == 0) {
            continue;
        }
        throw_if_interrupted();
        try {
            nodes_.get_all_copies({current_.id, number});  // what is wrong goes to its sink
        } catch (const Error& error) {
            if (!is_damage(error)) {
                throw;
            }
        }
        ++result_.nodes;
        result_.bytes_read += 2 * std::uint64_t{index.segment(number).stored_length};
        progress_.bytes_done.fetch_add(2 * std::uint64_t{index.segment(number).stored_length}, std::memory_order_relaxed);
    }
}

void PackCheck::count_unneeded() {
    const bool pending = unfinished_.contains(current_.id.session());
    (pending ? pending_ : unneeded_) += 1;
    (pending ? pending_bytes_ : unneeded_bytes_) += current_.size;
}

}  // namespace nodesnap
