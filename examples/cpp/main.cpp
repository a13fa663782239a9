// Labels a scan with a model that tools/export.py has compiled, without Python:
//
//     label_scan model/model_cpu.pt2 scan.bin scan.label
//
// scan.bin holds x, y, z, intensity of each point as float32; scan.label gets a raw id of each point as uint32.

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// The classes of a model, by the number that it gives them.
struct Classes {
  std::vector<std::string> names;
  std::vector<uint32_t> raw_ids;
};

std::vector<float> read_scan(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  const auto bytes = static_cast<size_t>(file.tellg());
  if (bytes % (4 * sizeof(float)) != 0) throw std::runtime_error(path + ": no scan, its points are not 16 bytes each");
  std::vector<float> scan(bytes / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(scan.data()), static_cast<std::streamsize>(bytes));
  if (!file) throw std::runtime_error(path + ": cannot be read");
  return scan;
}

void write_labels(const std::string& path, const std::vector<uint32_t>& labels) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(labels.data()), static_cast<std::streamsize>(labels.size() * 4));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

Classes classes_of(torch::inductor::AOTIModelPackageLoader& model) {
  const auto metadata = model.get_metadata();
  Classes found;
  for (int number = 0; metadata.count("name " + std::to_string(number)); ++number) {
    found.names.push_back(metadata.at("name " + std::to_string(number)));
    found.raw_ids.push_back(std::stoul(metadata.at("raw_id " + std::to_string(number))));
  }
  return found;
}

void label(const std::string& model_path, const std::string& scan_path, const std::string& label_path) {
  torch::inductor::AOTIModelPackageLoader model(model_path);
  const Classes classes = classes_of(model);
  std::vector<float> scan = read_scan(scan_path);
  const auto count = static_cast<int64_t>(scan.size() / 4);

  // From (N, 4) float32 points to (N,) uint8 classes and (N,) float32 confidences.
  const auto results = model.run({at::from_blob(scan.data(), {count, 4}, at::kFloat)});
  const auto* found = results.at(0).const_data_ptr<uint8_t>();

  std::vector<uint32_t> labels(count);
  std::vector<int64_t> totals(classes.names.size());
  for (int64_t point = 0; point < count; ++point) {
    labels[point] = classes.raw_ids.at(found[point]);
    ++totals[found[point]];
  }
  write_labels(label_path, labels);
  for (size_t number = 0; number < totals.size(); ++number) {
    if (totals[number] > 0) std::printf("%-24s %9lld\n", classes.names[number].c_str(), (long long)totals[number]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: label_scan model_cpu.pt2 scan.bin scan.label\n";
    return 2;
  }
  try {
    label(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  return 0;
}
