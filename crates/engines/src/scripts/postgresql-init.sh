# Makes PostgreSQL's data directory. See volume.sh for the frame.
#
# Fixed choices: data checksums (a damaged page is reported, not returned), UTF-8, the C.UTF-8 locale (sorts by code
# point, so an update of the C library never corrupts an index; from 17 on PostgreSQL's own, before that the C library's),
# SCRAM for all passwords. Passwords go by file and by standard input: never in arguments, environment or logs.

# The official image names the directory in its PATH; other images of Debian's layout do not.
PATH=/usr/lib/postgresql/$2/bin:$PATH
main_file=postgresql.conf
admin=/etc/database/admin

# VALUE between a pair of QUOTE, with those in it doubled. The value goes by standard input.
quoted() { # QUOTE
    printf '%s' "$1"
    sed "s/$1/$1$1/g" | tr -d '\n'
    printf '%s' "$1"
}

make_data() { # DIRECTORY
    for key in username password app-username app-password app-database; do
        case $(cat "$admin/$key") in
        '') refuse "the administrator's Secret has nothing under $key; remake the Secret" ;;
        *[[:cntrl:]]*) refuse "the administrator's Secret has a control character under $key; remake the Secret" ;;
        esac
    done
    locale='--locale=C.UTF-8'
    [ "$major" -lt 17 ] || locale="$locale --locale-provider=builtin --builtin-locale=C.UTF-8"
    # The words of $locale are ours.
    # shellcheck disable=SC2086
    initdb --pgdata="$1" --username="$(cat "$admin/username")" --pwfile="$admin/password" \
        --no-instructions --auth-local=peer --auth-host=scram-sha-256 --encoding=UTF8 $locale --data-checksums
    user=$(quoted '"' < "$admin/app-username")
    database=$(quoted '"' < "$admin/app-database")
    # Single-user mode opens no socket. One statement a line; the first that fails ends it, and is not logged itself.
    {
        printf 'CREATE ROLE %s LOGIN PASSWORD %s\n' "$user" "$(quoted "'" < "$admin/app-password")"
        printf 'CREATE DATABASE %s OWNER %s\n' "$database" "$user"
    } | postgres --single -D "$1" -c exit_on_error=on -c log_min_error_statement=panic -c log_statement=none \
        -c standard_conforming_strings=on -c password_encryption=scram-sha-256 postgres > /dev/null
}
