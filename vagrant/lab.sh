#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A laboratory of three hosts as network namespaces: the servers web and db,
# each with its own ripstopd, and a client, on one bridge; one ripstop-server.
#
#   lab.sh up     build it (needs the programs in bin/)
#   lab.sh demo   apply the policies of docs/tutorial and show what gets through
#   lab.sh sh H   a shell on host H (web, db, client)
#   lab.sh down   remove every trace
#
# Everything lives in $LAB (/run/ripstop-lab) and in namespaces rslab-*.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
bin=${RIPSTOP_BIN:-$top/bin}
LAB=${LAB:-/run/ripstop-lab}
prefix=${LAB_PREFIX:-rslab}
hosts="web db client"
declare -A v4=([web]=10.99.0.11 [db]=10.99.0.12 [client]=10.99.0.20)
declare -A v6=([web]=fd99::11 [db]=fd99::12 [client]=fd99::20)
export RIPSTOP_SERVER=unix://$LAB/server/api.sock

say() { echo "lab: $*" >&2; }
on() { ip netns exec "$prefix-$1" "${@:2}"; }

# born PID: when a process began, so that a number used again is not mistaken.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
# alive NAME: is the process still there that spawn started under this name?
alive() {
  local pid since
  read -r pid since <"$LAB/$1.pid" && [ -n "$since" ] && [ "$(born "$pid")" = "$since" ]
}

# A Ctrl-C is obeyed between two steps, never between the start of a process
# and the note of its number.
stop=0
stopped() { [ "$stop" = 0 ] || exit "$stop"; }

spawn() { # NAME COMMAND...: in the background, log and pid kept in $LAB
  local name=$1 pid; shift
  setsid "$@" >"$LAB/$name.log" 2>&1 </dev/null &
  pid=$!
  disown
  echo "$pid $(born "$pid")" >"$LAB/$name.pid"
  stopped
}

wait_for() { # NAME WHAT COMMAND...: until COMMAND succeeds, NAME has ended, or 20 s have gone
  local name=$1 what=$2
  for _ in $(seq 200); do
    stopped
    "${@:3}" >/dev/null 2>&1 && return
    alive "$name" || { say "$what ended; the end of its log:"; tail -n 20 "$LAB/$name.log" >&2; return 1; }
    sleep 0.1
  done
  say "$what is not ready after 20 s; the end of its log:"; tail -n 20 "$LAB/$name.log" >&2
  return 1
}

api_ready() { "$bin/ripstop" get tier default; }
agent_ready() { "$bin/ripstop" status --agent "unix://$LAB/$1/agent.sock" -o json | grep -q '"phase": *"InSync"'; }

host() { # NAME: a namespace with eth0 on the bridge
  ip netns add "$prefix-$1"
  ip -n "$prefix-$1" link add eth0 type veth peer name "$1" netns "$prefix-net"
  ip -n "$prefix-net" link set "$1" master br0 up
  ip -n "$prefix-$1" link set lo up
  ip -n "$prefix-$1" link set eth0 up
  ip -n "$prefix-$1" addr add "${v4[$1]}/24" dev eth0
  ip -n "$prefix-$1" addr add "${v6[$1]}/64" dev eth0 nodad
  stopped
}

serve() { # HOST PORT: answer connections, over IPv4 and IPv6
  for f in 4 6; do spawn "listen-$1-$2-$f" ip netns exec "$prefix-$1" nc "-$f" -lk "$2"; done
}

up() {
  [ "$(id -u)" = 0 ] || { say "needs root, to make network namespaces"; exit 1; }
  for p in ripstop ripstopd ripstop-server; do
    [ -x "$bin/$p" ] || { say "there is no $bin/$p: run 'make build' first"; exit 1; }
  done
  trap 'say "it could not be built; what was begun is removed"; down' EXIT
  trap 'stop=130' INT; trap 'stop=143' TERM
  if [ -e "$LAB" ]; then echo "A laboratory is there already; it is removed first."; down; fi
  mkdir -p "$LAB"; chmod 750 "$LAB"

  echo "Building three hosts on a bridge:"
  ip netns add "$prefix-net"
  ip -n "$prefix-net" link add br0 type bridge
  ip -n "$prefix-net" link set br0 up
  for h in $hosts; do
    printf '  %-7s %-11s %s\n' "$h" "${v4[$h]}" "${v6[$h]}"
    host "$h"
  done
  serve web 80; serve web 8080; serve db 5432

  echo "Starting ripstop-server, and ripstopd on web and on db"
  spawn server "$bin/ripstop-server" --run-dir "$LAB/server" --state-dir "$LAB/server-state"
  wait_for server ripstop-server api_ready
  for h in web db; do
    spawn "$h" ip netns exec "$prefix-$h" "$bin/ripstopd" --role agent --node "$h" \
      --etcd-endpoints "unix://$LAB/server/etcd.sock" --run-dir "$LAB/$h" --state-dir "$LAB/$h-state" --metrics-address ''
  done
  for h in web db; do wait_for "$h" "ripstopd on $h" agent_ready "$h"; done
  stopped
  trap - EXIT INT TERM
  echo "The laboratory is up. Logs are in $LAB."
}

