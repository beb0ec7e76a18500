#include "snapshot/repository/made_objects.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "io/sha256.h"
#include "platform/error.h"
#include "platform/file.h"
#include "snapshot/repository/session_record.h"

namespace nodesnap {
namespace {

constexpr std::size_t kSumDigits = 64;
constexpr std::size_t kFileLimit = 64U << 20;

// What a session is, but for what others may have noted of it.
Bytes essence(const Uuid& repository, SessionRecord session) {
    session.suspended = session.condemned = session.lacked_space = false;
    session.stalled = 0;
    return encode_session(repository, session);
}

bool is_of_session(std::string_view object, const SessionId& session) {
    const auto log = layout::parse_pack_log(object);
    return layout::parse_session(object) == session || layout::parse_draft(object) == session || (log && log->session() == session);
}

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

}  // namespace

MadeObjects::MadeObjects(const std::string& state_directory, const Uuid& repository, bool durable)
    : path_(state_directory + "/made/" + repository.text()), repository_(repository), durable_(durable) {
    reload();
}

void MadeObjects::reload() {
    const std::lock_guard lock(mutex_);
    sums_.clear();
    const auto text = read_small_file(path_, kFileLimit);
    for (std::size_t at = 0; text && at < text->size();) {
        const std::size_t end = text->find('\n', at);
        if (end == std::string::npos) {
            break;  // a line that was cut off
        }
        if (end - at > kSumDigits + 1) {
            sums_[text->substr(at + kSumDigits + 1, end - at - kSumDigits - 1)] = text->substr(at, kSumDigits);
        }
        at = end + 1;
    }
}

void MadeObjects::note(std::string_view object, std::span<const std::byte> content) {
    if (const auto session = layout::parse_session(object)) {
        note_sum(object, Sha256::of(essence(repository_, decode_session(content, *session, std::string(object), repository_))));
    } else if (layout::parse_manifest(object) || layout::parse_draft(object) || layout::parse_pack_log(object)) {
        note_sum(object, Sha256::of(content));
    }
}

void MadeObjects::note_sum(std::string_view object, const std::string& sum) {
    const std::lock_guard lock(mutex_);
    if (const auto found = sums_.find(object); found != sums_.end() && found->second == sum) {
        return;
    }
    try {
        append(object, sum);
    } catch (const Error&) {
        if (durable_) {
            throw;
        }
    }
    sums_[std::string(object)] = sum;
}

void MadeObjects::append(std::string_view object, const std::string& sum) {
    const std::string folder = path_.substr(0, path_.rfind('/'));
    const bool is_new = make_directories(folder, 0700);
    const FileDescriptor file = open_path(path_, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    // What another's line was cut off at doesn't spoil this one.
    const std::string line = "\n" + sum + " " + std::string(object) + "\n";
    write_all(file.get(), bytes_of(line), path_);
    if (!durable_) {
        return;
    }
    sync_file(file.get(), path_);
    if (is_new || sums_.empty()) {
        sync_directory(folder);
        sync_directory(folder.substr(0, folder.rfind('/')));
    }
}

bool MadeObjects::made(std::string_view object, std::span<const std::byte> content) const {
    const std::string sum = Sha256::of(content);
    const std::lock_guard lock(mutex_);
    const auto found = sums_.find(object);
    return found != sums_.end() && found->second == sum;
}

bool MadeObjects::knows(std::string_view object) const {
    const std::lock_guard lock(mutex_);
    return sums_.contains(object);
}

bool MadeObjects::made(const SessionRecord& session) const {
    return made(layout::session(session.id), essence(repository_, session));
}

void MadeObjects::end_session(const SessionId& session) {
    const std::lock_guard lock(mutex_);
    const std::size_t known = sums_.size();
    std::erase_if(sums_, [&](const auto& entry) { return is_of_session(entry.first, session); });
    // Their names ascend as their numbers do.
    const auto is_backup = [](const auto& entry) { return entry.first.starts_with(layout::kBackups); };
    auto backups = static_cast<std::size_t>(std::count_if(sums_.begin(), sums_.end(), is_backup));
    std::erase_if(sums_, [&](const auto& entry) { return is_backup(entry) && backups-- > kBackups; });
    if (sums_.size() == known) {
        return;
    }
    try {
        store_all();
    } catch (const Error&) {
        if (durable_) {
            throw;
        }
    }
}

void MadeObjects::store_all() const {
    std::string text;
    for (const auto& [object, sum] : sums_) {
        text.append(sum).append(" ").append(object).append("\n");
    }
    write_file_durably(path_, text, 0600);
}

bool Repository::made_here(const BackupEntry& backup) const {
    if (!keeps_receipts_ || made_ == nullptr) {
        return true;
    }
    const std::string first = layout::manifest({backup.name.sequence, backup.name.utc_seconds, 0});
    if (backup.name.revision != 0) {
        return made_->knows(first);  // later revisions are written on the repository's host alone
    }
    const auto stored = target_->load(first, kManifestObjectLimit);
    return stored && made_->made(first, stored->content);
}

bool Repository::made_here(const SessionRecord& session) const {
    return !keeps_receipts_ || made_ == nullptr || made_->made(session);
}

Repository open_remembering(std::shared_ptr<Target> target, const std::string& state_directory, const DamageSink& sink) {
    bool guarded = false;
    Uuid uuid;
    {
        const Repository plain = Repository::open(target, {});
        uuid = plain.info().uuid;
        guarded = plain.keeps_receipts();
    }
    const auto made = std::make_shared<MadeObjects>(state_directory, uuid, guarded);
    Repository repository = Repository::open(make_remembering_target(std::move(target), made, guarded), sink);
    repository.remember(made);
    return repository;
}

}  // namespace nodesnap
