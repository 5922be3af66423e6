#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The datastore of a fleet: Debian's etcd, for whoever has a certificate of the
# laboratory's authority.
#
#   etcd.sh FILES NAME ADDRESS
#
# FILES has ca.pem, NAME.pem and NAME.key; other machines reach it at ADDRESS.
set -eu
files=$1 name=$2 address=$3
if [ ! -x /usr/bin/etcd ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq etcd-server
fi
install -d -m 0750 -g etcd /etc/etcd
install -m 0640 -g etcd "$files/ca.pem" "$files/$name.pem" "$files/$name.key" /etc/etcd/
cat >/etc/default/etcd <<END
ETCD_LISTEN_CLIENT_URLS=https://[::]:2379
ETCD_ADVERTISE_CLIENT_URLS=https://$address:2379
ETCD_LISTEN_PEER_URLS=http://127.0.0.1:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://127.0.0.1:2380
ETCD_INITIAL_CLUSTER=$name=http://127.0.0.1:2380
ETCD_NAME=$name
ETCD_CERT_FILE=/etc/etcd/$name.pem
ETCD_KEY_FILE=/etc/etcd/$name.key
ETCD_TRUSTED_CA_FILE=/etc/etcd/ca.pem
ETCD_CLIENT_CERT_AUTH=true
END
systemctl enable --quiet etcd
systemctl restart etcd
