#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gives the interface that has an IPv4 address an IPv6 address as well, now and
# after a reboot: what Vagrant gives a private network is IPv4.
#
#   network.sh IPV4 IPV6
set -eu
dev=$(ip -o -4 address show to "$1" | awk '{ print $2; exit }')
[ -n "$dev" ] || { echo "no interface has the address $1" >&2; exit 1; }
ip -6 address replace "$2/64" dev "$dev" nodad
if [ -d /etc/network/interfaces.d ]; then
  printf 'iface %s inet6 static\n  address %s/64\n' "$dev" "$2" >/etc/network/interfaces.d/ripstop
fi
