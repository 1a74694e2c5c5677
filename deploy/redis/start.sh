#!/bin/sh
# Starts Redis for one cell. Needs REDISCLI_AUTH, the password that clients give.
set -eu

: "${REDISCLI_AUTH:?lambdock-redis: REDISCLI_AUTH is not set; it is the password, which 'make up' writes to .env}"

# An accepted event must survive a crash. Where WAITAOF exists (7.2) whoever accepts one waits for its own fsync;
# before that, every write is synced.
version=$(redis-server --version | sed -E 's/.* v=([0-9]+)\.([0-9]+).*/\1 \2/')
major=${version% *} minor=${version#* }
if [ "$major" -gt 7 ] || { [ "$major" -eq 7 ] && [ "$minor" -ge 2 ]; }; then fsync=everysec; else fsync=always; fi

# The password by standard input: arguments can be read by every process of the host.
exec redis-server - <<EOF
bind * -::*
port 6379
requirepass $REDISCLI_AUTH
dir /data
appendonly yes
appendfsync $fsync
save ""
maxmemory-policy noeviction
EOF
