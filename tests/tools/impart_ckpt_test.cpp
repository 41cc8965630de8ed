#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/support.hpp"

namespace impart::io {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int code = -1;
  std::string output, error;

  [[nodiscard]] Json json() const { return Json::parse(output); }
};

class ImpartCkpt : public testing::Test {
 protected:
  // `arguments` as a shell reads them, in the scratch directory.
  [[nodiscard]] Outcome run(const std::string& arguments) const {
    const auto error_file = scratch_.path().string() + ".err";
    const auto command = "cd '" + scratch_.path().string() + "' && '" IMPART_CKPT "' " + arguments + " 2> '" +
                         error_file + "'";
    Outcome outcome;
    FILE* pipe = popen(command.c_str(), "r");
    char block[4096];
    while (const auto got = std::fread(block, 1, sizeof block, pipe)) outcome.output.append(block, got);
    const int status = pclose(pipe);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome.error = read_bytes(error_file);
    std::filesystem::remove(error_file);
    return outcome;
  }

  void write(const std::string& name, Checkpoint checkpoint) const {
    std::filesystem::create_directories((scratch_ / name).parent_path());
    write_checkpoint(scratch_ / name, checkpoint);
  }

  // A checkpoint made from others, which are given by file name.
  void write_child(const std::string& name, const std::vector<std::string>& parents, float seed) const {
    Checkpoint checkpoint;
    checkpoint.state = sample_state(seed);
    checkpoint.lineage.stage =
        R"({"name":")" + std::filesystem::path(name).stem().string() + R"(","kind":"merge"})";
    for (const auto& parent : parents) {
      const auto path = std::filesystem::relative(scratch_ / parent, (scratch_ / name).parent_path());
      checkpoint.lineage.parents.push_back(
          {read_summary(scratch_ / parent).digest, path.string(), "member", 0.5});
    }
    write(name, std::move(checkpoint));
  }

  void damage(const std::string& name) const {
    auto bytes = read_bytes(scratch_ / name);
    const float needle = 1.0F + 12 + 0.25F;  // the first value of conv1.weight
    const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&needle), sizeof needle));
    ASSERT_NE(at, std::string::npos);
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_bytes(scratch_ / name, bytes);
  }

  ScratchDirectory scratch_;
};

TEST_F(ImpartCkpt, HelpAndVersion) {
  for (const std::string option : {"--help", "-h", "info --help"}) {
    const auto help = run(option);
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.output, HasSubstr("Usage: impart-ckpt COMMAND"));
    for (const std::string command : {"info", "ls", "stats", "diff", "verify", "lineage", "--json"}) {
      EXPECT_THAT(help.output, HasSubstr(command));
    }
  }
  EXPECT_EQ(run("--version").code, 0);
}

TEST_F(ImpartCkpt, WrongUsageIsExitCode2) {
  for (const std::string arguments :
       {"", "explain a.h5", "info", "info a.h5 b.h5", "diff a.h5", "diff a.h5 b.h5 c.h5", "verify", "--json",
        "info --jsn a.h5", "ls", "stats", "lineage"}) {
    const auto outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << arguments;
    EXPECT_EQ(outcome.output, "") << arguments;
    EXPECT_THAT(outcome.error, HasSubstr("impart-ckpt: ")) << arguments;
  }
}

TEST_F(ImpartCkpt, FilesThatCannotBeReadAreExitCode1) {
  write("good.h5", sample_checkpoint());
  write_bytes(scratch_ / "text.h5", "no checkpoint");
  for (const std::string command : {"info", "ls", "stats", "verify", "lineage", "diff good.h5"}) {
    for (const std::string file : {"none.h5", "text.h5"}) {
      const auto outcome = run(command + " " + file);
      EXPECT_EQ(outcome.code, 1) << command;
      EXPECT_THAT(outcome.error + outcome.output, HasSubstr(file)) << command;
    }
  }
}

