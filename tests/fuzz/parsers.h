// What is fuzzed: each function takes any bytes where a stored object would be, and uses all that the parser believes of them. Error is the
// answer to bad bytes; anything else (a crash, std::logic_error) is a failure. Shared by the libFuzzer targets and a plain test.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/remote/small_requests.h"
#include "io/remote/ssh.h"
#include "platform/thin_delta.h"
#include "snapshot/repository/check_record.h"
#include "snapshot/repository/description.h"
#include "snapshot/repository/inventory.h"
#include "snapshot/repository/json_object.h"
#include "snapshot/repository/lease_record.h"
#include "snapshot/repository/manifest_fields.h"
#include "snapshot/repository/node_format.h"
#include "snapshot/repository/object_header.h"
#include "snapshot/repository/pack_codec.h"
#include "snapshot/repository/pack_footer.h"
#include "snapshot/repository/pack_log.h"
#include "snapshot/repository/pack_trailer.h"
#include "tests/repository/sample.h"
#include "tests/support/strict_target.h"

namespace nodesnap::test {

using Input = std::span<const std::byte>;

inline void must(bool holds, const char* what) {
    if (!holds) {
        throw std::logic_error(what);
    }
}

// Parsers read in place, and are given what they are given in the program: memory of an allocation of its own.
inline Bytes aligned_copy(Input input) {
    return Bytes(input.begin(), input.end());
}

template <typename Function>
void tolerating_errors(const Function& function) {
    try {
        function();
    } catch (const Error&) {
    }
}

// Makes the checksum hold, so that what lies behind it is reached.
inline void seal_header(std::span<std::byte> bytes, std::size_t covered) {
    if (bytes.size() >= covered + 16) {
        const Checksum checksum = Hasher(0)(bytes.first(covered));
        store_little_endian(bytes, covered, checksum.low);
        store_little_endian(bytes, covered + 8, checksum.high);
    }
}

inline void fuzz_header(Input input) {
    Bytes bytes = aligned_copy(input);
    parse_object_header(bytes);
    if (bytes.size() < kTrailerBytes) {
        bytes.resize(kTrailerBytes);
    }
    const std::span<std::byte> all = bytes;
    const Checksum payload = Hasher(0)(all.subspan(kHeaderBytes, 64));
    store_little_endian(all, 96, payload.low);
    store_little_endian(all, 104, payload.high);
    seal_header(all, 112);
    if (const auto header = parse_object_header(bytes)) {
        Bytes again(kHeaderBytes);
        encode_object_header(*header.value, std::span(again).first<kHeaderBytes>());
        must(std::equal(again.begin(), again.end(), bytes.begin()), "a header changes when it is encoded again");
        PackId id;
        id.bytes = header.value->object_id;
        for (const auto kind : {layout::PackKind::kData, layout::PackKind::kNodes}) {
            const auto length = load_little_endian<std::uint64_t>(bytes, kHeaderBytes);
            if (const auto trailer = parse_trailer(bytes, header.value->repository, kind, id, header.value->generation, length)) {
                const PackTrailer& t = *trailer.value;
                must(t.first_footer >= 4096 && t.second_footer >= t.first_footer + t.footer_length, "footers overlap");
                must(t.second_footer + t.footer_length + 2 * kTrailerBytes <= t.pack_length, "footers beyond the pack");
            }
        }
    }
}

inline void fuzz_inner_part(Input input) {
    constexpr std::size_t kLimit = 1U << 20;
    Bytes bytes = aligned_copy(input);
    if (bytes.size() >= kOuterBytes) {
        const auto stored = std::min<std::uint64_t>(load_little_endian<std::uint64_t>(bytes, 16), bytes.size() - kOuterBytes);
        const Checksum checksum = Hasher(0)(std::span(bytes).subspan(kOuterBytes, stored));
        store_little_endian(std::span(bytes), 32, checksum.low);
        store_little_endian(std::span(bytes), 40, checksum.high);
        seal_header(bytes, 112);
    }
    if (const auto inner = open_inner_part(kFooterMagic, bytes, kLimit)) {
        must(inner.value->size() <= kLimit, "an inner part is longer than the limit");
    }
}

inline void use_index(const PackIndex& index) {
    std::uint64_t end = kPackAlignment;
    std::size_t blocks = 0;
    for (std::uint32_t i = 0; i < index.size(); ++i) {
        const Segment& segment = index.segment(i);
        blocks += index.blocks(i).size();
        index.stored_checksum(i);
        must(index.blocks(i).size() == block_count(segment.plain_length), "wrong number of checksums");
        must(segment.plain_length == 0 || segment.offset >= end, "segments overlap");
        must(segment.plain_length <= kSegmentLimit, "too long a segment");
        end = segment.plain_length == 0 ? end : segment.offset + segment.stored_length;
    }
    must(blocks <= kBlocksPerPackLimit, "too many checksums");
}

// As an inner part, and as a whole pack.
inline void fuzz_pack(Input input) {
    const Bytes bytes = aligned_copy(input);
    constexpr std::uint64_t kSegmentsEnd = 1ULL << 40;
    for (const auto kind : {layout::PackKind::kData, layout::PackKind::kNodes}) {
        if (const auto index = PackFooter::parse(bytes, kind, sample_pack(1), 0, kSegmentsEnd)) {
            use_index(*index.value);
            const auto again = PackFooter::parse(PackFooter::encode(*index.value), kind, sample_pack(1), 0, kSegmentsEnd);
            must(again && again.value->size() == index.value->size(), "a footer changes when it is encoded again");
        }
        tolerating_errors([&] {
            MemoryTarget target;
            target.objects[layout::pack({kind, sample_pack(1), 0})] = bytes;
            const auto pack = PackReader::open(
                target, sample_uuid(), kind, sample_pack(1), [](const Damage&) {}, true);
            use_index(pack->index());
        });
    }
}

inline void use_runs(const NodeView& view) {
    std::uint64_t end = view.first_offset();
    for (std::uint32_t i = 0; i < view.size(); ++i) {
        const Run run = view.run(i, end);
        must(run.offset >= end && run.length > 0 && run.end() > run.offset, "runs overlap");
        end = run.end();
    }
    must(end == view.runs_end(), "wrong end of runs");
}

inline void fuzz_node(Input input) {
    const Bytes bytes = aligned_copy(input);
    const auto parsed = NodeView::parse(bytes);
    if (!parsed) {
        return;
    }
    const NodeView& view = *parsed.value;
    must(view.size() > 0 && view.height() < kHeightLimit, "an empty node");
    if (view.content() == NodeView::Content::kRuns) {
        use_runs(view);
        return;
    }
    for (std::uint32_t i = 0; i < view.size(); ++i) {
        must(i == 0 || view.key(i - 1) < view.key(i), "keys out of order");
        if (view.content() == NodeView::Content::kChildren) {
            must(view.child(i).count > 0, "a child without entries");
            continue;
        }
        tolerating_errors([&] { key::parse(view.key(i)); });
        tolerating_errors([&] { decode_inode(view.value(i)); });
    }
}

// All decoders get the same bytes; the corpus has records of each kind.
inline void fuzz_record(Input input) {
    const Bytes bytes = aligned_copy(input);
    tolerating_errors([&] { key::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}); });
    tolerating_errors([&] {
        const Inode inode = decode_inode(bytes);
        must(decode_inode(encode(inode)) == inode, "an inode changes when it is encoded again");
    });
    tolerating_errors([&] {
        const Dirent dirent = decode_dirent(bytes);
        must(decode_dirent(encode(dirent)) == dirent, "an entry changes when it is encoded again");
    });
    tolerating_errors([&] {
        const Xattr xattr = decode_xattr(bytes);
        must(decode_xattr(encode(xattr)) == xattr, "an attribute changes when it is encoded again");
    });
    tolerating_errors([&] {
        const std::string name = decode_owner_name(bytes);
        must(decode_owner_name(encode_owner_name(name)) == name, "a name changes when it is encoded again");
    });
}

