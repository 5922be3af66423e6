#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One Debian machine with systemd as PID 1, in namespaces of this one, for the
# tests of the packages. Its only network is a veth to the namespace $LAB-br,
# which has the addresses 10.213.0.254 and fd13::254; the machine has
# 10.213.0.11. Where it has a unit lab-network.service, it is given its cable
# without an address and down, as from a shop.
#
#   machine.sh template          build the read-only file system, once
#   machine.sh up                boot, wait until systemd says "running"
#   machine.sh exec CMD...       run CMD inside, as a unit of its own
#   machine.sh push SRC DST      copy a file in
#   machine.sh reboot            reboot, wait; the kernel's rules are gone then
#   machine.sh down              power off, or kill after a while; leave nothing
#
# Environment: LAB (prefix of all names), TEMPLATE, BOOT_ARGS (words for the
# machine's kernel command line).
set -euo pipefail
LAB=${LAB:?}
WORK=/tmp/$LAB
TEMPLATE=${TEMPLATE:-/var/cache/ripstop-test/debian}
SUITE=bookworm
MIRROR=${MIRROR:-$(grep -rhoE 'https?://[^ ]+/debian/?$' /etc/apt/sources.list.d /etc/apt/sources.list 2>/dev/null | head -n 1 || true)}
PROGRAMS=systemd,systemd-sysv,dbus,init-system-helpers,iproute2,nftables,procps
CG=/sys/fs/cgroup

say() { printf '%s\n' "$*" >&2; }

template() {
  [ ! -e "$TEMPLATE/.complete" ] || return 0
  rm -rf "$TEMPLATE" && mkdir -p "$TEMPLATE"
  debootstrap --variant=minbase --include="$PROGRAMS" "$SUITE" "$TEMPLATE" $MIRROR >"$TEMPLATE.log" 2>&1 ||
    { tail -20 "$TEMPLATE.log" >&2; return 1; }
  local unit
  for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    getty.target console-getty.service systemd-firstboot.service; do
    ln -sf /dev/null "$TEMPLATE/etc/systemd/system/$unit"
  done
  ln -sf /lib/systemd/system/multi-user.target "$TEMPLATE/etc/systemd/system/default.target"
  mkdir -p "$TEMPLATE/var/log/journal"
  : >"$TEMPLATE/etc/machine-id"
  rm -f "$TEMPLATE/var/lib/dbus/machine-id" "$TEMPLATE/etc/resolv.conf"
  touch "$TEMPLATE/.complete"
}

network() {
  if ! ip netns list | grep -qw "$LAB-br"; then
    ip netns add "$LAB-br"
    ip -n "$LAB-br" link set lo up
  fi
  ip netns add "$LAB-m"
  ip -n "$LAB-m" link set lo up
  ip -n "$LAB-br" link add to-m type veth peer name host0 address 02:00:00:00:00:11 netns "$LAB-m"
  ip -n "$LAB-br" addr add 10.213.0.254/24 dev to-m
  ip -n "$LAB-br" addr add fd13::254/64 dev to-m nodad
  ip -n "$LAB-br" link set to-m up
  [ ! -e "$WORK/root/etc/systemd/system/lab-network.service" ] || return 0
  ip -n "$LAB-m" addr add 10.213.0.11/24 dev host0
  ip -n "$LAB-m" link set host0 up
}