TEST_F(ImpartCkpt, Info) {
  write("model.h5", sample_checkpoint());
  const auto digest = read_summary(scratch_ / "model.h5").digest;
  const auto text = run("info model.h5");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output,
              AllOf(HasSubstr(digest), HasSubstr("input 1x28x28, 10 classes"), HasSubstr("80 parameters"),
                    HasSubstr("adam (exp_avg_sq, exp_avg)"), HasSubstr("teacher (train) on 2 ranks")));
  EXPECT_THAT(text.output, AllOf(HasSubstr("mnist.train  8000 samples"), HasSubstr("0.75 at step 200")));
  const auto json = run("info --json model.h5").json();
  EXPECT_EQ(json["digest"], digest);
  EXPECT_EQ(json["parameters"], 80);
  EXPECT_EQ(json["model"]["input_shape"], Json({1, 28, 28}));
  EXPECT_TRUE(json["model"]["spec"].is_object());
  EXPECT_EQ(json["progress"]["step"], 420);
  EXPECT_EQ(json["progress"]["seed"], 0xFFFFFFFFFFFFFFFEULL);
  EXPECT_EQ(json["lineage"]["stage"]["kind"], "train");
  EXPECT_EQ(json["lineage"]["parents"][1]["path"], "../größer/model.h5");
  EXPECT_EQ(json["metrics"]["validation.accuracy"][1]["value"], 0.75);

  Checkpoint bare;
  bare.state = sample_state();
  write("bare.h5", std::move(bare));
  const auto none = run("info bare.h5 --json").json();
  EXPECT_TRUE(none["optimizer"].is_null());
  EXPECT_TRUE(none["progress"].is_null());
}

TEST_F(ImpartCkpt, List) {
  write("model.h5", sample_checkpoint());
  const auto text = run("ls model.h5");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, AllOf(HasSubstr("conv1.weight"), HasSubstr("4x1x3x3"), HasSubstr("buffer")));
  const auto json = run("ls --json model.h5").json();
  ASSERT_EQ(json.size(), 5U);
  EXPECT_EQ(json[0]["name"], "conv1.weight");
  EXPECT_EQ(json[0]["shape"], Json({4, 1, 3, 3}));
  EXPECT_EQ(json[2]["kind"], "buffer");
  EXPECT_EQ(json[3]["shape"], Json::array());
}

TEST_F(ImpartCkpt, Stats) {
  Checkpoint checkpoint;
  checkpoint.state = sample_state();
  const auto values = checkpoint.state.values("conv1.bias");
  values[0] = -3;
  values[1] = 0;
  values[2] = std::numeric_limits<float>::quiet_NaN();
  values[3] = 4;
  for (auto& x : checkpoint.state.values("bn1.running_mean")) x = std::numeric_limits<float>::quiet_NaN();
  write("model.h5", std::move(checkpoint));
  const auto json = run("stats --json model.h5").json();
  const auto& bias = json[1];
  EXPECT_EQ(bias["name"], "conv1.bias");
  EXPECT_EQ(bias["min"], -3);
  EXPECT_EQ(bias["max"], 4);
  EXPECT_NEAR(bias["mean"].get<double>(), 1.0 / 3, 1e-12);
  EXPECT_NEAR(bias["norm"].get<double>(), 5, 1e-12);
  EXPECT_EQ(bias["zeros"], 1);
  EXPECT_EQ(bias["nan"], 1);
  EXPECT_TRUE(json[2]["min"].is_null());
  EXPECT_EQ(json[2]["nan"], 4);
  const auto text = run("stats model.h5");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, HasSubstr("0.3333"));
}

TEST_F(ImpartCkpt, DiffOfEqualModels) {
  write("a.h5", sample_checkpoint());
  Checkpoint other;
  other.state = sample_state();
  write("b.h5", std::move(other));
  const auto text = run("diff a.h5 b.h5");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, HasSubstr("equal bit for bit: 5 tensors"));
  const auto json = run("diff --json a.h5 b.h5").json();
  EXPECT_EQ(json["equal"], true);
  EXPECT_EQ(json["tensors"][0]["status"], "equal");
}

