#include "snapshot/command/cluster_table.h"

#include <algorithm>
#include <chrono>

#include "io/units.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

using cluster::Member;
using cluster::Stage;

constexpr std::size_t kColumns = 79;

std::string progress_of(const Member& member) {
    std::string text = human_bytes(member.bytes_done);
    if (member.bytes_total != 0) {
        const double share = std::min(1.0, static_cast<double>(member.bytes_done) / static_cast<double>(member.bytes_total));
        text += " of " + human_bytes(member.bytes_total) + " (" + std::to_string(static_cast<int>(share * 100)) + " %)";
    }
    if (member.rate != 0) {
        text += ", " + human_rate(static_cast<double>(member.rate));
        if (member.bytes_total > member.bytes_done) {
            const double seconds =
                std::min(static_cast<double>(member.bytes_total - member.bytes_done) / static_cast<double>(member.rate), 1e9);
            text += ", " + human_duration(std::chrono::seconds(static_cast<std::int64_t>(seconds) + 1)) + " left";
        }
    }
    return text;
}

}  // namespace

std::string line_of(const Member& member, std::size_t name_columns) {
    std::string text = printable_name(member.address.name);
    text += std::string(name_columns - std::min(name_columns, columns_of(text)) + 2, ' ');
    text += text_of(member.stage);
    if (member.stage == Stage::kDraining) {
        text += ": " + progress_of(member);
    } else if (member.stage == Stage::kFailed) {
        text += ": " + printable_text(member.error->message());
    } else if ((member.stage == Stage::kHere || member.stage == Stage::kAsked) && !member.phase.empty()) {
        text += ": " + printable_text(member.phase);
    }
    return text.substr(0, kColumns);
}

void ClusterTable::show(const cluster::Members& members, const std::string& phase) {
    if (!shown_) {
        return;
    }
    clear();
    std::size_t columns = 0;
    for (std::size_t index = 0; index < members.size(); ++index) {
        columns = std::max(columns, columns_of(printable_name(members[index].address.name)));
    }
    out_ << phase << '\n';
    for (std::size_t index = 0; index < members.size(); ++index) {
        out_ << "  " << line_of(members[index], columns) << '\n';
    }
    out_ << std::flush;
    lines_ = members.size() + 1;
}

void ClusterTable::clear() {
    if (lines_ != 0) {
        out_ << "\033[" << lines_ << "A\033[J" << std::flush;
        lines_ = 0;
    }
}

}  // namespace nodesnap::command