// As an inner part, and as a whole object.
inline void fuzz_manifest(Input input) {
    const Bytes bytes = aligned_copy(input);
    if (const auto manifest = parse_manifest_fields(bytes)) {
        const auto again = parse_manifest_fields(encode_manifest_fields(*manifest.value));
        must(again && again.value->packs == manifest.value->packs && again.value->totals == manifest.value->totals,
             "a manifest changes when it is encoded again");
    }
    tolerating_errors([&] { decode_manifest(bytes, layout::manifest(sample_manifest().name), sample_uuid(), [](const Damage&) {}); });
}

// With the checksum made to hold; nullopt if it has no member for one.
inline std::optional<Bytes> sealed_json(Input input) {
    constexpr std::string_view kMember = "\"checksum\": \"";
    std::string text(reinterpret_cast<const char*>(input.data()), input.size());
    const std::size_t digits = text.find(kMember) + kMember.size();
    if (text.find(kMember) == std::string::npos || text.size() < digits + 32) {
        return std::nullopt;
    }
    text.replace(digits, 32, std::string(32, '0'));
    text.replace(digits, 32, Hasher(0)(as_bytes(text)).hex());
    const auto bytes = as_bytes(text);
    return Bytes(bytes.begin(), bytes.end());
}

// As it is, and with the checksum made to hold.
inline void fuzz_json_object(Input input) {
    tolerating_errors([&] { decode_json_object(aligned_copy(input), "session", "fuzz"); });
    if (const auto sealed = sealed_json(input)) {
        tolerating_errors([&] {
            const JsonObject object = decode_json_object(*sealed, "session", "fuzz", sample_uuid());
            tolerating_errors([&] { member::path(object.members, "path", "fuzz"); });
            tolerating_errors([&] { member::hex64(object.members, "seed", "fuzz"); });
            tolerating_errors([&] { member::integer(object.members, "number", "fuzz"); });
        });
    }
}

