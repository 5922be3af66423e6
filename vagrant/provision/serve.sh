#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Answers connections to TCP ports with the name of this machine, for something
# to protect.
#
#   serve.sh PORT...
set -eu
cat >/etc/systemd/system/serve@.service <<'END'
[Unit]
Description=Answers on TCP port %i
[Service]
ExecStart=/usr/bin/systemd-socket-activate --accept --inetd -l %i /bin/uname -n
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
for port; do systemctl enable --quiet --now "serve@$port"; done
