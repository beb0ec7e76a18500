// Intent: all that is needed to hold a daemon, and to let it go again, by whichever process is left to do it.
//
// It is durable before the daemon is held and removed, durably, after it was let go. While a nodesnap or its guard lives, it is locked.
// docs/design.md, "Holding the daemon, and the guard", says why it looks so.
//
// Errors: nodesnap::Error. Threads: any, one at a time for one object. Privileges: write access to the state directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "platform/file_descriptor.h"
#include "snapshot/hold/options.h"

namespace nodesnap::hold {

// What has been done of a hold, as it is known durably. A freeze stays kPrepared until it is released: its state ends with the boot,
// thawing what isn't frozen does nothing, and a write to disk between the last flush and the hold would cost what it saves.
enum class Phase { kPrepared, kBegun, kReleased };

struct Intent {
    std::string id;  // 16 hexadecimal digits
    Mode mode = Mode::kNone;
    std::string what;      // for messages: "unit qdbd.service", "cgroup /a"
    bool already = false;  // it was frozen, or didn't run, before: it stays so, and is only watched
    Phase phase = Phase::kPrepared;

    std::string boot_id;
    std::int64_t pid = 0;  // nodesnap's
    std::uint64_t process_start = 0;
    std::int64_t created_ns = 0;  // UTC

    std::string cgroup;           // that is frozen; or, for a unit that is stopped, that it runs in; empty if there is none
    std::uint64_t cgroup_id = 0;  // Cgroup::id()
    std::int64_t member_pid = 0;  // a process that must be in it; 0: none
    std::uint64_t member_start = 0;

    std::string unit;
    std::uint64_t active_since_us = 0;  // when the unit that is stopped had become active: by CLOCK_MONOTONIC, as systemd tells; 0: unknown
    std::vector<std::string> dependents;  // that go down with it, and are started with it
    std::string systemctl;
    std::string before_command;
    std::string after_command;
    std::string status_command;

    std::int64_t max_downtime_ns = 0;
    std::int64_t stop_timeout_ns = 0;
    std::int64_t command_limit_ns = 0;
    std::string node_directory;
    bool mount_back = false;  // as Options'
};

std::string encode(const Intent& intent);
// Error::damaged, or Error::refused if a later version wrote it. `name` is for messages.
Intent decode(const std::string& text, const std::string& name);

// The name of the file for what is held: "freeze-%2Fsystem.slice%2Fqdbd.service.json".
std::string intent_name(Mode mode, const std::string& key);

// One intent's file, locked for as long as this object, or another process with the same open file, lives.
class IntentFile {
public:
    static std::string directory_of(const std::string& state_directory);  // "STATE/hold"
    // Makes the directory and the file where they are missing. nullopt if it is locked until `deadline_ns` (monotonic_ns()).
    static std::optional<IntentFile> lock(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns);
    // Only one that is there. nullopt also if there is none.
    static std::optional<IntentFile> lock_existing(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns);
    // The guard's: the parent's open file and directory.
    static IntentFile adopt(FileDescriptor file, FileDescriptor directory, std::string name);

    IntentFile(IntentFile&&) noexcept = default;
    IntentFile& operator=(IntentFile&& other) noexcept {
        std::swap(file_, other.file_);
        std::swap(directory_, other.directory_);
        std::swap(name_, other.name_);
        std::swap(empty_, other.empty_);
        return *this;
    }
    ~IntentFile();  // removes the file if nothing was ever written to it

    // nullopt if it is empty, or was cut off while it was written, so that nothing was ever held by it.
    std::optional<Intent> read() const;
    void write(const Intent& intent);  // durable on return
    void remove();                     // durable on return; fine if it is gone

    int file() const { return file_.get(); }
    int directory() const { return directory_.get(); }
    const std::string& name() const { return name_; }

private:
    IntentFile(FileDescriptor file, FileDescriptor directory, std::string name);
    static std::optional<IntentFile> lock(const std::string& state_directory, const std::string& name, std::int64_t deadline_ns, bool make);

    FileDescriptor file_;
    FileDescriptor directory_;
    std::string name_;
    bool empty_ = true;
};

// Who has written the intent of that name, as far as it can be read without its lock.
std::optional<Intent> peek(const std::string& state_directory, const std::string& name);

}  // namespace nodesnap::hold
