#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tells the agent, and the server if it is installed here, of the fleet's
# datastore, and waits until the agent is in sync with it.
#
#   settings.sh FILES NAME URL...
#
# FILES has ca.pem, NAME.pem and NAME.key.
set -eu
files=$1 name=$2
shift 2
install -d -m 0700 /etc/ripstop/pki
install -m 0600 "$files/ca.pem" "$files/$name.pem" "$files/$name.key" /etc/ripstop/pki/
rm "$files/$name.key"

urls=$(printf '"%s", ' "$@")
setting() { # KEY VALUE, in each file that there is
  for file in /etc/ripstop/ripstopd.yaml /etc/ripstop/ripstop-server.yaml; do
    [ ! -e "$file" ] || sed -i "s|^#*$1:.*|$1: $2|" "$file"
  done
}
setting etcd-endpoints "[${urls%, }]"
setting etcd-ca-file /etc/ripstop/pki/ca.pem
setting etcd-cert-file "/etc/ripstop/pki/$name.pem"
setting etcd-key-file "/etc/ripstop/pki/$name.key"

for unit in ripstop-server ripstopd; do
  [ ! -e "/usr/lib/systemd/system/$unit.service" ] || systemctl restart "$unit"
done
for _ in $(seq 300); do
  if ripstop status -o json 2>/dev/null | grep -q '"phase": *"InSync"'; then exit 0; fi
  sleep 0.2
done
echo "the agent is not in sync after a minute" >&2
ripstop status >&2
exit 1
