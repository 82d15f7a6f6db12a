# Starts Redis in place of this shell, so that signals reach it.
#
# The users are rendered from the administrator's Secret at every start, which is what makes a remade Secret effective.
# Only hashes are written; printf is the shell's own, so no password stands in an argument or in the environment.

admin=/etc/database/admin
run=/run/database
umask 077

word() { # KEY: a value that can stand in a line of the file
    value=$(cat "$admin/$1")
    case $value in
    '' | *[[:space:][:cntrl:]]*)
        echo "refused: the administrator's Secret has nothing, or a space, under $1; remake the Secret" >&2
        exit 1
        ;;
    esac
    printf '%s' "$value"
}

hash() { # KEY
    value=$(cat "$admin/$1")
    [ -n "$value" ] || {
        echo "refused: the administrator's Secret has nothing under $1; remake the Secret" >&2
        exit 1
    }
    sum=$(printf '%s' "$value" | sha256sum)
    printf '%s' "${sum%% *}"
}

name=$(word username)
app=$(word app-username)
secret=$(hash password)
app_secret=$(hash app-password)
{
    # Without this, a client without a password would be let in as the default user.
    [ "$name" = default ] || echo 'user default off'
    echo "user $name on #$secret ~* &* +@all"
    # Everything with its own data, nothing with the server.
    echo "user $app on #$app_secret ~* &* +@all -@admin"
} > "$run/users.acl"
# For the probes: the password with which this server was started, whatever the Secret says by then.
printf '%s' "$(cat "$admin/password")" > "$run/password"
printf '%s' "$name" > "$run/username"
# The last words of a container that fails become its pod's status, for all to read, and Redis repeats a line that it
# refuses. So where values come from a Secret, it reads its file once before, with nowhere to listen, at which it ends;
# and only names are passed on.
if [ -d "$run/config-secret" ]; then
    said=$(timeout 10 redis-server "$run/config/redis.conf" --port 0 --unixsocket '' 2>&1) || :
    case $said in
    *'FATAL CONFIG FILE ERROR'*)
        names=$(printf '%s\n' "$said" | sed -n "s/^>>> '\([^ ']*\).*/\1/p" | tr '\n' ' ')
        echo "refused: Redis does not take what is set for: ${names:-a parameter }(its own words may repeat values of a Secret, and are not shown)" >&2
        exit 1
        ;;
    esac
fi
exec redis-server "$run/config/redis.conf"
