#include "snapshot/hold/release.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <optional>

#include "platform/cgroup.h"
#include "platform/clock.h"
#include "platform/directory_stream.h"
#include "platform/error.h"
#include "platform/file.h"
#include "platform/host.h"
#include "platform/pidfd.h"
#include "snapshot/hold/action.h"
#include "snapshot/hold/own_cgroups.h"

namespace nodesnap::hold {
namespace {

std::vector<std::string> intent_names(const std::string& state_directory) {
    const std::string path = IntentFile::directory_of(state_directory);
    std::vector<std::string> names;
    if (!stat_path(path)) {
        return names;
    }
    DirectoryStream stream(open_path(path, O_RDONLY | O_DIRECTORY), path);
    for (DirectoryEntry entry; stream.next(entry);) {
        if (entry.name.ends_with(".json")) {
            names.push_back(entry.name);
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

// None, for a user who may not look.
std::vector<std::string> visible_intent_names(const std::string& state_directory) {
    try {
        return intent_names(state_directory);
    } catch (const Error& error) {
        if (error.error_number() != EACCES) {
            throw;
        }
        return {};
    }
}

std::vector<std::string> intent_ids(const std::string& state_directory) {
    std::vector<std::string> ids;
    for (const std::string& name : intent_names(state_directory)) {
        if (const auto intent = peek(state_directory, name)) {
            ids.push_back(intent->id);
        }
    }
    return ids;
}

bool is_at_or_below(const std::string& path, const std::string& directory) {
    return !directory.empty() && path.starts_with(directory) &&
           (path.size() == directory.size() || directory.back() == '/' || path[directory.size()] == '/');
}

// The guard is found by its cgroup. One that somebody has stopped goes on, and sees what there is to do.
void wake_guard(const Intent& intent) {
    try {
        const auto cgroup = Cgroup::open("/nodesnap-guard." + intent.id);
        for (const pid_t pid : cgroup ? cgroup->processes() : std::vector<pid_t>{}) {
            if (const auto process = Pidfd::open(pid)) {
                process->signal(SIGCONT);
            }
        }
    } catch (const Error&) {
        // Then its lock stays, and that is told.
    }
}

bool nothing_to_undo(const Intent& intent) {
    const bool freeze = intent.mode == Mode::kFreeze;
    return intent.already || intent.phase == Phase::kReleased || (intent.phase == Phase::kPrepared && !freeze) ||
           (freeze && intent.boot_id != boot_id());
}

Left release_one(const std::string& state_directory, const std::string& name, std::int64_t wait_ns) {
    Left left;
    left.name = name;
    if (const auto intent = peek(state_directory, name)) {
        left.what = intent->what;
        left.pid = intent->pid;
        left.intent = *intent;
    }
    try {
        auto file = IntentFile::lock_existing(state_directory, name, 0);
        if (!file) {
            if (const auto intent = peek(state_directory, name)) {
                wake_guard(*intent);
            }
            file = IntentFile::lock_existing(state_directory, name, monotonic_ns() + wait_ns);
        }
        if (!file) {
            const bool there = stat_path(IntentFile::directory_of(state_directory) + "/" + name).has_value();
            left.state = there ? Left::State::kHeld : Left::State::kNothing;
            return left;
        }
        left.state = undo(*file) ? Left::State::kReleased : Left::State::kNothing;
    } catch (const Error& error) {
        left.state = Left::State::kFailed;
        left.error = error.message();
        left.hint = error.hint();
    }
    return left;
}

}  // namespace

std::vector<Left> undo_left(const std::string& state_directory, std::int64_t wait_ns) {
    std::vector<Left> all;
    for (const std::string& name : intent_names(state_directory)) {
        all.push_back(release_one(state_directory, name, wait_ns));
    }
    return all;
}

std::vector<Left> release_left(const std::string& state_directory, std::int64_t wait_ns) {
    std::vector<Left> all = undo_left(state_directory, wait_ns);
    // The intents are looked at when the cgroups have been: who makes one has written its intent before.
    std::optional<std::vector<std::string>> ids;
    sweep_own_cgroups([&](const std::string& id) {
        if (!ids) {
            ids = intent_ids(state_directory);
        }
        return std::find(ids->begin(), ids->end(), id) != ids->end();
    });
    return all;
}

void refuse_held(const std::string& state_directory, const std::string& directory) {
    if (!stat_path(directory)) {
        return;
    }
    const std::string resolved = resolve_path(directory);
    for (const std::string& name : visible_intent_names(state_directory)) {
        const auto intent = peek(state_directory, name);
        if (intent && (is_at_or_below(intent->node_directory, resolved) || is_at_or_below(resolved, intent->node_directory))) {
            throw Error::refused(directory + " is held for a backup, by nodesnap, process " + std::to_string(intent->pid) + ": " +
                                     intent->what + " would be let go meanwhile",
                                 "wait until that is done; if that nodesnap was killed, run `nodesnap release` first");
        }
    }
}

std::optional<Intent> undo(IntentFile& file) {
    auto intent = file.read();
    if (!intent) {
        file.remove();
        return std::nullopt;
    }
    const bool nothing = nothing_to_undo(*intent);
    if (!nothing) {
        try {
            Action::of(*intent)->release(Reason::kLeftBehind, [] {});
        } catch (const Error& error) {
            throw Error::failed(intent->what + " may still be held: " + error.message(), error.hint());
        }
    }
    retire(file, *intent);
    remove_own_cgroups(intent->id);
    return nothing ? std::nullopt : intent;
}

void retire(IntentFile& file, Intent intent) {
    bool told = true;
    try {
        intent.phase = Phase::kReleased;
        file.write(intent);
    } catch (const Error&) {
        told = false;
    }
    try {
        file.remove();
    } catch (const Error&) {
        if (!told) {
            throw;
        }
    }
}

}  // namespace nodesnap::hold