inline void fuzz_lease(Input input) {
    tolerating_errors([&] { decode_lease(aligned_copy(input), "fuzz", sample_uuid()); });
    if (const auto sealed = sealed_json(input)) {
        tolerating_errors([&] {
            const LeaseHolder holder = decode_lease(*sealed, "fuzz", sample_uuid());
            must(same_holding(decode_lease(encode_lease(sample_uuid(), holder), "fuzz", sample_uuid()), holder),
                 "a lease changes when it is encoded again");
            must(holder.lease_seconds > 0 && holder.lease_seconds <= kLongestLease.count(), "a lease that never ends");
            assess(holder);
            describe(holder);
        });
    }
}

inline void fuzz_description(Input input) {
    tolerating_errors([&] { decode_description(aligned_copy(input), "fuzz"); });
    if (const auto sealed = sealed_json(input)) {
        tolerating_errors([&] {
            const Description description = decode_description(*sealed, "fuzz");
            must(decode_description(encode_description(description), "fuzz") == description,
                 "a description changes when it is encoded again");
        });
    }
}

// Where a repository's session object would be.
inline void fuzz_session(Input input) {
    Description description;
    description.info.uuid = sample_uuid();
    const auto read = [&](const Bytes& session) {
        const auto target = std::make_shared<MemoryTarget>();
        target->objects[std::string(layout::kRepository)] = encode_description(description);
        target->objects[layout::session(sample_session())] = session;
        std::size_t damages = 0;
        const Repository repository = Repository::open(target, [&](const Damage& damage) { damages += damage.healed ? 0 : 1; });
        const auto sessions = repository.sessions();
        must(sessions.size() + damages == 1, "a session is neither read nor told");
        must(sessions.empty() || sessions[0].id == sample_session(), "another session than its name says");
    };
    tolerating_errors([&] { read(aligned_copy(input)); });
    if (const auto sealed = sealed_json(input)) {
        tolerating_errors([&] { read(*sealed); });
    }
}

// What a log of a pack would hold: as its blocks, and as the records in one block.
inline void fuzz_pack_log(Input input) {
    const auto read = [](Input payload) {
        Bytes object(kHeaderBytes);
        object.insert(object.end(), payload.begin(), payload.end());
        ObjectHeader header;
        header.kind = ObjectKind::kPackLog;
        header.repository = sample_uuid();
        header.object_id = sample_pack(1).bytes;
        header.payload_length = payload.size();
        header.payload_checksum = Hasher(0)(payload);
        encode_object_header(header, std::span(object).first<kHeaderBytes>());
        PackLogSink sink;
        sink.inode = [](std::uint64_t, const Inode& inode) { must(encode(inode).size() <= kValueLimit, "an inode is too large"); };
        sink.xattr = [](std::uint64_t, std::string_view name, const Xattr&) { must(name.size() < kKeyLimit, "a name is too long"); };
        sink.run = [](std::uint64_t, const Run& run) { must(run.length != 0 && run.end() > run.offset, "a run is out of bounds"); };
        read_pack_log(object, "log", sample_uuid(), sample_pack(1), sink);
    };
    tolerating_errors([&] { read(aligned_copy(input)); });
    Bytes block(16 + 8 + compress_bound(input.size()));
    const std::size_t stored = Compressor().compress(input, std::span(block).subspan(24));
    block.resize(24 + stored);
    store_little_endian(std::span(block), 16, static_cast<std::uint32_t>(stored));
    store_little_endian(std::span(block), 20, static_cast<std::uint32_t>(input.size()));
    tolerating_errors([&] { read(block); });
}

// What thin_delta would print: in one piece, and in two.
inline void fuzz_thin_delta(Input input) {
    const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
    const auto read = [&](std::size_t cut) {
        std::vector<lvm::BlockRange> ranges;
        bool whole = false;
        tolerating_errors([&] {
            std::uint64_t end = 0;
            lvm::ThinDeltaParser parser(2, 3, [&](const lvm::BlockRange& range) {
                must(range.begin >= end && range.length != 0, "ranges overlap");
                end = range.begin + range.length;
                must(end > range.begin && end <= UINT64_MAX / parser.block_bytes(), "a range is out of bounds");
                ranges.push_back(range);
            });
            parser.add(text.substr(0, cut));
            parser.add(text.substr(cut));
            parser.finish();
            whole = true;
        });
        return std::pair(std::move(ranges), whole);
    };
    must(read(text.size()) == read(text.size() / 2), "what is understood rests on the pieces");
}

