# The start of every pod, after the engine's own functions: what is the same for all engines.
#
# Expects `make_data DIRECTORY`, which fills an empty directory with a complete, cleanly stopped data set.
# Arguments: the engine and its major version. Environment: INPUTS, the hash that this pod was made for.
#
# Lines that begin with `refused:` need a person, those with `waiting:` pass by themselves (`engines::refusal`).

engine=$1
major=$2
volume=/var/lib/database
data=$volume/data
unfinished=$volume/data.initialising
mark=$volume/lineage
config=/etc/database/config
config_secret=/etc/database/config-secret
run=/run/database
umask 077

refuse() {
    echo "refused: $1" >&2
    exit 1
}

# A copy of the configuration for the life of the pod: a container that crashes starts again with what its pod was made
# for, also when the mounted files have moved on. `inputs` goes first: whatever is copied after it is as new or newer.
copy_configuration() { # FROM TO
    rm -rf "$2"
    mkdir -p "$2"
    cp -L "$1/inputs" "$2/inputs"
    if [ "$(cat "$2/inputs")" != "$INPUTS" ]; then
        # Long enough for the node to hear of the change; it mounts anew before it tries again.
        sleep 1
        echo "waiting: the mounted configuration is not the one that this pod was made for; trying again" >&2
        exit 1
    fi
    for file in "$1"/*; do
        # Forced: the mounted files, and so their copies, are read-only, and `inputs` is there already.
        cp -fL "$file" "$2/"
    done
}

copy_configuration "$config" "$run/config"
if [ -e "$config_secret/inputs" ]; then
    copy_configuration "$config_secret" "$run/config-secret"
else
    # The engine's file includes this one, so it is always there.
    rm -rf "$run/config-secret"
    mkdir -p "$run/config-secret"
    : > "$run/config-secret/$main_file"
fi

lineage=$(cat /etc/database/admin/lineage)
[ -n "$lineage" ] || refuse "the administrator's Secret has nothing under lineage; restore the Secret"
ours="$engine $major $lineage"
compare() { # MARK
    theirs=$(cat "$1")
    [ "$theirs" = "$ours" ] ||
        refuse "the volume holds \"$theirs\" (engine, major version, lineage), but this Database is \"$ours\"; nothing on it was touched: give the Database a volume of its own, or restore the Secret and version that this one belongs to"
}

# Crash safe by this order: fill a temporary directory, write the mark under a temporary name, rename the directory, rename
# the mark; each is on disk before the next begins. Only temporary names are ever removed.
if [ -e "$data" ]; then
    if [ -e "$mark" ]; then
        compare "$mark"
    elif [ -e "$mark.initialising" ]; then
        compare "$mark.initialising"
        mv "$mark.initialising" "$mark"
        sync -f "$volume"
    else
        refuse "the volume has a data directory without a mark that says whose it is; nothing on it was touched: give the Database a volume of its own"
    fi
    exit 0
fi
[ ! -e "$mark" ] ||
    refuse "the volume is marked \"$(cat "$mark")\", but its data directory is gone; nothing was made in its place: restore the volume, or give the Database a new one"

rm -rf "$unfinished" "$mark.initialising"
make_data "$unfinished"
echo "$ours" > "$mark.initialising"
sync -f "$volume"
mv "$unfinished" "$data"
sync -f "$volume"
mv "$mark.initialising" "$mark"
sync -f "$volume"
