// The inner part of a manifest: Manifest to FlatBuffer and back. See docs/format.md, "Manifests".
#pragma once

#include <span>

#include "snapshot/repository/manifest.h"
#include "snapshot/repository/object_header.h"

namespace nodesnap {

inline constexpr std::size_t kManifestPlainLimit = 16U << 20;  // bytes of the inner part, before compression

Bytes encode_manifest_fields(const Manifest& manifest);
Parsed<Manifest> parse_manifest_fields(std::span<const std::byte> inner);

}  // namespace nodesnap
