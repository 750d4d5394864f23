#!/usr/bin/env bash
# Builds pyradiomics into .venv, for `ggn-tf prepare --radiomics`. Needs a C compiler and Python's headers.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install ""
install_radiomics
