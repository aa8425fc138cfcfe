"""custom_ops/ort_abi.h says what ONNX Runtime's own headers say, or check_abi.cc notices."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "custom_ops"
HEADERS = os.environ.get("SPIKEC_ORT_HEADERS", "")
COMPILER = os.environ.get("CXX", "c++")

pytestmark = pytest.mark.skipif(
    not HEADERS,
    reason="SPIKEC_ORT_HEADERS is not set: run `.ci/fetch_ort_headers FOLDER` and set it to what that prints",
)


def compile_check(ours: Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which(COMPILER), f"no C++ compiler: {COMPILER}"
    assert Path(HEADERS, "onnxruntime_c_api.h").is_file(), f"no onnxruntime_c_api.h in {HEADERS}"
    command = [COMPILER, "-std=c++20", "-fsyntax-only", "-Wno-ignored-attributes"]
    command += ["-isystem", HEADERS, str(ours / "check_abi.cc")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_ours_matches_the_official_headers() -> None:
    result = compile_check(SOURCES)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("original", "changed", "complaint"),
    [
        ("Slot<214,", "Slot<216,", "InvokeOp moved"),
        ("const char* name, float*)>", "float*)>", "KernelInfoGetAttribute_float has another signature"),
        ("  int (*GetStartVersion)(const OrtCustomOp*);\n", "", "OrtCustomOp has grown or shrunk"),
        ("  BFloat16 = 16,", "  BFloat16 = 17,", "BFLOAT16"),
    ],
)
def test_a_wrong_declaration_is_noticed(tmp_path: Path, original: str, changed: str, complaint: str) -> None:
    text = (SOURCES / "ort_abi.h").read_text()
    assert text.count(original) == 1
    (tmp_path / "ort_abi.h").write_text(text.replace(original, changed))
    shutil.copy(SOURCES / "check_abi.cc", tmp_path)
    result = compile_check(tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr


def test_every_slot_is_checked() -> None:
    slots = re.findall(r"inline constexpr Slot<\d+,[^;]*>\s*(\w+);", (SOURCES / "ort_abi.h").read_text())
    checked = re.findall(r"^CHECK_SLOT\((\w+)\);", (SOURCES / "check_abi.cc").read_text(), re.MULTILINE)
    assert len(slots) > 40
    assert sorted(slots) == sorted(checked)
