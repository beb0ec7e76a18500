// What a client asks for in one frame and is answered in one: each a call of the served Target, blocking. Any thread.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "io/remote/frame.h"
#include "io/remote/message.h"
#include "io/target/target.h"

namespace nodesnap::remote {

// The answer's payload. `content` came in frames before, where there was too much for one. Error::failed for a kind that isn't one of
// these, or a message that isn't as its kind has it.
Bytes answer_small(Target& target, FrameKind kind, std::span<const std::byte> payload, std::span<const std::byte> content);
struct SwapRequest {
    std::string name;
    std::optional<std::string> expected;  // version
    Bytes content;
};
SwapRequest decode_swap(std::span<const std::byte> payload, std::span<const std::byte> content);
// Whether the kind changes something.
bool changes_something(FrameKind kind);

// Answers in parts: `list` and `unfinished`. `part` gets each, and says whether to go on.
using PartSink = std::function<bool(Bytes part)>;
bool is_answered_in_parts(FrameKind kind);
void answer_in_parts(Target& target, FrameKind kind, std::span<const std::byte> payload, const PartSink& part);

}  // namespace nodesnap::remote
