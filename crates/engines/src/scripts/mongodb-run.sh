# Starts MongoDB in place of this shell, so that signals reach it. NOT YET RUN against a real server.
#
# The key is made anew at every start: /run/database is in memory. The server has no include, so the files are joined.

run=/run/database
umask 077
export HOME=/tmp
sha256sum < /etc/database/admin/password | cut -c 1-64 > "$run/keyfile"
cat "$run/config/mongod.conf" "$run/config-secret/mongod.conf" > "$run/mongod.conf"
exec mongod --config "$run/mongod.conf"
