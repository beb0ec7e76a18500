// nodesnap release: lets go what a nodesnap that was killed has left held.
#include "snapshot/hold/release.h"

#include <cstdint>
#include <vector>

#include "snapshot/command/command.h"
#include "snapshot/command/printable.h"

namespace nodesnap::command {
namespace {

using hold::Left;

// A guard that was stopped, and is sent on its way, is done within this; and so is a hold that lasts milliseconds, as most do.
constexpr std::int64_t kWaitNs = 2'000'000'000;

void declare(OptionSet& options) {
    options.value("state-dir", "DIR", "where this host remembers what is held (default: /var/lib/nodesnap)");
    options.flag("json", "print the result as a JSON document");
}

const char* name_of(Left::State state) {
    switch (state) {
        case Left::State::kReleased:
            return "released";
        case Left::State::kNothing:
            return "nothing";
        case Left::State::kHeld:
            return "held";
        case Left::State::kFailed:
            return "failed";
    }
    return "failed";
}

std::string sentence_of(const Left& left) {
    std::string what = printable_text(left.what.empty() ? left.name : left.what);
    const std::string whose = left.pid == 0 ? "" : " by nodesnap, process " + std::to_string(left.pid);
    switch (left.state) {
        case Left::State::kReleased:
            return "let go: " + what + ", which was left held" + whose;
        case Left::State::kNothing:
            return "nothing to let go: " + what + " isn't held any more";
        case Left::State::kHeld:
            return "still held: " + what + whose + ", which lives, or its guard does: it lets go by itself";
        case Left::State::kFailed:
            return "NOT let go: " + what + ": " + printable_text(left.error) +
                   (left.hint.empty() ? "" : "\n  hint: " + printable_text(left.hint));
    }
    return what;
}

void write_holds(JsonWriter& document, const std::vector<Left>& all) {
    document.begin_array("holds");
    for (const Left& left : all) {
        document.begin_object();
        document.member("name", left.name);
        document.member("what", left.what);
        document.member("pid", left.pid);
        document.member("state", name_of(left.state));
        document.member("error", left.error);
        document.member("hint", left.hint);
        document.end();
    }
    document.end();
}

// What may stand still for good counts for more than what somebody cares for.
ExitStatus status_of(const std::vector<Left>& all) {
    ExitStatus status = ExitStatus::kDone;
    for (const Left& left : all) {
        if (left.state == Left::State::kFailed) {
            return ExitStatus::kFailed;
        }
        if (left.state == Left::State::kHeld) {
            status = ExitStatus::kRefused;
        }
    }
    return status;
}

ExitStatus run(Call& call) {
    call.end_of_positionals();
    const std::vector<Left> all = hold::release_left(call.options().text("state-dir", "/var/lib/nodesnap"), kWaitNs);
    if (call.json()) {
        write_holds(call.document(), all);
        return status_of(all);
    }
    for (const Left& left : all) {
        call.out() << sentence_of(left) << '\n';
    }
    if (all.empty()) {
        call.out() << "nothing is held\n";
    }
    return status_of(all);
}

}  // namespace

const Command kRelease = {
    "release",
    "let go what a killed nodesnap has left held",
    "nodesnap release [OPTION]...\n",
    "Lets the daemon go on that a backup with --hold has frozen or stopped, if that backup and its guard, the process that looks after\n"
    "the daemon, were both killed, or if the host was restarted meanwhile. What doesn't need it is left alone: what a living nodesnap\n"
    "holds, what somebody has started again, and what had been frozen or stopped before. The next backup with --hold does the same first\n"
    "of all; this command is for a unit at boot and a timer, so that nobody has to wait for that. It may be run at any time.\n",
    "nodesnap release\n"
    "nodesnap release --json\n",
    "0  nothing is held any more\n"
    "1  failed: something may still be held, or what is held can't be found out\n"
    "2  wrong usage\n"
    "3  something is held by a nodesnap, or its guard, that lives\n",
    declare,
    run,
};

}  // namespace nodesnap::command
