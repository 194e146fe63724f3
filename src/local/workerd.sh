#!/bin/sh
# Stands in for the workerd binary (MINIFLARE_WORKERD_PATH). workerd reads no lifeline: it would
# outlive a gateway host that dies by SIGKILL and keep its port. So its end is tied to its parent's
# here, and its process id (kept over exec) is written down for the supervisor.
#   ARCANA_WORKERD_BINARY    the real binary
#   ARCANA_WORKERD_PID_FILE  where the process id goes
#   ARCANA_WORKERD_SOCKETS   the folder of its sockets, which only their owner may enter
# Miniflare would have workerd listen on ports and ask a port of the host, for whoever is on this
# machine; here they become sockets of that folder.
umask 077
for arg do
  shift
  case $arg in
    --socket-addr=entry=*) arg="--socket-addr=entry=unix:$ARCANA_WORKERD_SOCKETS/entry" ;;
    --external-addr=loopback=*) arg="--external-addr=loopback=unix:$ARCANA_WORKERD_SOCKETS/loopback" ;;
    --socket-addr=* | --external-addr=* | --inspector-addr=* | --debug-port=*)
      echo "workerd.sh: $arg would open a port" >&2
      exit 1
      ;;
  esac
  set -- "$@" "$arg"
done
# What a predecessor has left; workerd does not listen on a path that exists.
rm -f "$ARCANA_WORKERD_SOCKETS/entry" "$ARCANA_WORKERD_SOCKETS"/*:0
echo $$ >"$ARCANA_WORKERD_PID_FILE"
if setpriv --pdeathsig KILL true 2>/dev/null; then
  # Linux: the kernel sends the signal.
  exec setpriv --pdeathsig KILL "$ARCANA_WORKERD_BINARY" "$@"
fi
# Elsewhere: a watcher looks once a second.
parent=$PPID
self=$$
(
  while kill -0 "$parent" && kill -0 "$self"; do sleep 1; done
  kill -9 "$self"
) </dev/null >/dev/null 2>&1 3>&- &
exec "$ARCANA_WORKERD_BINARY" "$@"
