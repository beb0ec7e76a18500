// The object of a session as it is stored. See docs/format.md, "JSON objects".
#pragma once

#include <span>
#include <string>

#include "snapshot/repository/repository.h"

namespace nodesnap {

Bytes encode_session(const Uuid& repository, const SessionRecord& session);
// Error::damaged if it isn't the object of this session. `name` is for messages.
SessionRecord decode_session(std::span<const std::byte> text, const SessionId& id, const std::string& name, const Uuid& repository);

}  // namespace nodesnap
