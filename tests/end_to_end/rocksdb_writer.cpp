// A database under load for the end-to-end tests.
//
//   rocksdb_writer write DB ACKS      writes numbered keys, each synced, until it is ended; after each it stores the number of keys
//   acknowledged so far
//                                     at the beginning of the file ACKS. A second thread writes without syncing, so that there is always
//                                     I/O.
//   rocksdb_writer check DB COUNT     opens the store read-only, proves that keys 0 to COUNT-1 are there with the right values and that all
//                                     checksums are right, and prints the names of its tables.
#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kValueBytes = 3000;

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "rocksdb_writer: %s\n", what.c_str());
    std::exit(1);
}

void require(const rocksdb::Status& status, const std::string& what) {
    if (!status.ok()) {
        give_up(what + ": " + status.ToString());
    }
}

std::string key_of(std::uint64_t number) {
    char text[32];
    std::snprintf(text, sizeof(text), "key%015" PRIu64, number);
    return text;
}

std::string value_of(std::uint64_t number) {
    std::mt19937_64 source(number);
    std::string value(kValueBytes, '\0');
    for (char& byte : value) {
        byte = static_cast<char>(source());
    }
    return value;
}

// Small tables and memtables, so that flushes and compactions happen all the time.
rocksdb::Options store_options() {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = 2U << 20;
    options.target_file_size_base = 2U << 20;
    options.max_bytes_for_level_base = 8U << 20;
    options.paranoid_checks = true;
    return options;
}

void write_unsynced(rocksdb::DB* store) {
    std::mt19937_64 source(1);
    for (;;) {
        require(store->Put(rocksdb::WriteOptions(), "load" + std::to_string(source() % 20000), value_of(source())), "write");
    }
}

[[noreturn]] void write(const std::string& place, const char* acknowledged) {
    const int acks = ::open(acknowledged, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (acks < 0) {
        give_up(std::string("cannot open ") + acknowledged);
    }
    rocksdb::DB* store = nullptr;
    require(rocksdb::DB::Open(store_options(), place, &store), "open");
    std::thread(write_unsynced, store).detach();
    rocksdb::WriteOptions synced;
    synced.sync = true;
    for (std::uint64_t number = 0;;) {
        require(store->Put(synced, key_of(number), value_of(number)), "write");
        ++number;
        if (::pwrite(acks, &number, sizeof(number), 0) != sizeof(number)) {
            give_up("cannot acknowledge");
        }
    }
}

int check(const std::string& place, std::uint64_t count) {
    rocksdb::Options options = store_options();
    options.create_if_missing = false;
    rocksdb::DB* opened = nullptr;
    require(rocksdb::DB::OpenForReadOnly(options, place, &opened), "open");
    const std::unique_ptr<rocksdb::DB> store(opened);
    std::string value;
    for (std::uint64_t number = 0; number < count; ++number) {
        require(store->Get(rocksdb::ReadOptions(), key_of(number), &value), "key " + std::to_string(number));
        if (value != value_of(number)) {
            give_up("key " + std::to_string(number) + " has another value");
        }
    }
    require(store->VerifyChecksum(), "checksums");
    std::vector<rocksdb::LiveFileMetaData> tables;
    store->GetLiveFilesMetaData(&tables);
    for (const rocksdb::LiveFileMetaData& table : tables) {
        std::printf("%s\n", table.name.c_str());
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view mode = argc == 4 ? argv[1] : "";
    if (mode == "write") {
        write(argv[2], argv[3]);
    }
    if (mode == "check") {
        return check(argv[2], std::strtoull(argv[3], nullptr, 10));
    }
    give_up("usage: rocksdb_writer write DB ACKS | check DB COUNT");
}
