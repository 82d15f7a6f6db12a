# Starts PostgreSQL in place of this shell, so that signals reach it. Argument: the major version.
#
# What the probes and Services rely on stands on the command line, which wins over ALTER SYSTEM as well.

PATH=/usr/lib/postgresql/$1/bin:$PATH
# A volume whose group was set anew by the node is group writable, with which PostgreSQL refuses to start.
chmod 0700 /var/lib/database/data
set -- postgres -D /var/lib/database/data \
    -c config_file=/run/database/config/postgresql.conf \
    -c hba_file=/run/database/config/pg_hba.conf \
    -c listen_addresses='*' -c port=5432 -c unix_socket_directories=/run/database
# The last words of a container that fails become its pod's status, for all to read, and PostgreSQL repeats a value that
# it refuses. So where values come from a Secret, it reads its files once before, and only names are passed on.
if [ -d /run/database/config-secret ] && ! said=$("$@" -C port 2>&1); then
    names=$(printf '%s\n' "$said" | sed -n 's/.*parameter "\([^"]*\)".*/\1/p' | sort -u | tr '\n' ' ')
    echo "refused: PostgreSQL does not take what is set for: ${names:-a parameter }(its own words may repeat values of a Secret, and are not shown)" >&2
    exit 1
fi
exec "$@"
