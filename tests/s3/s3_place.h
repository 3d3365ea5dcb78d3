// tests/s3/s3_place.h - the S3 server that tests/s3/s3-server started: one folder of its bucket for
// each test. The file TERRACE_S3_SERVER/endpoint says where it is; without it tests are skipped.
#pragma once
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include "base/chunk_key.h"
#include "base/prng.h"
#include "storage/s3_medium.h"

namespace terrace {

struct S3Server {
  std::string host;  // http://127.0.0.1:PORT
  std::string bucket;
  S3Credentials credentials;
  std::string tls_port;     // of the same server
  std::string certificate;  // who it is there
};

inline std::optional<S3Server> s3_server() {
  std::ifstream file(std::string(TERRACE_S3_SERVER) + "/endpoint");
  S3Server out;
  if (!(file >> out.host >> out.bucket >> out.credentials.access_key >>
        out.credentials.secret_key >> out.tls_port)) {
    return std::nullopt;
  }
  out.certificate = std::string(TERRACE_S3_SERVER) + "/certificate.pem";
  return out;
}

/// A prefix that nobody used before.
inline std::string s3_fresh_prefix() {
  std::array<std::byte, 32> random{};
  secure_random(random);
  return "test/" + ChunkKey{random}.hex().substr(0, 20);
}

/// `host`: in place of the server's, of a proxy in front of it.
inline S3Options s3_options(const S3Server& server, const std::string& prefix,
                            const std::string& host = "") {
  S3Options options;
  options.config.url = (host.empty() ? server.host : host) + "/" + server.bucket + "/" + prefix;
  options.config.environment = server.credentials;
  options.timeout = seconds(20);
  options.single_put_max = uint64_t{6} << 20;
  options.part_bytes = uint64_t{5} << 20;  // the least that servers take
  return options;
}
}  // namespace terrace