# A cgroup of its own in every hierarchy that is mounted: the machine's systemd
# must not share one with whoever runs this.
groups() { local d; for d in $CG/*/; do [ ! -e "$d/cgroup.procs" ] || echo "${d%/}/$LAB"; done; }
enter_groups() {
  local d p
  for d in $(groups); do
    mkdir -p "$d"
    case $d in */cpuset/*)
      p=$(dirname "$d")
      [ -n "$(cat "$d/cpuset.cpus")" ] || cat "$p/cpuset.cpus" >"$d/cpuset.cpus"
      [ -n "$(cat "$d/cpuset.mems")" ] || cat "$p/cpuset.mems" >"$d/cpuset.mems" ;;
    esac
    echo $BASHPID >"$d/cgroup.procs"
  done
}
leave_groups() {
  local d
  for d in $(groups); do
    for _ in $(seq 40); do
      [ -d "$d" ] || break
      find "$d" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
    done
  done
}

pid1() { # of the machine, as seen from here
  local np c
  np=$(cat "$WORK/nspawn.pid" 2>/dev/null) || return 1
  for c in $(cat "/proc/$np/task/$np/children" 2>/dev/null); do
    [ "$(cat "/proc/$c/comm" 2>/dev/null)" != systemd ] || { echo "$c"; return 0; }
  done
  return 1
}
alive() { kill -0 "$(cat "$WORK/keeper.pid" 2>/dev/null)" 2>/dev/null; }
inside() {
  local l
  l=$(pid1) || { say "the machine is not running"; return 125; }
  nsenter -t "$l" -m -u -i -n -p -C --wdns=/ -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
}

# keep runs the machine, again after each reboot: nspawn ends with 133 then.
# A network namespace keeps its rules over a reboot, a kernel does not: it gets
# a new one.
keep() {
  enter_groups
  trap '' HUP INT
  export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_LOCK=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
  while :; do
    systemd-nspawn -q -D "$WORK/root" -M "$LAB" --hostname=m1 --uuid="$(cat "$WORK/id")" \
      --register=no --keep-unit --boot --network-namespace-path="/run/netns/$LAB-m" \
      --capability=all --console=read-only --resolv-conf=off --timezone=off --link-journal=no \
      $(cat "$WORK/args" 2>/dev/null) </dev/null >>"$WORK/console.log" 2>&1 &
    echo $! >"$WORK/nspawn.pid"
    local rc=0
    wait $! || rc=$?
    [ $rc -eq 133 ] || break
    # A socket of a test may keep the namespace alive, so its cable goes first.
    ip -n "$LAB-br" link del to-m
    ip netns del "$LAB-m"
    network
  done
}

wait_up() { # not the PID 1 that was before
  local old=${1:-} end=$((SECONDS + 90)) l state=
  while [ $SECONDS -lt $end ]; do
    alive || { say "the machine has died"; tail -20 "$WORK/console.log" >&2; return 1; }
    l=$(pid1 || true)
    if [ -n "$l" ] && [ "$l" != "$old" ]; then
      state=$(inside systemctl is-system-running 2>/dev/null || true)
      case $state in
        running) return 0 ;;
        degraded) say "degraded:"; inside systemctl --failed --no-legend --plain >&2 || true; return 0 ;;
      esac
    fi
    sleep 0.1
  done
  say "not up within 90 s, state '$state'"
  tail -20 "$WORK/console.log" >&2
  return 1
}

up() {
  template
  mkdir -p /run/systemd/nspawn "$WORK/upper" "$WORK/work" "$WORK/root"
  mountpoint -q /run/systemd/nspawn || mount -t tmpfs tmpfs /run/systemd/nspawn
  mount -t overlay overlay -o "lowerdir=$TEMPLATE,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
  echo m1 >"$WORK/root/etc/hostname"
  tr -d - </proc/sys/kernel/random/uuid >"$WORK/id"
  echo "${BOOT_ARGS:-}" >"$WORK/args"
  network
  (keep) >/dev/null 2>&1 &
  echo $! >"$WORK/keeper.pid"
  for _ in $(seq 100); do [ ! -s "$WORK/nspawn.pid" ] || break; sleep 0.05; done
  wait_up
}

down() {
  local l np
  if alive; then
    np=$(cat "$WORK/nspawn.pid") l=$(pid1 || true)
    # To systemd: power off (systemd(1), SIGRTMIN+4).
    if [ -n "$l" ]; then kill -s RTMIN+4 "$l" || true; else kill -TERM "$np" || true; fi
    for _ in $(seq 250); do alive || break; sleep 0.1; done
    if alive; then
      [ -z "$l" ] || kill -KILL "$l" 2>/dev/null || true
      sleep 0.5
      kill -KILL "$np" 2>/dev/null || true
    fi
  fi
  ! mountpoint -q "$WORK/root" || umount "$WORK/root"
  for n in "$LAB-m" "$LAB-br"; do ! ip netns list | grep -qw "$n" || ip netns del "$n"; done
  leave_groups
  rm -rf "$WORK"
}

cmd=${1:?see the head of this file}
shift
case $cmd in
  template) template ;;
  up) up ;;
  exec) inside systemd-run --quiet --collect --wait --pipe -p KillMode=control-group -- "$@" ;;
  push) cp "$1" "/proc/$(pid1)/root$2" ;;
  reboot)
    old=$(pid1)
    [ -z "${BOOT_ARGS+set}" ] || echo "$BOOT_ARGS" >"$WORK/args"
    inside systemctl reboot --no-block || true
    wait_up "$old" ;;
  down) down ;;
  *) say "unknown: $cmd"; exit 2 ;;
esac
