#!/bin/sh
# The steps that Dockerfile, apptainer.def and the test in a clean Debian root share, as root in Debian 12:
#   install.sh SOURCE
# SOURCE: a copy of this repository. Which build of torch: PIP_TORCH_ARGS, options of pip, as in the Makefile; without
# it the one that the package index serves first, on Linux mostly the large CUDA build.
set -eu
source=$1
environment=/opt/adni-tcgm

apt-get update
apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates
rm -rf /var/lib/apt/lists/*

python3 -m venv "$environment"
pip="$environment/bin/python -m pip install --no-cache-dir --disable-pip-version-check"
# torch first and alone, so that no other package pulls in a build that was not asked for.
# shellcheck disable=SC2086 # several options each
$pip ${PIP_TORCH_ARGS:-} "$(grep '^torch==' "$source/constraints.txt")"
# shellcheck disable=SC2086
$pip --constraint "$source/constraints.txt" "$source"
if [ -e "$environment/bin/adni-tcgm" ]; then
  ln -s "$environment/bin/adni-tcgm" /usr/local/bin/adni-tcgm
fi

# Whoever runs it is nobody special; pictures need a place for their cache.
useradd --create-home --uid 1000 adni
