// Goal: every limit of ClientConfig is refused with a message that names the field.
// Method: a table of one mistake each.
#include <gtest/gtest.h>

#include <functional>

#include "client/terrace.h"

namespace terrace {
namespace {

TEST(ClientConfig, DefaultsAreValid) {
  EXPECT_TRUE(ClientConfig{}.validate().ok());
}

TEST(ClientConfig, EachMistakeNamesItsField) {
  struct Case {
    const char* field;
    std::function<void(ClientConfig*)> spoil;
  };
  const std::vector<Case> cases = {
      {"endpoint", [](ClientConfig* c) { c->endpoints = {""}; }},
      {"endpoint", [](ClientConfig* c) { c->endpoints = {"localhost"}; }},
      {"endpoint", [](ClientConfig* c) { c->endpoints = {":7410"}; }},
      {"endpoint", [](ClientConfig* c) { c->endpoints = {"h:0"}; }},
      {"endpoint", [](ClientConfig* c) { c->endpoints = {"h:65536"}; }},
      {"endpoint", [](ClientConfig* c) { c->endpoints = {"h:12a"}; }},
      {"endpoints", [](ClientConfig* c) { c->endpoints.clear(); }},
      {"64", [](ClientConfig* c) { c->endpoints.resize(65, "a:1"); }},
      {"\"b:2\" is named twice",
       [](ClientConfig* c) {
         c->endpoints = {"a:1", "b:2", "b:2"};
       }},
      {"tenant", [](ClientConfig* c) { c->tenant = ""; }},
      {"token", [](ClientConfig* c) { c->token = std::string(5000, 't'); }},
      {"data_connections", [](ClientConfig* c) { c->data_connections = 0; }},
      {"data_connections", [](ClientConfig* c) { c->data_connections = 16; }},
      {"open_timeout", [](ClientConfig* c) { c->open_timeout = std::chrono::milliseconds(0); }},
      {"default_deadline", [](ClientConfig* c) { c->default_deadline = std::chrono::hours(2); }},
      {"cpus", [](ClientConfig* c) { c->cpus = "3-1"; }},
      {"poll_for", [](ClientConfig* c) { c->poll_for = std::chrono::seconds(2); }},
      {"operations_max", [](ClientConfig* c) { c->operations_max = 0; }},
      {"operations_max", [](ClientConfig* c) { c->operations_max = 1025; }},
  };
  for (const Case& one : cases) {
    ClientConfig config;
    one.spoil(&config);
    const Status status = config.validate();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << one.field;
    EXPECT_NE(status.message().find(one.field), std::string::npos) << status.to_string();
    EXPECT_EQ(Client::open(config).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(ClientConfig, OpenFailsSoonWhereNobodyListens) {
  ClientConfig config;
  config.endpoints = {"127.0.0.1:1"};
  const auto client = Client::open(config);
  EXPECT_EQ(client.status().code(), StatusCode::kUnavailable) << client.status().to_string();
  EXPECT_NE(client.status().message().find("127.0.0.1:1"), std::string::npos);
}
}  // namespace
}  // namespace terrace
