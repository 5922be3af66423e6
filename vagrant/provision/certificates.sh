#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the laboratory's certificates, on the machine that has vagrant: an
# authority, and for each machine a certificate with which its etcd is served
# and its programs are let in. If they are there, they stay. Needs openssl.
#
#   certificates.sh DIR NAME=ADDRESS,ADDRESS...
set -eu
dir=${1:?see the head of this file}
shift
[ ! -s "$dir/made" ] || exit 0
umask 077
mkdir -p "$dir"
cd "$dir"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

key ca
openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Ripstop laboratory" -out ca.pem
for machine; do
  name=${machine%%=*}
  key "$name"
  openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
  {
    echo "extendedKeyUsage=serverAuth,clientAuth"
    echo "subjectAltName=DNS:$name,IP:127.0.0.1,IP:::1,IP:$(echo "${machine#*=}" | sed 's/,/,IP:/g')"
  } >"$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 3650 -extfile "$name.ext" -out "$name.pem" 2>/dev/null
  rm "$name.csr" "$name.ext"
done
date >made
