#!/usr/bin/env bash
# Trainers for the tests of real trainings, each in an environment of its own: .ci/trainers.sh VENV [PREFIX [trl|llamafactory]]
#
# PREFIX-trl sees VENV's packages (a path file) and adds TRL: seconds. PREFIX-llamafactory is what `pip install llamafactory` makes; it wants
# older versions of transformers, datasets and peft than we do, and torchaudio of the same build as its torch: minutes, and 6 GB where
# pip chooses torch for GPUs. Nothing where they are there already. PREFIX is VENV by default.
set -uo pipefail
venv=${1:?usage: trainers.sh VENV [PREFIX]}
prefix=${2:-$venv}
only=${3:-}
mark=$(sha256sum <"$0")
export PIP_DISABLE_PIP_VERSION_CHECK=1

environment() { # NAME MODULE REQUIREMENT PATH-FILE
    local folder="$prefix-$1"
    [ "$(cat "$folder/.ready" 2>/dev/null)" = "$mark" ] && return 0
    rm -rf "$folder"
    "$venv/bin/python" -m venv "$folder" || return 1
    [ -z "$4" ] || echo "$4" >"$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
    if "$folder/bin/pip" install --quiet "$3" >"$folder/install.log" 2>&1 && "$folder/bin/python" -c "import $2" >>"$folder/install.log" 2>&1; then
        echo "$mark" >"$folder/.ready"
    else
        echo "$3 is not installed ($folder/install.log says why); its test will be skipped" >&2
        return 1
    fi
}

code=0
[ "$only" = llamafactory ] || environment trl trl 'trl==1.16.0' "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || code=1
[ "$only" = trl ] || environment llamafactory llamafactory.train.tuner 'llamafactory==0.9.5' '' || code=1
exit $code
