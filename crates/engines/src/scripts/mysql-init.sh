# Makes MySQL's data directory. See volume.sh for the frame. Run by hand with MySQL 9.7.4, the only one that
# could be had; not yet with the releases of the catalogue, and not yet in a pod.
#
# Fixed choice: lower_case_table_names=0, which the server keeps for good. Passwords go by a file in memory that only this
# user can read, never in arguments or environment.

main_file=my.cnf
admin=/etc/database/admin

# A string of SQL from standard input: backslashes and quotes doubled.
quoted() { # QUOTE
    printf '%s' "$1"
    sed "s/\\\\/\\\\\\\\/g; s/$1/$1$1/g" | tr -d '\n'
    printf '%s' "$1"
}

make_data() { # DIRECTORY
    for key in username password app-username app-password app-database; do
        case $(cat "$admin/$key") in
        '') refuse "the administrator's Secret has nothing under $key; remake the Secret" ;;
        *[[:cntrl:]]*) refuse "the administrator's Secret has a control character under $key; remake the Secret" ;;
        esac
    done
    mkdir "$1"
    # `--initialize` runs no statements about accounts, so a server without network runs them, and stops by the last one.
    mysqld --no-defaults --initialize-insecure --datadir="$1" --lower-case-table-names=0
    root=$(quoted "'" < "$admin/username")
    user=$(quoted "'" < "$admin/app-username")
    # Within backquotes a backslash stands for itself; the shell shall not expand them.
    # shellcheck disable=SC2016
    database=$(printf '`%s`' "$(sed 's/`/``/g' "$admin/app-database")")
    {
        # The set of transactions of an empty member is empty.
        echo 'SET SESSION sql_log_bin = 0;'
        printf "ALTER USER 'root'@'localhost' IDENTIFIED BY %s;\n" "$(quoted "'" < "$admin/password")"
        printf "RENAME USER 'root'@'localhost' TO %s@'%%';\n" "$root"
        printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$user" "$(quoted "'" < "$admin/app-password")"
        printf 'CREATE DATABASE %s CHARACTER SET utf8mb4;\n' "$database"
        printf "GRANT ALL ON %s.* TO %s@'%%';\n" "$database" "$user"
        # For the probes: may connect through the socket, by the kernel's word, and nothing else.
        printf "CREATE USER 'probe'@'localhost' IDENTIFIED WITH auth_socket AS 'mysql';\n"
        echo 'SHUTDOWN;'
    } > "$run/accounts.sql"
    mysqld --no-defaults --datadir="$1" --lower-case-table-names=0 --skip-networking --mysqlx=OFF --secure-file-priv=NULL \
        --socket="$run/initialise.sock" --pid-file="$run/initialise.pid" --plugin-load-add=auth_socket.so \
        --init-file="$run/accounts.sql"
    rm -f "$run/accounts.sql"
}
