#!/usr/bin/env bash
# DataFlex beside the packages of an environment that is there, for the test of its mixer: .ci/dataflex.sh FOLDER PYTHON
#
# A few seconds and megabytes. DataFlex 1.1.0 pins an older torch, transformers, pandas and datasets than ours, so it gets an environment of its
# own that sees PYTHON's packages, and none of its requirements but omegaconf: its mixers and its mixture manager need no more. Its
# trainers need LLaMA-Factory with all that it pins, and are not run here.
set -uo pipefail
folder=${1:?usage: dataflex.sh FOLDER PYTHON}
python=${2:?usage: dataflex.sh FOLDER PYTHON}
[ -x "$folder/bin/python" ] && "$folder/bin/python" -c 'import dataflex.train.mixer' 2>/dev/null && exit 0
rm -rf "$folder"
"$python" -m venv "$folder" || exit 1
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
"$folder/bin/pip" install --quiet --no-deps dataflex==1.1.0 omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 >"$folder/install.log" 2>&1 \
    && "$folder/bin/python" -c 'import dataflex.train.mixer' >>"$folder/install.log" 2>&1 && exit 0
echo "DataFlex is not installed ($folder/install.log says why); the test of its mixer will be skipped" >&2
rm -f "$folder/bin/python"
exit 1
