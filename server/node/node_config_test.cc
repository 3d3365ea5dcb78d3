// Goal: a node's configuration is read from TOML as it is printed, and every mistake names its
// option. Method: text in, text out.
#include <gtest/gtest.h>

#include "server/node/config.h"
#include "server/node/open_accelerator.h"

namespace terrace {
namespace {

Status apply_text(const std::string& text, NodeConfig* config) {
  TERRACE_RETURN_IF_ERROR(apply_toml(text, "node.toml", config));
  return config->validate();
}

TEST(NodeConfigTest, what_is_printed_reads_back) {
  NodeConfig config;
  config.dev = true;
  ASSERT_TRUE(apply_text("node_id = \"n\"\nwire_window_bytes = 4194304\n"
                         "[[tenant]]\nname = \"batch\"\nbytes_per_s_max = 500000000\n",
                         &config)
                  .ok());
  EXPECT_EQ(config.wire_window_bytes, 4194304u);
  ASSERT_EQ(config.tenants.size(), 1u);
  EXPECT_EQ(config.tenants[0].name, "batch");
  EXPECT_EQ(config.tenants[0].bytes_per_s_max, 500000000u);
  NodeConfig again;
  ASSERT_TRUE(apply_text(to_toml(config), &again).ok());
  EXPECT_EQ(to_toml(again), to_toml(config));
}

TEST(NodeConfigTest, mistakes_name_their_option) {
  const auto message = [](const std::string& text) {
    NodeConfig config;
    config.dev = true;
    const Status status = apply_text(text, &config);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
    return std::string(status.message());
  };
  EXPECT_NE(message("wire_window_bytes = 1000").find("wire-window-bytes=1000"), std::string::npos);
  EXPECT_NE(message("[[tenant]]\nname = \"t\"").find("bytes_per_s_max"), std::string::npos);
  EXPECT_NE(message("[[tenant]]\nname = \"t\"\nbytes_per_s_max = -5").find("\"t\""),
            std::string::npos);
  EXPECT_NE(message("tenant = [1]").find("table"), std::string::npos);
  EXPECT_NE(message("cpus = \"3-1\"").find("cpus: cpu list \"3-1\""), std::string::npos);
  EXPECT_NE(message("poll_us = 1000001").find("poll-us=1000001"), std::string::npos);
  EXPECT_NE(message("warm_restart = \"sometimes\"").find("off, keeper"), std::string::npos);
  EXPECT_NE(message("warm_restart = \"keeper\"").find("data-directory"), std::string::npos);
  EXPECT_NE(message("keeper_linger_s = 0").find("keeper-linger-s"), std::string::npos);
  EXPECT_NE(message("shared_directory = \"/x\"").find("shared_bytes_max"), std::string::npos);
  EXPECT_NE(message("shared_directory = \"/x\"\nshared_bytes_max = 2000000\nshared_threads = 0")
                .find("shared_threads"),
            std::string::npos);
  const std::string bucket = "shared_s3 = \"http://h/bucket\"\nshared_bytes_max = 2000000\n";
  EXPECT_NE(message("shared_s3 = \"s3://bucket\"").find("http"), std::string::npos);
  EXPECT_NE(message(bucket + "shared_directory = \"/x\"").find("not two"), std::string::npos);
  EXPECT_NE(message(bucket + "shared_timeout_ms = 900").find("shared_timeout_ms"),
            std::string::npos);
  EXPECT_NE(message(bucket + "shared_generate_lease_ms = 2999").find("shared_generate_lease_ms"),
            std::string::npos);
  EXPECT_NE(message("shared_s3_ca_file = \"/x\"").find("shared_s3"), std::string::npos);
  EXPECT_NE(message("uses_period_s = 86401").find("uses_period_s"), std::string::npos);
  EXPECT_NE(message("nvme_trim_interval_hours = 8761").find("nvme_trim_interval_hours"),
            std::string::npos);
  EXPECT_NE(message("hbm_tenant = \"t\"").find("hbm-bytes"), std::string::npos);
  EXPECT_NE(message("hbm_tenant = \"t\"\nhbm_bytes = 2097152\nshm = false").find("without shm"),
            std::string::npos);
  EXPECT_NE(message("hbm_bytes = 1048576").find("2 MiB"), std::string::npos);
  EXPECT_NE(message("namespaces_per_tenant_max = 0").find("namespaces-per-tenant-max=0: 1 to"),
            std::string::npos);
  EXPECT_NE(message("namespaces_per_tenant_max = 65537").find("65536"), std::string::npos);
  EXPECT_NE(message("surprise = 1").find("surprise"), std::string::npos);
  EXPECT_NE(message("fetch_window_bytes = 1").find("fetch-window-bytes"), std::string::npos);
}

TEST(NodeConfigTest, without_dev_there_must_be_tokens) {
  NodeConfig config;
  EXPECT_EQ(config.validate().code(), StatusCode::kInvalidArgument);
}

TEST(NodeConfigTest, devices_that_are_not_there_are_refused_in_words) {
  for (const char* const device : {"cuda:", "tpu:0", "cuda:-1", "cuda:1x", "cuda:99999", ""}) {
    NodeConfig config;
    config.dev = true;
    config.hbm_device = device;
    const Status refused = config.validate();
    EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << device;
    EXPECT_NE(refused.message().find("hbm-device=\"" + std::string(device)), std::string::npos);
  }
  const auto gone = open_accelerator("cuda:99");  // no CUDA, no driver, or no such GPU
  ASSERT_FALSE(gone.ok());
  EXPECT_NE(gone.status().message().find("hbm-device=cuda:99"), std::string::npos);
  EXPECT_TRUE(open_accelerator("host").ok());
}
}  // namespace
}  // namespace terrace
