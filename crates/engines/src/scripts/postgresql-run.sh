# Starts PostgreSQL in place of this shell, so that signals reach it. Argument: the major version.
#
# What the probes and Services rely on stands on the command line, which wins over ALTER SYSTEM as well.

PATH=/usr/lib/postgresql/$1/bin:$PATH
# A volume whose group was set anew by the node is group writable, with which PostgreSQL refuses to start.
chmod 0700 /var/lib/database/data
exec postgres -D /var/lib/database/data \
    -c config_file=/run/database/config/postgresql.conf \
    -c hba_file=/run/database/config/pg_hba.conf \
    -c listen_addresses='*' -c port=5432 -c unix_socket_directories=/run/database