TEST_F(ImpartCkpt, DiffOfValues) {
  Checkpoint a, b;
  a.state = sample_state();
  b.state = sample_state();
  a.state.values("conv1.bias")[1] = 2;
  b.state.values("conv1.bias")[1] = 1.5;
  a.state.values("fc.weight")[0] = 0.0F;
  b.state.values("fc.weight")[0] = -0.0F;
  a.state.values("bn1.count")[0] = std::numeric_limits<float>::quiet_NaN();
  write("a.h5", std::move(a));
  write("b.h5", std::move(b));
  const auto text = run("diff a.h5 b.h5");
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.output, HasSubstr("different: 3 of 5 tensors"));
  const auto outcome = run("diff a.h5 b.h5 --json");
  EXPECT_EQ(outcome.code, 1);
  const auto json = outcome.json();
  EXPECT_EQ(json["equal"], false);
  EXPECT_EQ(json["tensors"][1]["status"], "differs");
  EXPECT_EQ(json["tensors"][1]["values"], 1);
  EXPECT_EQ(json["tensors"][1]["max_absolute"], 0.5);
  EXPECT_EQ(json["tensors"][1]["max_relative"], 0.25);
  EXPECT_EQ(json["tensors"][4]["status"], "differs") << "0 and -0 are not equal bit for bit";
  EXPECT_EQ(json["tensors"][4]["max_absolute"], 0);
  EXPECT_TRUE(json["tensors"][3]["max_absolute"].is_null()) << "not finite";
}

TEST_F(ImpartCkpt, DiffOfLayouts) {
  const auto layout = [](std::vector<StateEntry> entries) {
    Checkpoint checkpoint;
    checkpoint.state = StateDict(std::make_shared<const StateLayout>(std::move(entries)));
    return checkpoint;
  };
  write("a.h5", layout({{"same", Shape{2}, StateKind::kParameter, 0},
                        {"gone", Shape{2}, StateKind::kParameter, 0},
                        {"shape", Shape{2, 3}, StateKind::kParameter, 0},
                        {"kind", Shape{2}, StateKind::kParameter, 0}}));
  write("b.h5", layout({{"new", Shape{2}, StateKind::kParameter, 0},
                        {"shape", Shape{3, 2}, StateKind::kParameter, 0},
                        {"kind", Shape{2}, StateKind::kBuffer, 0},
                        {"same", Shape{2}, StateKind::kParameter, 0}}));
  const auto outcome = run("diff --json a.h5 b.h5");
  EXPECT_EQ(outcome.code, 1);
  std::map<std::string, std::string> status;
  const auto json = outcome.json();
  for (const auto& tensor : json["tensors"]) status[tensor["name"]] = tensor["status"];
  EXPECT_EQ(status, (std::map<std::string, std::string>{{"same", "equal"},
                                                        {"gone", "only in A"},
                                                        {"new", "only in B"},
                                                        {"shape", "shapes"},
                                                        {"kind", "kinds"}}));
  EXPECT_THAT(run("diff a.h5 b.h5").output, HasSubstr("2x3 and 3x2"));
}

TEST_F(ImpartCkpt, Verify) {
  write("good.h5", sample_checkpoint());
  write("bad.h5", sample_checkpoint());
  damage("bad.h5");
  const auto good = run("verify good.h5 good.h5");
  EXPECT_EQ(good.code, 0);
  EXPECT_EQ(good.output, "good.h5: intact\ngood.h5: intact\n");
  const auto bad = run("verify bad.h5 good.h5");
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.output, AllOf(HasSubstr("bad.h5: damaged"), HasSubstr("/parameters/conv1.weight"),
                                HasSubstr("good.h5: intact")));
  const auto outcome = run("verify --json good.h5 bad.h5 none.h5");
  EXPECT_EQ(outcome.code, 1);
  const auto json = outcome.json();
  ASSERT_EQ(json.size(), 3U);
  EXPECT_EQ(json[0]["intact"], true);
  EXPECT_EQ(json[1]["intact"], false);
  EXPECT_EQ(json[1]["findings"][0]["object"], "/parameters/conv1.weight");
  EXPECT_THAT(json[2]["findings"][0]["problem"].get<std::string>(), HasSubstr("No such file"));
  EXPECT_EQ(run("diff good.h5 bad.h5").code, 1) << "a damaged file equals nothing";
}