// With a header that fits what follows it.
inline Bytes with_fitting_header(Input input) {
    Bytes bytes = aligned_copy(input);
    if (bytes.size() >= kHeaderBytes) {
        const std::span<std::byte> all = bytes;
        const Checksum payload = Hasher(0)(all.subspan(kHeaderBytes));
        store_little_endian(all, 48, std::uint64_t{bytes.size() - kHeaderBytes});
        store_little_endian(all, 96, payload.low);
        store_little_endian(all, 104, payload.high);
        seal_header(all, 112);
    }
    return bytes;
}

inline void fuzz_inventory(Input input) {
    const Bytes bytes = with_fitting_header(input);
    for (const Input& given : {input, Input(bytes)}) {
        const StoredInventory stored = parse_inventory(given, sample_uuid());
        must(stored.flaw.empty() == stored.inventory.has_value(), "something is believed of an inventory that is damaged");
        if (stored.inventory && stored.replaceable) {
            const Bytes again = encode_inventory(sample_uuid(), *stored.inventory);
            must(std::equal(again.begin() + kHeaderBytes, again.end(), given.begin() + kHeaderBytes, given.end()),
                 "an inventory changes when it is encoded again");
        }
    }
}

inline void fuzz_checks(Input input) {
    const Bytes bytes = with_fitting_header(input);
    for (const Input& given : {input, Input(bytes)}) {
        const std::uint8_t first_byte = sample_pack(1).bytes[0];
        const CheckRecord record = parse_check_record(given, sample_uuid(), first_byte);
        must(record.flaw.empty() || record.checkups.empty(), "something is believed of a record that is damaged");
        if (record.flaw.empty() && record.replaceable) {
            const Bytes again = encode_check_record(sample_uuid(), first_byte, record.checkups);
            must(std::equal(again.begin() + kHeaderBytes, again.end(), given.begin() + kHeaderBytes, given.end()),
                 "a record changes when it is encoded again");
        }
        merge_checkups(record.checkups, record.checkups, {}, 0);
    }
}

// What the other side of a connection says: its first byte is the kind of a frame.
inline void fuzz_remote(Input input) {
    if (input.empty()) {
        return;
    }
    const Bytes bytes = aligned_copy(input.subspan(1));
    const auto kind = static_cast<remote::FrameKind>(input[0]);
    const auto target = StrictTarget::make();
    tolerating_errors([&] {
        const Bytes answer = remote::answer_small(*target, kind, bytes, input);
        remote::MessageReader reader(answer);
        if (!reader.at_end()) {
            reader.number();
        }
    });
    tolerating_errors([&] { remote::answer_in_parts(*target, remote::FrameKind::kList, bytes, [](const Bytes&) { return true; }); });
    tolerating_errors([&] { must(!remote::decode_error(bytes, "host").message().empty(), "an error says nothing"); });
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    tolerating_errors([&] {
        const std::string path = remote::served_path(text);
        must(text.ends_with(remote::remote_word(path)), "a path is served that wasn't asked for");
    });
    tolerating_errors([&] {
        const auto place = remote::parse_ssh_place("ssh://" + text);
        must(place && !place->destination.starts_with("-") && place->path.starts_with("/"), "a place is something else");
    });
}

struct Parser {
    const char* name;  // of the fuzz target and its corpus
    void (*run)(Input);
};

inline constexpr std::array kParsers = {
    Parser{"header_fuzz", fuzz_header},
    Parser{"inner_part_fuzz", fuzz_inner_part},
    Parser{"pack_fuzz", fuzz_pack},
    Parser{"node_fuzz", fuzz_node},
    Parser{"record_fuzz", fuzz_record},
    Parser{"manifest_fuzz", fuzz_manifest},
    Parser{"json_object_fuzz", fuzz_json_object},
    Parser{"lease_fuzz", fuzz_lease},
    Parser{"description_fuzz", fuzz_description},
    Parser{"session_fuzz", fuzz_session},
    Parser{"pack_log_fuzz", fuzz_pack_log},
    Parser{"checks_fuzz", fuzz_checks},
    Parser{"inventory_fuzz", fuzz_inventory},
    Parser{"thin_delta_fuzz", fuzz_thin_delta},
    Parser{"remote_fuzz", fuzz_remote},
};

}  // namespace nodesnap::test
