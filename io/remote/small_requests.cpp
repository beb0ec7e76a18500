#include "io/remote/small_requests.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "io/target/object_name.h"

namespace nodesnap::remote {
namespace {

struct GivenUp {};  // the client wants no more parts

Bytes flag(bool value) {
    return MessageWriter().number(value ? 1 : 0).take();
}

Bytes joined(std::span<const std::byte> content, std::span<const std::byte> rest) {
    Bytes whole(content.begin(), content.end());
    whole.insert(whole.end(), rest.begin(), rest.end());
    if (whole.size() > kSmallObjectLimit) {
        throw Error::failed("an object is too large to be stored at once");
    }
    return whole;
}

// Whoever asks may be hostile, and a target takes it for a mistake of the program.
std::string object_name(MessageReader& message) {
    std::string name = message.text();
    check_object_name(name);
    return name;
}

// "backups/", or a beginning of names in it.
std::string folder_prefix(MessageReader& message) {
    std::string prefix = message.text();
    if (const std::string folder = folder_of(prefix); !folder.empty()) {
        check_object_name(folder);
    }
    return prefix;
}

Bytes load(Target& target, FrameKind kind, MessageReader& message) {
    const std::string name = object_name(message);
    const std::uint64_t limit = std::min<std::uint64_t>(message.number(), kSmallObjectLimit);
    message.end();
    const auto found = kind == FrameKind::kLoad ? target.load(name, limit) : target.load_salvaging(name, limit);
    if (!found) {
        return flag(false);
    }
    return MessageWriter()
        .number(1)
        .number(static_cast<std::uint64_t>(found->error_number))
        .text(found->version)
        .rest(found->content)
        .take();
}

Bytes state(const Target& target) {
    const auto free = target.free_bytes();
    return MessageWriter().number(static_cast<std::uint64_t>(target.write_error())).number(free ? 1 : 0).number(free.value_or(0)).take();
}

// Durable before it is answered: what another connection stores next may rest on it.
Bytes remove(Target& target, MessageReader& message) {
    const std::string name = object_name(message);
    message.end();
    const bool was_there = target.remove(name);
    target.persist_removals(folder_of(name) + "/");
    return flag(was_there);
}

Bytes give_up(Target& target, MessageReader& message) {
    std::set<std::string, std::less<>> ids;
    while (!message.at_end()) {
        ids.insert(message.text());
    }
    target.abandon([&](std::string_view id) { return ids.contains(id); });
    return {};
}

// Gathers entries to parts of about half a frame.
class Parts {
public:
    explicit Parts(const PartSink& sink) : sink_(sink) {}
    MessageWriter& message() { return message_; }
    void after_entry() {
        if (message_.size() >= kPiece / 2) {
            flush();
        }
    }
    void flush() {
        if (message_.size() > 0 && !sink_(std::exchange(message_, MessageWriter()).take())) {
            throw GivenUp{};
        }
    }

private:
    const PartSink& sink_;
    MessageWriter message_;
};

}  // namespace

SwapRequest decode_swap(std::span<const std::byte> payload, std::span<const std::byte> content) {
    MessageReader message(payload);
    SwapRequest request;
    request.name = object_name(message);
    const bool is_there = message.number() != 0;
    std::string version = message.text();
    if (is_there) {
        request.expected = std::move(version);
    }
    request.content = joined(content, message.rest());
    return request;
}

bool changes_something(FrameKind kind) {
    switch (kind) {
        case FrameKind::kCreate:
        case FrameKind::kSwap:
        case FrameKind::kRemove:
        case FrameKind::kPersist:
        case FrameKind::kGiveUp:
        case FrameKind::kBegin:
            return true;
        default:
            return false;
    }
}

Bytes answer_small(Target& target, FrameKind kind, std::span<const std::byte> payload, std::span<const std::byte> content) {
    MessageReader message(payload);
    switch (kind) {
        case FrameKind::kState:
            return state(target);
        case FrameKind::kCreate: {
            const std::string name = object_name(message);
            return flag(target.create(name, joined(content, message.rest())));
        }
        case FrameKind::kSwap: {
            const SwapRequest request = decode_swap(payload, content);
            return flag(target.swap(request.name, request.expected, request.content));
        }
        case FrameKind::kRemove:
            return remove(target, message);
        case FrameKind::kPersist:
            target.persist_removals(folder_prefix(message));
            return {};
        case FrameKind::kLoad:
        case FrameKind::kLoadSalvaging:
            return load(target, kind, message);
        case FrameKind::kGiveUp:
            return give_up(target, message);
        default:
            throw Error::failed("a request of an unknown kind (" + std::to_string(static_cast<unsigned>(kind)) + ")");
    }
}

bool is_answered_in_parts(FrameKind kind) {
    return kind == FrameKind::kList || kind == FrameKind::kUnfinished;
}

void answer_in_parts(Target& target, FrameKind kind, std::span<const std::byte> payload, const PartSink& part) {
    MessageReader message(payload);
    Parts parts(part);
    try {
        if (kind == FrameKind::kList) {
            const std::string prefix = folder_prefix(message);
            message.end();
            target.list(prefix, [&](const ObjectEntry& entry) {
                parts.message().number(entry.size).text(entry.name);
                parts.after_entry();
            });
        } else {
            message.end();
            target.abandon([&](std::string_view id) {
                parts.message().text(id);
                parts.after_entry();
                return false;
            });
        }
        parts.flush();
    } catch (const GivenUp&) {  // then nobody waits for the rest
    }
}

}  // namespace nodesnap::remote
