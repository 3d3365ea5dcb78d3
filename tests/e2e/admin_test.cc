// Goal: only an administrator's token works on the tiers, and nobody's token on another tenant's
// objects. Method: a real node with tokens; every call of the admin services without a token, with
// a tenant's, with an administrator's; what was to be harmed is fetched afterwards.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <vector>

#include "base/identity.h"
#include "proto/tiers.grpc.pb.h"
#include "tests/e2e/harness.h"

namespace terrace::e2e {
namespace {
constexpr uint64_t kBytes = 200'000;
using Stub = proto::TierAdmin::Stub;

class AdminTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = scratch_.path() + "/node.toml";
    {
      std::ofstream file(path);
      for (const std::string name : {"a", "b", "ops"}) {
        file << "[[token]]\ntenant = \"" << name << "\"\nsha256 = \""
             << sha256(token_of(name)).hex() << "\"\nadmin = " << (name == "ops" ? "true" : "false")
             << "\n";
      }
    }
    node_.emplace(std::vector<std::string>{"--config", path, "--dev", "false", "--data-directory",
                                           scratch_.path(), "--nvme-bytes", "128MiB",
                                           "--dram-bytes", "64MiB"});
    stub_ = proto::TierAdmin::NewStub(
        grpc::CreateChannel(node_->endpoint(), grpc::InsecureChannelCredentials()));
  }
  static std::string token_of(const std::string& tenant) { return "the token of " + tenant; }
  static void name(grpc::ClientContext* context, const std::string& tenant) {
    if (!tenant.empty()) context->AddMetadata("authorization", "Bearer " + token_of(tenant));
  }
  TestClient client_of(const std::string& tenant) {
    ClientConfig config = TestClient::config(node_->endpoint());
    config.tenant = tenant;
    config.token = token_of(tenant);
    return TestClient(config);
  }
  /// What the node answers to the holder of `tenant`'s token; to nobody's when it is empty.
  template <class Request, class Reply>
  grpc::StatusCode ask(grpc::Status (Stub::*call)(grpc::ClientContext*, const Request&, Reply*),
                       const std::string& tenant, const Request& request) {
    grpc::ClientContext context;
    name(&context, tenant);
    Reply reply;
    return (stub_.get()->*call)(&context, request, &reply).error_code();
  }
  template <class Request, class Reply>
  grpc::StatusCode ask(std::unique_ptr<grpc::ClientReader<Reply>> (Stub::*call)(
                           grpc::ClientContext*, const Request&),
                       const std::string& tenant, const Request& request) {
    grpc::ClientContext context;
    name(&context, tenant);
    const auto reader = (stub_.get()->*call)(&context, request);
    Reply reply;
    while (reader->Read(&reply)) {
    }
    return reader->Finish().error_code();
  }
  /// Of every call that works on whole tiers; `expect` sees its name and what came back.
  template <class Expect>
  void ask_all(const std::string& tenant, const Expect& expect) {
    proto::VerifyRequest verify;
    verify.set_tier("dram");
    expect("Verify", ask(&Stub::Verify, tenant, verify));
    expect("DrainDram", ask(&Stub::DrainDram, tenant, proto::DrainDramRequest()));
    expect("DrainDevice", ask(&Stub::DrainDevice, tenant, proto::DrainDeviceRequest()));
    expect("EmptyDevice", ask(&Stub::EmptyDevice, tenant, proto::EmptyDeviceRequest()));
    expect("TrimDevices", ask(&Stub::TrimDevices, tenant, proto::TrimDevicesRequest()));
    proto::ResizeRequest resize;
    resize.set_tier("dram");
    resize.set_bytes(64 << 20);
    expect("Resize", ask(&Stub::Resize, tenant, resize));
  }

  ScratchDirectory scratch_;
  std::optional<NodeProcess> node_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(AdminTest, tiers_are_for_administrators) {
  ask_all("", [](const char* call, grpc::StatusCode code) {
    EXPECT_EQ(code, grpc::StatusCode::UNAUTHENTICATED) << call;
  });
  ask_all("nobody", [](const char* call, grpc::StatusCode code) {
    EXPECT_EQ(code, grpc::StatusCode::UNAUTHENTICATED) << call;
  });
  ask_all("a", [](const char* call, grpc::StatusCode code) {
    EXPECT_EQ(code, grpc::StatusCode::PERMISSION_DENIED) << call;
  });
  int done = 0;
  ask_all("ops", [&done](const char* call, grpc::StatusCode code) {
    EXPECT_NE(code, grpc::StatusCode::UNAUTHENTICATED) << call;
    EXPECT_NE(code, grpc::StatusCode::PERMISSION_DENIED) << call;
    done += code == grpc::StatusCode::OK ? 1 : 0;
  });
  EXPECT_GE(done, 4) << "verify, drain dram, trim, resize; not all of the others make sense here";
}

TEST_F(AdminTest, objects_are_for_their_tenant) {
  TestClient owner = client_of("a");
  ASSERT_EQ(owner.put("mine", kBytes, Durability::nvme), StatusCode::kOk);
  TestClient other = client_of("b");
  const ChunkKey key = owner.key("mine");
  const auto objects = [&key](const std::string& tenant) {
    proto::ObjectsOf of;
    of.set_tenant(tenant);
    of.set_name("test");
    of.set_keys(key.digest.data(), key.digest.size());
    return of;
  };
  const auto expect_none_of_it = [&](const std::string& who, const std::string& asked,
                                     grpc::StatusCode code) {
    proto::ExplainRequest explain;
    *explain.mutable_object() = objects(asked);
    EXPECT_EQ(ask(&Stub::Explain, who, explain), code) << who;
    proto::SetPinRequest pin;
    *pin.mutable_objects() = objects(asked);
    pin.set_pin(true);
    EXPECT_EQ(ask(&Stub::SetPin, who, pin), code) << who;
    proto::MoveRequest move;
    *move.mutable_objects() = objects(asked);
    move.set_to("dram");
    EXPECT_EQ(ask(&Stub::Move, who, move), code) << who;
    proto::ClearRequest clear;
    *clear.mutable_objects() = objects(asked);
    EXPECT_EQ(ask(&Stub::Clear, who, clear), code) << who;
  };
  expect_none_of_it("", "a", grpc::StatusCode::UNAUTHENTICATED);
  expect_none_of_it("b", "a", grpc::StatusCode::PERMISSION_DENIED);
  expect_none_of_it("ops", "a", grpc::StatusCode::PERMISSION_DENIED);
  expect_none_of_it("ops", "", grpc::StatusCode::NOT_FOUND);
  // Tenant b has a namespace of that name: all of that goes to its own objects.
  proto::ClearRequest clear;
  clear.mutable_objects()->set_name("test");
  EXPECT_EQ(ask(&Stub::Clear, "b", clear), grpc::StatusCode::OK);
  EXPECT_EQ(other.fetch("mine", kBytes), StatusCode::kNotFound);
  EXPECT_EQ(owner.fetch("mine", kBytes), StatusCode::kOk);
}
}  // namespace
}  // namespace terrace::e2e