TEST_F(ImpartCkpt, Lineage) {
  write("origin/model.h5", sample_checkpoint(1));
  write_child("a/a.h5", {"origin/model.h5"}, 2);
  write_child("b/b.h5", {"origin/model.h5"}, 3);
  write_child("c/c.h5", {"a/a.h5", "b/b.h5"}, 4);
  std::filesystem::remove(scratch_ / "b/b.h5");
  const auto json = run("lineage --json c/c.h5").json();
  EXPECT_EQ(json["stage"], "c (merge)");
  EXPECT_FALSE(json.contains("role"));
  ASSERT_EQ(json["parents"].size(), 2U);
  const auto& a = json["parents"][0];
  EXPECT_EQ(a["path"], "a/a.h5");
  EXPECT_EQ(a["role"], "member");
  EXPECT_EQ(a["weight"], 0.5);
  EXPECT_EQ(a["parents"][0]["stage"], "teacher (train)");
  EXPECT_EQ(a["parents"][0]["data"][0]["name"], "mnist.train");
  EXPECT_EQ(a["parents"][0]["parents"][0]["note"], "gone");
  EXPECT_EQ(a["parents"][0]["parents"][0]["digest"], std::string(64, 'a'));
  const auto& b = json["parents"][1];
  EXPECT_EQ(b["note"], "gone");
  EXPECT_EQ(b["digest"].get<std::string>().size(), 64U);

  const auto text = run("lineage c/c.h5");
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, AllOf(HasSubstr("├─ member 0.5: a/a.h5"), HasSubstr("└─ member 0.5: b/b.h5"),
                                 HasSubstr("data: mnist.train  8000 samples"), HasSubstr("[gone]")));
}

TEST_F(ImpartCkpt, LineageFromAnotherDirectory) {
  write("base/model.h5", sample_checkpoint(1));
  write_child("a/a.h5", {"base/model.h5"}, 2);
  const auto outcome = run("lineage --json '" + (scratch_ / "a/a.h5").string() + "'");
  EXPECT_EQ(outcome.json()["parents"][0]["stage"], "teacher (train)");
}

TEST_F(ImpartCkpt, LineageOfAParentThatWasWrittenAgain) {
  write("base.h5", sample_checkpoint(1));
  write_child("a.h5", {"base.h5"}, 2);
  write("base.h5", sample_checkpoint(5));
  EXPECT_THAT(run("lineage a.h5").output, HasSubstr("gone: this path now holds"));
}

// Equal models have equal digests whatever their lineage: two files can name each other.
TEST_F(ImpartCkpt, LineageCyclesEnd) {
  write("x.h5", sample_checkpoint(1));
  write_child("y.h5", {"x.h5"}, 2);
  auto x = sample_checkpoint(1);
  x.lineage.parents = {{read_summary(scratch_ / "y.h5").digest, "y.h5", "init", 1}};
  write("x.h5", std::move(x));
  const auto outcome = run("lineage x.h5");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.output, HasSubstr("shown above"));
}

// Each level has two paths to the next: 2^40 of them, were they all followed.
TEST_F(ImpartCkpt, LineageOfManyPathsStaysSmall) {
  write("m0.h5", sample_checkpoint(1));
  for (int i = 1; i <= 40; ++i) {
    const auto parent = fmt::format("m{}.h5", i - 1);
    write_child(fmt::format("m{}.h5", i), {parent, parent}, static_cast<float>(i));
  }
  const auto outcome = run("lineage m40.h5");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_LT(outcome.output.size(), 20'000U);
}

TEST_F(ImpartCkpt, NeedsNoMpi) {
  FILE* pipe = popen("ldd '" IMPART_CKPT "'", "r");
  std::string libraries;
  char block[4096];
  while (const auto got = std::fread(block, 1, sizeof block, pipe)) libraries.append(block, got);
  ASSERT_EQ(pclose(pipe), 0);
  EXPECT_THAT(libraries, AllOf(HasSubstr("libhdf5"), Not(HasSubstr("libmpi"))));
}

}  // namespace
}  // namespace impart::io
