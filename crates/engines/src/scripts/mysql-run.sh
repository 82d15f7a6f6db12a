# Starts MySQL in place of this shell, so that signals reach it. See mysql-init.sh for what it was run with.

printf '[client]\nuser=probe\nsocket=/run/database/mysqld.sock\n' > /run/database/client.cnf
exec mysqld --defaults-file=/run/database/config/my.cnf --plugin-load-add=auth_socket.so