# try FROM TO PORT FAMILY: prints allowed or denied
try() {
  local addr=${v4[$2]}; [ "$4" = 6 ] && addr=${v6[$2]}
  if [ "$3" = ping ]; then set -- "$1" ping "-$4" -c 1 -W 1 "$addr"; else set -- "$1" nc "-$4" -z -w 1 "$addr" "$3"; fi
  if on "$@" >/dev/null 2>&1; then echo allowed; else echo denied; fi
}

wrong=0
expect() { # WANT FROM TO PORT: rules are in force a moment after they are written, so five attempts
  local got f
  for f in 4 6; do
    for _ in 1 2 3 4 5; do got=$(try "$2" "$3" "$4" "$f"); [ "$got" = "$1" ] && break; sleep 0.2; done
    printf '  %-6s -> %-3s  %-9s IPv%s  %s' "$2" "$3" "${4/#[0-9]/tcp ${4:0:1}}" "$f" "$got"
    if [ "$got" = "$1" ]; then echo; else echo "   (should be $1)"; wrong=1; fi
  done
}

demo() {
  api_ready >/dev/null 2>&1 || { say "it is not there: run 'make lab', or vagrant/lab.sh up"; exit 1; }
  "$bin/ripstop" delete -f "$top/docs/tutorial" >/dev/null 2>&1 || true # of a demo before
  echo; echo "Before any policy, everything is let through:"
  expect allowed client web 80
  expect allowed client web 8080
  expect allowed client db 5432
  expect allowed client db ping
  echo; echo "\$ ripstop apply -f docs/tutorial/"
  "$bin/ripstop" apply -f "$top/docs/tutorial"
  echo; echo "With the tutorial's policies:"
  expect allowed client web 80
  expect denied client web 8080
  expect allowed client web ping
  expect denied client db 5432
  expect denied client db ping
  expect allowed web db 5432
  echo; echo "Why can the client not reach the database?"
  echo "\$ ripstop explain tcp from ${v4[client]} to host/db:5432"
  "$bin/ripstop" explain tcp from "${v4[client]}" to host/db:5432
  echo
  if [ "$wrong" != 0 ]; then say "not everything is as it should be; logs are in $LAB, 'make lab-down' removes all"; exit 1; fi
  echo "All as it should be. Look around yourself:"
  echo "  vagrant/lab.sh sh web     a shell on web (or db, client), with ripstop in its PATH"
  echo "  make lab-down             remove the laboratory"
}

shell() {
  case " $hosts " in *" ${1:-} "*) ;; *) say "which host? one of: $hosts"; exit 2 ;; esac
  [ -e "/run/netns/$prefix-$1" ] || { say "it is not there: run 'make lab', or vagrant/lab.sh up"; exit 1; }
  exec ip netns exec "$prefix-$1" env PATH="$bin:$PATH" RIPSTOP_AGENT="unix://$LAB/$1/agent.sock" PS1="$1# " bash --norc -i
}

down() {
  local f pid since
  for f in "$LAB"/*.pid; do
    [ -e "$f" ] || continue
    read -r pid since <"$f" || continue
    if alive "$(basename "$f" .pid)"; then kill "$pid" 2>/dev/null || true; fi
  done
  for f in "$LAB"/*.pid; do
    [ -e "$f" ] || continue
    for _ in $(seq 100); do alive "$(basename "$f" .pid)" || break; sleep 0.1; done
    if alive "$(basename "$f" .pid)"; then read -r pid since <"$f"; kill -9 "$pid" 2>/dev/null || true; fi
  done
  for h in $hosts net; do
    [ -e "/run/netns/$prefix-$h" ] || continue
    for pid in $(ip netns pids "$prefix-$h"); do kill -9 "$pid" 2>/dev/null || true; done # shells and the like
    ip netns del "$prefix-$h"
  done
  rm -rf "$LAB"
  echo "The laboratory is gone."
}

case ${1:-} in
  up) up ;;
  demo) demo ;;
  down) down ;;
  sh) shell "${2:-}" ;;
  *) sed -n '3,11p' "$0" | sed 's/^# \{0,1\}//'; exit 2 ;;
esac
