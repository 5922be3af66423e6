#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs packages from files, or upgrades or downgrades to them, as apt does
# it without asking: what was edited in /etc stays.
#
#   install.sh DEB...
set -eu
export DEBIAN_FRONTEND=noninteractive
exec dpkg --force-confold -i "$@"
